"""Conversion of image checkpoints: an image gives the source model's outputs, and the report lists every tensor."""

import pytest
import torch
from small_image_models import SOURCES, make_source, source_outputs
from tiny_models import tiny_clips
from transformers import AutoModel, AutoModelForVideoClassification, ViTConfig, ViTImageProcessor, ViTModel
from transformers.models.dinov3_vit import modeling_dinov3_vit
from transformers.utils.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from tubevit import (
    TubeViTForImageClassification,
    TubeViTForJointClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
    source_checkpoints,
)


TUBES = [{"kernel_size": [4, 4, 4], "stride": [4, 8, 8]}, {"kernel_size": [2, 6, 6], "stride": [4, 16, 16]}]


def convert(tmp_path, name: str, model_class=None, dtype=torch.float32, **choices):
    """Save a source model, convert it, and return both models and the report."""
    source = make_source(name).to(dtype)
    source.save_pretrained(tmp_path / "source")
    if model_class is None:
        model_class = TubeViTForImageClassification if SOURCES[name].is_classifier else TubeViTModel
    choices = {"tubes": TUBES, "num_frames": 8, **choices}
    model, report = model_class.from_image_checkpoint(tmp_path / "source", output_report=True, **choices)
    return source, model, report


def random_images(model, dtype=torch.float32, size=None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    height, width = size or model.config.image_height_width
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64).to(dtype)


def assert_same_answers(source, model, images, atol: float, **kwargs):
    expected = source_outputs(source, images, **kwargs)
    ours = model(pixel_values=images)
    if hasattr(ours, "logits"):
        torch.testing.assert_close(ours.logits, expected.logits, rtol=0, atol=atol)
        return
    torch.testing.assert_close(ours.last_hidden_state, expected.last_hidden_state, rtol=0, atol=atol)
    if expected.pooler_output is not None:
        torch.testing.assert_close(ours.pooler_output, expected.pooler_output, rtol=0, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("name", SOURCES)
def test_image_gives_the_features_and_logits_of_the_source(name, tmp_path, monkeypatch):
    source, model, _ = convert(tmp_path, name)
    assert_same_answers(source, model, random_images(model), atol=1e-5)
    # Transformers computes patch coordinates in float32 for every dtype of the model.
    places = modeling_dinov3_vit.get_patches_center_coordinates
    monkeypatch.setattr(
        modeling_dinov3_vit,
        "get_patches_center_coordinates",
        lambda rows, columns, dtype, device: places(rows, columns, dtype=torch.float64, device=device),
    )
    source, model, _ = convert(tmp_path, name, dtype=torch.float64)
    assert model.dtype == torch.float64
    assert_same_answers(source, model, random_images(model, torch.float64), atol=1e-10)


@pytest.mark.parametrize("positions", ["transfer", "fixed"])
@pytest.mark.parametrize("name", SOURCES)
def test_report_lists_every_tensor_once(name, positions, tmp_path):
    source, model, report = convert(tmp_path, name, positions=positions)
    assert len(report.source) == len(source.state_dict())
    assert len({parameter.data_ptr() for parameter in model.parameters()}) == len(list(model.parameters()))
    assert set(report.target) == set(model.state_dict())
    used = {target for entry in report.source.values() for target in entry["targets"]}
    assert used == {target for target, entry in report.target.items() if entry["state"] != "new"}
    for entry in report.source.values():
        assert bool(entry["targets"]) == (entry["state"] != "unused")
        assert entry["how"] or entry["state"] != "unused"
    assert {entry["state"] for entry in report.target.values()} <= {"copied", "transformed", "new"}
    own = {key.removeprefix("vision_model.").removeprefix("vit."): value for key, value in source.state_dict().items()}
    own |= dict(source.state_dict())
    for target, entry in report.target.items():
        if entry["state"] == "copied":
            (name,) = entry["sources"]
            assert torch.equal(model.state_dict()[target].flatten(), own[name].flatten()), target
    text = str(report)
    assert "layers.*." in text and all(f"{state}:" in text for state in {e["state"] for e in report.source.values()})
    assert report.to_dict()["source"].keys() == report.source.keys()


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "deit distilled", "dinov2 registers", "dinov3 gated", "clip", "siglip2"])
def test_save_and_load_give_the_same_model(name, tmp_path):
    _, model, _ = convert(tmp_path, name)
    model.save_pretrained(tmp_path / "tubevit")
    auto = AutoModel if isinstance(model, TubeViTModel) else AutoModelForVideoClassification
    loaded, info = auto.from_pretrained(tmp_path / "tubevit", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.to_dict() == auto.from_pretrained(tmp_path / "tubevit").config.to_dict()
    clips = torch.randn(2, 8, 3, *model.config.image_height_width)
    own = type(model).from_pretrained(tmp_path / "tubevit")
    assert all(torch.equal(value, own.state_dict()[key]) for key, value in model.state_dict().items())
    backbone = getattr(model, "tubevit", model)
    expected = backbone(pixel_values_videos=clips).pooler_output
    loaded = getattr(loaded, "tubevit", loaded)
    assert torch.equal(loaded(pixel_values_videos=clips).pooler_output, expected)


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2 swiglu", "dinov3", "clip vision", "siglip vision", "siglip2"])
def test_videos_give_every_parameter_a_gradient(name, tmp_path):
    _, model, _ = convert(tmp_path, name, TubeViTForVideoClassification, num_labels=4)
    clips = tiny_clips(size=model.config.image_height_width[0])
    model.train()(clips, labels=torch.tensor([0, 3])).loss.backward()
    for key, parameter in model.named_parameters():
        if not key.endswith("k_proj.bias"):  # softmax ignores a bias that is added to all keys
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "dinov2 registers", "dinov3", "clip vision", "siglip"])
def test_the_first_layers_of_a_source(name, tmp_path):
    _, whole, _ = convert(tmp_path, name, TubeViTModel)
    _, model, report = convert(tmp_path, name, TubeViTModel, num_hidden_layers=1)
    assert len(model.layers) == 1 < len(whole.layers)
    whole.layers, images = whole.layers[:1], random_images(model)
    assert torch.equal(model(pixel_values=images).last_hidden_state, whole(pixel_values=images).last_hidden_state)
    assert "only the first 1 layers are taken" in {entry["how"] for entry in report.source.values()}


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "deit distilled", "dinov2 registers", "dinov3", "clip vision"])
def test_without_the_cls_token_all_other_weights_are_the_same(name, tmp_path):
    _, whole, _ = convert(tmp_path, name, TubeViTModel, pooling="mean")
    _, model, report = convert(tmp_path, name, TubeViTModel, pooling="mean", use_cls_token=False)
    weights = whole.state_dict()
    assert weights.pop("embeddings.cls_token") is not None
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in weights.items())
    images = random_images(model)
    tokens = model(pixel_values=images).last_hidden_state
    assert tokens.shape[1] == whole(pixel_values=images).last_hidden_state.shape[1] - 1
    assert "use_cls_token is False" in {entry["how"] for entry in report.source.values()}
    with pytest.raises(ValueError, match="pooling='cls' needs the CLS token"):
        convert(tmp_path, name, TubeViTModel, pooling="cls", use_cls_token=False)


@pytest.mark.parametrize("layer", [0, 1])
def test_an_unknown_tensor_is_refused_in_the_layers_that_are_taken(layer, tmp_path, monkeypatch):
    load = source_checkpoints._load_weights

    def load_more(*arguments):
        weights, *others = load(*arguments)
        return weights | {f"layers.{layer}.more.weight": torch.ones(1)}, *others

    monkeypatch.setattr(source_checkpoints, "_load_weights", load_more)
    if layer == 0:
        with pytest.raises(ValueError, match=r"unknown tensor layers\.0\.more\.weight"):
            convert(tmp_path, "vit", num_hidden_layers=1)
    else:
        _, _, report = convert(tmp_path, "vit", num_hidden_layers=1)
        assert report.source["layers.1.more.weight"]["how"] == "only the first 1 layers are taken"


def test_a_classifier_of_the_first_layers_is_new(tmp_path):
    _, model, report = convert(tmp_path, "vit", TubeViTForVideoClassification, num_hidden_layers=1)
    assert report.target["classifier.weight"]["state"] == "new" and len(model.tubevit.layers) == 1


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit not square", "dinov2 registers", "dinov3", "clip", "siglip"])
def test_an_image_is_a_video_of_one_frame(name, tmp_path):
    _, model, _ = convert(tmp_path, name, allow_missing_tubes=True)
    images = random_images(model)
    as_image, as_video = model(pixel_values=images), model(pixel_values_videos=images[:, None])
    torch.testing.assert_close(as_image.last_hidden_state, as_video.last_hidden_state)
    torch.testing.assert_close(as_image.pooler_output, as_video.pooler_output)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (16, 40), (24, 32), (37, 50)])
@pytest.mark.parametrize(
    "name", ["vit", "deit", "dinov2 swiglu", "dinov2 registers", "dinov3", "clip vision", "siglip"]
)
def test_other_image_sizes_interpolate_positions_as_the_source(name, size, tmp_path):
    source, model, _ = convert(tmp_path, name)
    takes = {} if "dino" in name else {"interpolate_pos_encoding": True}
    assert_same_answers(source, model, random_images(model, size=size), atol=2e-5, **takes)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (16, 40), (24, 32)])
def test_siglip2_interpolates_positions_as_the_source(size, tmp_path):
    source, model, _ = convert(tmp_path, "siglip2 vision")
    assert_same_answers(source, model, random_images(model, size=size), atol=2e-5)


def test_source_classifier_is_used_unless_labels_are_given(tmp_path):
    source, model, report = convert(tmp_path, "vit classifier", TubeViTForVideoClassification)
    assert model.config.id2label == source.config.id2label and model.config.num_labels == 5
    assert torch.equal(model.classifier.weight, source.classifier.weight)
    _, model, report = convert(tmp_path, "vit classifier", TubeViTForVideoClassification, num_labels=5)
    assert model.config.id2label[0] == "LABEL_0" and report.target["classifier.weight"]["state"] == "new"
    assert report.source["classifier.weight"]["state"] == "unused"
    _, model, report = convert(tmp_path, "vit classifier", TubeViTForVideoClassification, pooling="mean")
    assert model.config.id2label == source.config.id2label and report.target["classifier.weight"]["state"] == "new"
    _, model, report = convert(tmp_path, "vit classifier", TubeViTModel)
    assert report.source["classifier.weight"]["how"] == "the target has no classifier"


@torch.no_grad()
def test_base_model_from_a_classifier_checkpoint(tmp_path):
    source, model, _ = convert(tmp_path, "dinov2 classifier", TubeViTModel)
    assert model.config.pooling == "cls"
    assert_same_answers(source.dinov2, model, random_images(model), atol=1e-5)


@torch.no_grad()
def test_attention_pooling_uses_siglips_head(tmp_path):
    source, model, report = convert(tmp_path, "siglip classifier", pooling="attention")
    images = random_images(model)
    expected = source.vision_model(images).pooler_output
    torch.testing.assert_close(model.tubevit(pixel_values=images).pooler_output, expected, rtol=0, atol=1e-5)
    assert report.target["classifier.weight"]["state"] == "new"
    _, model, report = convert(tmp_path, "clip", pooling="attention")
    assert report.target["pooler.query"] == {"state": "new", "sources": [], "how": "random"}
    assert model.config.final_layernorm == "tokens"


@torch.no_grad()
def test_fixed_positions_equal_the_papers_formula(tmp_path):
    source, model, report = convert(tmp_path, "vit", positions="fixed")
    assert model.config.position_embedding == "fixed" and model.config.position_grid is None
    cls = source.embeddings.cls_token + source.embeddings.position_embeddings[:, :1]
    torch.testing.assert_close(model.embeddings.cls_token, cls)
    _, model, report = convert(tmp_path, "siglip", positions="fixed")
    assert report.source["embeddings.position_embedding.weight"]["how"] == "positions are 'fixed'"
    _, model, _ = convert(tmp_path, "dinov3", positions="fixed")
    assert model.config.rope_theta is None


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "dinov3"])
def test_the_first_frame_of_a_video_gets_the_positions_of_an_image(name, tmp_path):
    _, model, _ = convert(tmp_path, name)
    clip = torch.randn(1, 8, 3, 32, 32)
    num_patches = 16
    prefix = model.config.num_prefix_tokens
    of_clip = model.embeddings(pixel_values_videos=clip)[:, -num_patches:]
    of_image = model.embeddings(pixel_values=clip[:, 0])[:, prefix:]
    assert torch.equal(of_clip, of_image)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "dinov2 registers", "dinov3"])
def test_without_the_patch_tube_the_3d_tubes_keep_their_tokens(name, tmp_path):
    _, model, report = convert(tmp_path, name, add_patch_tube=False, tubes=[{**TUBES[0], "kernel_size": [4, 8, 8]}])
    assert [tube["kernel_size"] for tube in model.config.tubes] == [[4, 8, 8]] and set(report.target) == set(
        model.state_dict()
    )
    _, both, _ = convert(tmp_path, name, tubes=[{**TUBES[0], "kernel_size": [4, 8, 8]}])
    clip, num_prefix = tiny_clips(size=32), model.config.num_prefix_tokens
    tokens = model.embeddings(pixel_values_videos=clip)
    assert torch.equal(tokens, both.embeddings(pixel_values_videos=clip)[:, : tokens.shape[1]])
    assert tokens.shape[1] == num_prefix + model.config.num_tokens()
    _, _, report = convert(tmp_path, name, add_patch_tube=False, tube_init="random")
    assert {"the kernels of all tubes are new"} == {
        entry["how"] for source, entry in report.source.items() if "patch_embed" in source
    }
    with pytest.raises(ValueError, match="takes no images: it has no tube whose kernel spans one frame"):
        model.config.num_image_tokens()
    with pytest.raises(ValueError, match="An image classifier needs a tube whose kernel spans one frame"):
        convert(tmp_path, name, TubeViTForImageClassification, add_patch_tube=False, num_labels=2)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "dinov3"])
def test_the_temporal_code_has_a_scale(name, tmp_path):
    clip, tokens = tiny_clips(size=32), {}
    for scale in (0, 0.5, 1):
        _, model, _ = convert(tmp_path, name, temporal_position_scale=scale)
        tokens[scale] = model.embeddings(pixel_values_videos=clip)
    assert (tokens[1] - tokens[0]).abs().max() > 1
    torch.testing.assert_close(tokens[0.5] - tokens[0], (tokens[1] - tokens[0]) / 2, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="temporal_position_scale=0 needs position_embedding='transfer', got 'fixed'"):
        convert(tmp_path, name, positions="fixed", temporal_position_scale=0)


def test_preprocessor_determines_pixel_statistics_and_size(tmp_path):
    make_source("dinov2 swiglu").save_pretrained(tmp_path / "source")
    settings = {"size": {"height": 24, "width": 16}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    ViTImageProcessor(**settings).save_pretrained(tmp_path / "source")
    model = TubeViTModel.from_image_checkpoint(tmp_path / "source", tubes=TUBES, num_frames=8)
    assert model.config.image_size == [24, 16]
    assert (model.config.image_mean, model.config.image_std) == (settings["image_mean"], settings["image_std"])
    assert model.config.position_grid == [4, 4]
    model = TubeViTModel.from_image_checkpoint(tmp_path / "source", tubes=TUBES, num_frames=8, image_size=40)
    assert model.config.image_size == 40


TRAINED_WITH = {
    "vit": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
    "deit": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "dinov2": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "dinov3": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "clip vision": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "siglip vision": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
}


@pytest.mark.parametrize("name", TRAINED_WITH)
def test_without_a_preprocessor_the_statistics_are_those_of_the_family(name, tmp_path, caplog):
    with caplog.at_level("WARNING"):
        _, model, report = convert(tmp_path, name)
    mean, std = (list(values) for values in TRAINED_WITH[name])
    assert (model.config.image_mean, model.config.image_std) == (mean, std)
    assert "has no image processor" in caplog.text and str(mean) in caplog.text
    assert "as in the training of" in report.assumed["image_mean"] and "image_std" in str(report)


DAMAGED = {
    "empty": b"",
    "cut": b'{"image_mean": [0.4, 0.5, ',
    "not text": bytes(range(128, 256)),
    "list": b"[1, 2]",
    "no settings": b"{}",
    "words": b'{"image_processor_type": "ViTImageProcessor", "image_mean": ["a", "b", "c"], "image_std": [1, 1, 1]}',
    "NaN": b'{"image_processor_type": "ViTImageProcessor", "image_mean": [NaN, 0.5, 0.5], "image_std": [1, 1, 1]}',
    "zero": b'{"image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5, 0.5], "image_std": [0, 1, 1]}',
    "two channels": b'{"image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5], "image_std": [1, 1]}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_preprocessor_is_refused(name, tmp_path):
    make_source("vit").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match=r"image processor|image_std|image_mean") as error:
        TubeViTModel.from_image_checkpoint(tmp_path, tubes=TUBES, num_frames=8)
    assert "\n" not in str(error.value)


def test_statistics_that_a_preprocessor_does_not_name_are_those_of_the_family(tmp_path, caplog):
    """The class BitImageProcessor, which DINOv2 uses, has the statistics of CLIP as its defaults."""
    make_source("dinov2").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "BitImageProcessor", "image_std": [1, 2, 3]}'
    )
    with caplog.at_level("WARNING"):
        model = TubeViTModel.from_image_checkpoint(tmp_path, tubes=TUBES, num_frames=8)
    assert (model.config.image_mean, model.config.image_std) == (list(IMAGENET_DEFAULT_MEAN), [1, 2, 3])
    assert "does not name them: image_mean=[0.485" in caplog.text and "image_std" not in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sources_become_float32_models(dtype, tmp_path):
    source, model, _ = convert(tmp_path, "vit classifier", dtype=dtype)
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    weight = source.vit.layers[0].mlp.fc1.weight
    assert torch.equal(model.tubevit.layers[0].mlp.fc1.weight, weight.float())
    _, model, _ = convert(tmp_path, "vit classifier", dtype=dtype, source_kwargs={"dtype": "auto"})
    assert {each.dtype for each in model.parameters()} == {dtype}


def test_a_source_with_nan_is_refused(tmp_path):
    source = make_source("vit")
    with torch.no_grad():
        source.layers[0].mlp.fc1.bias[2] = torch.nan
    source.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"NaN or inf \(layers.0.mlp.fc1.bias\)"):
        TubeViTModel.from_image_checkpoint(tmp_path, tubes=TUBES, num_frames=8)


def test_positions_follow_the_config_field(tmp_path):
    """So `position_embedding: fixed` means the same for image models, presets and TubeViT checkpoints."""
    _, model, _ = convert(tmp_path, "vit", position_embedding="fixed")
    assert model.config.position_embedding == "fixed" and model.config.position_grid is None
    with pytest.raises(ValueError, match="no field 'position_embeding'; did you mean 'position_embedding'"):
        convert(tmp_path, "vit", position_embeding="fixed")


def test_default_tubes_are_the_main_configuration(tmp_path):
    make_source("siglip vision").save_pretrained(tmp_path)
    model, report = TubeViTModel.from_image_checkpoint(tmp_path, image_size=56, output_report=True)
    kernels = [tube["kernel_size"] for tube in model.config.tubes]
    assert kernels == [[8, 8, 8], [16, 4, 4], [4, 12, 12], [1, 14, 14]]
    assert model.config.tubes[-1]["stride"] == [32, 14, 14]
    how = report.target["embeddings.projections.1.weight"]["how"]
    assert how == "central inflation to 16x4x4, its first 6 channels"  # 4x spatial space-to-depth: 24 / 4


def test_report_lists_interpolated_kernels_and_added_layers(tmp_path):
    _, model, report = convert(tmp_path, "vit", interpolate_kernels=True, num_extra_layers=1)
    weight = model.state_dict()["embeddings.interpolated_kernel.weight"]
    assert weight[:, :, 4].abs().max() > 0 and not weight[:, :, :4].any()
    assert report.target["extra_layers.0.attention.q_proj.weight"]["state"] == "new"
    assert set(report.target) == set(model.state_dict())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"positions": "learned"}, "positions must be one of transfer, fixed, got 'learned'"),
        ({"tube_init": "mean"}, "tube_init must be one of central, average, random, got 'mean'"),
        (
            {"num_hidden_layers": 3},
            "num_hidden_layers=3 was given, and the checkpoint has 2 layers: give at most that",
        ),
        ({"hidden_size": 48}, "hidden_size=48 was given, but the checkpoint determines it: 24"),
        ({"position_embedding": "none"}, "position_embedding='none' contradicts positions='transfer'"),
        ({"position_embedding": "transfer", "positions": "fixed"}, "contradicts positions='fixed'"),
        ({"revision": "main"}, r"revision is not a field.*source_kwargs=\{'revision': 'main'\}"),
        ({"final_layernorm": "none"}, "final_layernorm='none' was given, but the checkpoint determines it"),
        ({"tubes": [{"kernel_size": [1, 4, 4], "stride": [1, 4, 4]}]}, "2D tube of this checkpoint is its patch"),
        ({"num_frame": 16}, "no field 'num_frame'"),
        (
            {"pooling": "max"},
            "pooling must be one of source, attention, mean, grid, cls, cls_mean, cls_registers, got 'max'",
        ),
    ],
)
def test_choices_that_contradict_the_checkpoint_raise(choices, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        convert(tmp_path, "vit", **choices)


def test_unsupported_model_types_raise(tmp_path):
    from transformers import BeitConfig, DINOv3ConvNextConfig

    for config in (BeitConfig(), DINOv3ConvNextConfig()):
        config.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=f"'{config.model_type}' model cannot be converted .* are vit, deit"):
            TubeViTModel.from_image_checkpoint(tmp_path)
    with pytest.raises(OSError):
        TubeViTModel.from_image_checkpoint(tmp_path / "nothing")


def test_pickle_source_raises(tmp_path):
    source = make_source("vit")
    source.config.save_pretrained(tmp_path)
    torch.save(source.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"holds only a pickle checkpoint.*only safetensors is accepted"):
        TubeViTModel.from_image_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        TubeViTModel.from_image_checkpoint(tmp_path)


def test_incomplete_source_checkpoint_raises(tmp_path):
    source = make_source("vit")
    source.save_pretrained(tmp_path)
    source.config.num_hidden_layers = 3
    source.config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"not a complete ViTModel: 16 of its tensors are missing, such as layers\.2"):
        TubeViTModel.from_image_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="file is damaged or incomplete"):
        TubeViTModel.from_image_checkpoint(tmp_path)


def test_pooler_of_another_width_raises(tmp_path):
    config = ViTConfig(**{**make_source("vit").config.to_dict(), "pooler_output_size": 7})
    ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="pooler of 7 channels in a model of width 24"):
        TubeViTModel.from_image_checkpoint(tmp_path)


def test_training_settings_without_a_counterpart_are_reported(tmp_path):
    _, _, report = convert(tmp_path, "dinov3")
    assert report.settings == {"pos_embed_rescale": "2.0; it affects training only"}
    assert "settings without a counterpart:\n  pos_embed_rescale: 2.0" in str(report)


def test_source_can_be_loaded_in_another_dtype(tmp_path):
    _, model, _ = convert(tmp_path, "dinov3 without biases", source_kwargs={"dtype": torch.bfloat16})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_joint_model_gets_the_encoder_and_new_heads(tmp_path):
    heads = {"clips": {"modality": "video", "num_labels": 4}, "pictures": {"modality": "image", "num_labels": 3}}
    source, model, report = convert(tmp_path, "vit classifier", TubeViTForJointClassification, heads=heads)
    assert {entry["how"] for name, entry in report.target.items() if "classifiers." in name} == {"random", "zero"}
    assert set(report.target) == set(model.state_dict()) and len(report.source) == len(source.state_dict())


@pytest.mark.parametrize("kind", ["none", "learned", "fixed_without_stride"])
def test_other_position_embeddings_need_fixed(kind, tmp_path):
    source = ViTModel(ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                                image_size=16, patch_size=8))  # fmt: skip
    source.save_pretrained(tmp_path)
    tubes = [{"kernel_size": [4, 4, 4], "stride": [4, 8, 8]}]
    model = TubeViTModel.from_image_checkpoint(
        tmp_path, positions="fixed", position_embedding=kind, tubes=tubes, num_frames=4
    )
    assert model.config.position_embedding == kind
    assert torch.equal(model.layers[0].mlp.fc1.weight, source.layers[0].mlp.fc1.weight)
