"""Laws of masked pretraining: what the encoder sees, what the loss is, and where the weights can be loaded."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from packaging.version import Version
from tiny_models import TINY_TUBES, make_model, tiny_clips, tiny_config
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from transformers import AutoModel, AutoModelForPreTraining, Trainer, TrainingArguments
from transformers.initialization import no_init_weights

from tubevit import TubeViTConfig, TubeViTForPreTraining, TubeViTForVideoClassification, TubeViTModel
from tubevit.presets import TUBES
from tubevit.tube_masking import SeededMasks, check_masks, choose_masked, count_visible, find_targets, split_tokens
from tubevit.tubes import Tube


OWNER = SimpleNamespace(table_settings=())
# Of 8 frames of 32x32. Tubes apart from each other, and tubes that overlap within a cell, beyond its border, and by space-to-depth whose last
# application does not fit.
APART = [
    {"kernel_size": [4, 4, 4], "stride": [4, 8, 8]},
    {"kernel_size": [2, 4, 4], "stride": [3, 8, 8], "offset": [0, 4, 4]},
]
OVERLAPPING = [
    *TINY_TUBES,
    {"kernel_size": [3, 6, 6], "stride": [2, 8, 8], "offset": [1, 5, 5]},
    {"kernel_size": [2, 4, 4], "stride": [4, 8, 8], "offset": [1, 0, 0], "space_to_depth": [2, 1, 2]},
]
TUBE_SETS = {"apart": APART, "overlapping": OVERLAPPING}


def pixels_read(config: TubeViTConfig, size: tuple[int, int, int]) -> np.ndarray:
    """Whether a token reads a pixel, `(tokens, *size)`, by plain loops."""
    tables = []
    for tube in config.get_tubes():
        for token in np.ndindex(*tube.grid(size)):
            table = np.zeros(size, dtype=bool)
            for part in np.ndindex(*tube.space_to_depth):
                starts = [
                    tube.offset[axis]
                    + token[axis] * tube.stride[axis]
                    + part[axis] * tube.stride[axis] // tube.space_to_depth[axis]
                    for axis in range(3)
                ]
                ends = [start + kernel for start, kernel in zip(starts, tube.kernel_size, strict=True)]
                if all(end <= extent for end, extent in zip(ends, size, strict=True)):
                    table[tuple(slice(*pair) for pair in zip(starts, ends, strict=True))] = True
            tables.append(table)
    return np.stack(tables)


def masks_of(config: TubeViTConfig, seeds=(0, 1), size=(8, 32, 32)) -> torch.Tensor:
    return SeededMasks(tuple(config.get_tubes()), size, config.mask_ratio)(seeds)


def plain_targets(config: TubeViTConfig, mask: np.ndarray, reads: np.ndarray) -> np.ndarray:
    """The masked tokens that share no pixel with a visible token of the clip."""
    seen = reads[~mask].any(axis=0)
    return mask & ~(reads & seen).any(axis=(1, 2, 3))


@pytest.mark.parametrize("tubes", TUBE_SETS.values(), ids=TUBE_SETS)
def test_pixels_of_targets_never_reach_the_encoder(tubes):
    model = make_model(TubeViTForPreTraining, tubes=tubes, image_size=32, mask_ratio=0.7).double()
    config, clips = model.config, tiny_clips(size=32, dtype=torch.float64)
    mask, reads = masks_of(config), pixels_read(config, (8, 32, 32))
    before = model(clips, mask)
    changed = clips.clone()
    for index in range(len(clips)):
        targets = plain_targets(config, mask[index].numpy(), reads)
        assert targets.sum() > 2 and (tubes is OVERLAPPING) == (targets.sum() < mask[index].sum())
        hidden = torch.from_numpy(reads[targets].any(axis=0))  # (frames, height, width)
        changed[index] = torch.where(hidden[:, None], clips[index].flip(-1) + 3, changed[index])
        assert torch.equal(
            find_targets(mask[index : index + 1], OWNER, (8, 32, 32), tuple(config.get_tubes()))[0],
            torch.from_numpy(targets),
        )
    after = model(changed, mask)
    assert torch.equal(before.logits, after.logits) and (before.clip_losses != after.clip_losses).all()
    seen = torch.from_numpy(reads[~mask[0].numpy()][0])
    clips[0] += 5 * seen[:, None]
    assert not torch.equal(model(clips, mask).logits[0], before.logits[0])


def blocks(values: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
    """Means of `(frames, rows, columns)` over a grid, as adaptive average pooling divides it."""
    means = np.empty(grid)
    for cell in np.ndindex(*grid):
        part = [
            slice(index * extent // number, -(-(index + 1) * extent // number))
            for index, extent, number in zip(cell, values.shape, grid, strict=True)
        ]
        means[cell] = values[tuple(part)].mean()
    return means


def read_token(clip: np.ndarray, tube: Tube, token: tuple, is_difference: bool) -> np.ndarray:
    """What a token reads of a clip `(frames, channels, height, width)`: `(channels, frames, rows, columns)`; zeros where it does not fit."""
    size, kernel = (clip.shape[0], *clip.shape[2:]), tube.kernel_size
    volume = np.zeros((clip.shape[1], *(k * f for k, f in zip(kernel, tube.space_to_depth, strict=True))))
    for part in np.ndindex(*tube.space_to_depth):
        start = [tube.offset[a] + token[a] * tube.stride[a] + part[a] * tube.kernel_stride[a] for a in range(3)]
        if any(start[a] + kernel[a] > size[a] for a in range(3)):
            continue
        (t, y, x), (kt, kh, kw) = start, kernel
        pixels = clip[t : t + kt, :, y : y + kh, x : x + kw].transpose(1, 0, 2, 3)
        if is_difference:
            changes = np.abs(np.diff(pixels, axis=1))
            pixels = np.concatenate([changes[:, :1], changes], axis=1) if kt > 1 else np.zeros_like(pixels)
        place = [slice(part[a] * kernel[a], (part[a] + 1) * kernel[a]) for a in range(3)]
        volume[(slice(None), *place)] = pixels
    return volume


@pytest.mark.parametrize("is_raw", [True, False])
@pytest.mark.parametrize("target", ["pixels", "differences"])
def test_the_loss_equals_a_plain_reference(target, is_raw):
    model = make_model(
        TubeViTForPreTraining,
        tubes=OVERLAPPING,
        image_size=32,
        mask_ratio=0.7,
        mask_target=target,
        image_std=[0.3, 0.5, 0.7],
    ).double()
    config = model.config
    raw = tiny_clips(size=32, dtype=torch.uint8)
    std, mean = (
        torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (config.image_std, config.image_mean)
    )
    pixels = raw.double() / 255
    outputs = model(raw if is_raw else (pixels - mean) / std, masks_of(config))
    reads, expected = pixels_read(config, (8, 32, 32)), []
    for clip, mask, logits in zip(
        pixels.numpy(), masks_of(config).numpy(), outputs.logits.detach().numpy(), strict=True
    ):
        tokens, spans = [], []
        for tube in config.get_tubes():
            for token in np.ndindex(*tube.grid((8, 32, 32))):
                volume = read_token(clip, tube, token, target == "differences")
                grid = (1, 8, 8) if volume.shape[1] == 1 else (4, 4, 4)
                tokens.append(np.stack([blocks(channel, grid).ravel() for channel in volume]))
                spans.append(tube.kernel_size[0] > 1)
        values, spans = np.stack(tokens), np.array(spans)  # (tokens, 3, 64)
        counted = plain_targets(config, mask, reads)
        if target == "pixels":
            values = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-4)
        else:
            values = (values - values[spans].mean()) / math.sqrt(values[spans].var() + 1e-4)
            counted &= spans
        errors = ((logits - values[mask].reshape(mask.sum(), -1)) ** 2).mean(-1)
        expected.append(errors[counted[mask]].mean())
    # Raw pixels are targets in float32.
    torch.testing.assert_close(outputs.clip_losses, torch.tensor(expected), rtol=1e-5 if is_raw else 1e-9, atol=0)
    torch.testing.assert_close(outputs.loss, outputs.clip_losses.mean())


def test_features_are_normalized_targets():
    model = make_model(TubeViTForPreTraining, tubes=APART, image_size=32, mask_target="features").double()
    clips, mask = tiny_clips(size=32, dtype=torch.float64), masks_of(model.config)
    features = make_model(TubeViTModel, model.config, seed=1).double()(clips).last_hidden_state.detach()
    outputs = model(clips, mask, target_features=3 * features + 1)
    targets = (features - features.mean(-1, keepdim=True)) / (features.var(-1, keepdim=True, correction=0)).sqrt()
    errors = [
        (logits - each[rows]).square().mean(-1)
        for logits, each, rows in zip(outputs.logits, targets, mask, strict=True)
    ]
    torch.testing.assert_close(outputs.clip_losses, torch.stack([each.mean() for each in errors]), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_cls_token": True, "num_register_tokens": 2, "pooling": "cls_registers"},
        {"position_embedding": "relative"},
        {"position_embedding": "transfer", "rope_theta": 100.0, "num_attention_heads": 3, "use_cls_token": True},
    ],
    ids=["fixed", "prefix", "relative", "rotary"],
)
def test_visible_tokens_are_encoded_as_if_the_others_did_not_exist(fields):
    """The reference encodes all tokens with a bias that hides the masked ones as keys."""
    model = make_model(TubeViTModel, image_size=32, attn_implementation="eager", **fields).double()
    clips, mask = tiny_clips(size=32, dtype=torch.float64), masks_of(model.config)
    found = model(clips, bool_masked_pos=mask).last_hidden_state
    assert torch.equal(found, model(clips, bool_masked_pos=mask.long()).last_hidden_state)
    hidden = model.embeddings(pixel_values_videos=clips)
    rotary, bias = (each(hidden, None, clips) for each in (model.embeddings.rotary, model.embeddings.attention_bias))
    visible = torch.cat((torch.ones(2, model.config.num_prefix_tokens, dtype=torch.bool), ~mask), dim=1)
    hides = torch.where(visible, 0.0, -math.inf).double()[:, None, None]
    for layer in model.layers:
        hidden = layer(hidden, rotary, hides if bias is None else hides + bias)
    expected = model.layernorm(hidden)[visible].unflatten(0, (2, -1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_masks_are_columns_of_the_frame():
    tubes, size = tuple(TubeViTConfig().get_tubes()), (32, 224, 224)
    draw = SeededMasks(tubes, size, 0.8)
    masks = draw(range(16))
    assert (masks.sum(1) == 539 - count_visible(539, 0.8)).all() and count_visible(539, 0.8) == 108
    per_cell = torch.zeros(16, 49).scatter_add_(1, draw.cells.expand(16, -1), masks.float())
    assert ((per_cell == 0) | (per_cell == 11)).sum(1).min() == 48  # one cell of each clip is masked in part
    assert len({tuple(row) for row in per_cell.tolist()}) == 16
    assert torch.equal(masks[3:5], draw([3, 4]))  # a mask depends on its seed only
    assert draw.fraction_of_targets() > 0.99
    assert 0.62 < draw.fraction_of_targets(only_3d=True) < 0.65  # 4 of 11 tokens are of 2D tubes
    # Masked independently of each other, a quarter of the masked tokens shares a pixel with a visible one.
    noise = torch.rand(16, 539, generator=torch.Generator().manual_seed(0))
    independent = choose_masked(torch.arange(539), noise, torch.zeros_like(noise), 0.8)
    assert 0.7 < float(find_targets(independent, OWNER, size, tubes).sum() / independent.sum()) < 0.8
    dense = SeededMasks((Tube((2, 16, 16), (2, 16, 16)),), (16, 64, 64), 0.75)
    assert torch.equal(dense([0]).view(8, 16), dense([0]).view(8, 16)[:1].expand(8, -1))  # VideoMAE's tube masking
    assert (
        SeededMasks(
            tuple(Tube.from_dict(each) for each in TUBES["charades"]), (128, 224, 224), 0.8
        ).fraction_of_targets()
        > 0.8
    )


@pytest.mark.parametrize("pooling", ["attention", "mean", "cls"])
def test_every_parameter_gets_a_gradient(pooling):
    model = make_model(TubeViTForPreTraining, pooling=pooling).train()
    torch.manual_seed(0)
    model(tiny_clips()).loss.backward()
    for name, parameter in model.named_parameters():
        if not name.endswith("k_proj.bias"):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_checkpoints_load_as_every_class(tmp_path):
    model = make_model(TubeViTForPreTraining, mask_ratio=0.6, mask_target="differences")
    model.save_pretrained(tmp_path)
    loaded, report = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is TubeViTForPreTraining and not any(report.values())
    clips = tiny_clips()
    torch.manual_seed(3)
    expected = model(clips)
    torch.manual_seed(3)
    found = loaded(clips)
    assert torch.equal(found.loss, expected.loss) and torch.equal(found.bool_masked_pos, expected.bool_masked_pos)
    assert not torch.equal(loaded(clips).bool_masked_pos, found.bool_masked_pos)  # masked anew
    classifier, report = TubeViTForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {key.split(".")[0] for key in report["unexpected_keys"]} == {"decoder"}
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    backbone, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    for each in (classifier.tubevit, backbone):
        assert torch.equal(each(clips).pooler_output, model.tubevit(clips).pooler_output)
    with pytest.raises(ValueError, match="this is a TubeViTForPreTraining"):
        model.save_pretrained(tmp_path / "code", with_code=True)


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.13"), reason="torch 2.12 cannot trace the selection of visible tokens"
)
def test_compiled_equals_eager():
    model = make_model(
        TubeViTForPreTraining,
        image_size=32,
        num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        tubes=TINY_TUBES[1:],
        mask_target="differences",
    ).double()
    clips, mask = tiny_clips(size=32, dtype=torch.float64), masks_of(model.config)
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # the trace is ours, the compiler is torch's
    expected = model(clips, mask)
    expected.loss.backward()
    gradient, model.tubevit.embeddings.projections[0].weight.grad = (
        model.tubevit.embeddings.projections[0].weight.grad,
        None,
    )
    found = compiled(clips, mask)
    found.loss.backward()
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(model.tubevit.embeddings.projections[0].weight.grad, gradient)


def test_attention_backends_and_checkpointing_agree():
    model, clips = make_model(TubeViTForPreTraining, image_size=32).train(), tiny_clips(size=32)
    mask, losses = masks_of(model.config), []
    for backend in ("eager", "sdpa", "checkpointing"):
        if backend == "checkpointing":
            model.activation_checkpointing_enable()
        else:
            model.set_attn_implementation(backend)
            assert model.decoder.decoder_layers[0].attention.config._attn_implementation == backend
        outputs = model(clips, mask)
        model.zero_grad()
        outputs.loss.backward()
        losses.append((outputs.loss, model.decoder.mask_tokens.grad.norm()))
    for each in losses[1:]:
        torch.testing.assert_close(each, losses[0], rtol=1e-4, atol=1e-5)
    outputs = model(clips, mask, output_hidden_states=True)
    assert [state.shape[1] for state in outputs.hidden_states] == [int((~mask[0]).sum())] * 3


def test_accumulated_batches_train_as_one(tmp_path):
    samples = [
        {"pixel_values_videos": clip, "bool_masked_pos": mask}
        for clip, mask in zip(tiny_clips(8), masks_of(tiny_config(), range(8), (8, 16, 16)), strict=True)
    ]
    weights = []
    for batch_size, accumulation in ((4, 1), (2, 2)):
        model = make_model(TubeViTForPreTraining)
        arguments = TrainingArguments(
            tmp_path / str(accumulation), per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, max_steps=2, optim="sgd",
            learning_rate=0.1, max_grad_norm=0, train_sampling_strategy="sequential", use_cpu=True, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=samples).train()
        weights.append(model.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_other_strides_keep_the_weights():
    model = make_model(TubeViTForPreTraining, interpolate_kernels=True, interpolated_kernel_size=[4, 4, 4])
    finer = [{**tube, "stride": [2, 4, 4]} for tube in TINY_TUBES]
    model.set_tubes(finer)
    masked = model(tiny_clips()).bool_masked_pos
    assert (
        masked.shape[1] == model.config.num_tokens() > 20
        and masked.sum(1).tolist() == [round(0.8 * masked.shape[1])] * 2
    )
    with pytest.raises(ValueError, match="a mask token for each of its 3 tubes"):
        model.set_tubes([*finer, finer[0]])


WRONG_NUMBERS = {
    0: "num_visible_tokens must be a whole number from 1 to 19, because a clip has 20 tube tokens, got 0",
    -3: "got -3",
    20: "got 20",
    4.0: "got 4.0",
    True: "got True",
    5: "num_visible_tokens=5, but bool_masked_pos leaves 4 tokens visible",
}


@pytest.mark.parametrize(("number", "message"), WRONG_NUMBERS.items())
def test_a_wrong_number_of_visible_tokens_is_refused(number, message):
    model, clips = make_model(TubeViTForPreTraining), tiny_clips()
    mask = masks_of(model.config, size=(8, 16, 16))
    assert torch.equal(model(clips, mask, num_visible_tokens=4).loss, model(clips, mask).loss)
    for each in (model, model.tubevit):
        with pytest.raises(ValueError) as error:
            each(clips, bool_masked_pos=mask, num_visible_tokens=number)
        assert message in str(error.value) and "\n" not in str(error.value)
        with pytest.raises(ValueError, match="has no effect without bool_masked_pos"):
            each(clips, num_visible_tokens=4)


class VisibleTokens(torch.nn.Module):
    """Indices of the visible tokens, whose number is that of the rows of a tensor."""

    def forward(self, masks, rows):
        return split_tokens(masks, check_masks(masks, (2, 20), 4, rows.shape[0]))[0]


def test_a_number_that_follows_from_a_shape_is_exported():
    masks = {number: torch.arange(20).expand(2, 20) >= number for number in (4, 6)}
    dynamic = {"masks": None, "rows": {0: torch.export.Dim.DYNAMIC}}
    given = (masks[4], torch.zeros(4))
    exported = torch.export.export(VisibleTokens(), given, dynamic_shapes=dynamic, strict=False).module()
    for number, each in masks.items():
        assert torch.equal(exported(each, torch.zeros(number)), torch.arange(number).expand(2, -1))


def test_no_step_waits_for_a_gpu_if_the_number_is_stated():
    """Under `FakeTensorMode` reading a value of a GPU raises an error. The test needs no GPU."""
    with no_init_weights(), FakeTensorMode(), torch.device("cuda"):
        model = TubeViTForPreTraining(tiny_config(mask_target="differences")).train()
        clips, mask = torch.zeros(2, 8, 3, 16, 16, dtype=torch.uint8), torch.zeros(2, 20, dtype=torch.bool)
        assert model(clips, mask, num_visible_tokens=4).loss.device.type == "cuda"
        with pytest.raises(DataDependentOutputException):
            model(clips, mask)


ERRORS = {
    "bool_masked_pos must be (batch, tube tokens) = (2, 20), got (2, 19)": {
        "mask": torch.ones(2, 19, dtype=torch.bool)
    },
    "same number of masked tokens, and bool_masked_pos masks from 3 to 4 of 20": {
        "mask": torch.arange(20).expand(2, -1) < torch.tensor([[3], [4]])
    },
    "must mask some and not all of the 20 tokens, and masks 20": {"mask": torch.ones(2, 20, dtype=torch.bool)},
    "mask_target='pixels' takes no target_features": {"target_features": torch.ones(2, 20, 24)},
    "mask_target='features' needs target_features": {"config": {"mask_target": "features"}},
    "target_features must be (2, 20, 24), got (2, 20, 8)": {
        "config": {"mask_target": "features"},
        "target_features": torch.ones(2, 20, 8),
    },
    "pixel_values_videos must have 5 axes": {"clips": torch.zeros(8, 3, 16, 16)},
    "a frame of 16x16 is one column": {"config": {"tubes": [{"kernel_size": [2, 4, 4], "stride": [2, 16, 16]}]}},
    "needs a tube whose kernel spans several frames": {
        "config": {"mask_target": "differences", "tubes": TINY_TUBES[2:]}
    },
    "mask_ratio must be above 0 and below 1, got 1": {"config": {"mask_ratio": 1}},
    "mask_target": {"config": {"mask_target": "words"}},
    "decoder_hidden_size must be a multiple of decoder_num_attention_heads, got 50 and 3": {
        "config": {"decoder_hidden_size": 50}
    },
    "does not work with pooling='grid'": {"config": {"pooling": "grid", "pooling_grid": [2, 2, 2]}},
    "has no heads": {"config": {"heads": {"a": {"modality": "video", "num_labels": 2}}}},
}


@pytest.mark.parametrize(("message", "case"), ERRORS.items())
def test_errors_are_one_line(message, case):
    with pytest.raises(ValueError) as error:
        model = make_model(TubeViTForPreTraining, **case.get("config", {}))
        mask = case.get("mask", None)
        model(case.get("clips", tiny_clips()), mask, target_features=case.get("target_features"))
    assert message in str(error.value) and "\n" not in str(error.value)
