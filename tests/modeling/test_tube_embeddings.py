"""The tokenizer equals a Conv3d, and positions equal the paper's formula."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_model, tiny_clips, tiny_config
from torch import nn
from torch.autograd import forward_ad

from tubevit import Tube, TubeViTModel
from tubevit.position_embeddings import sincos_position_embedding
from tubevit.tube_embeddings import TubeViTEmbeddings, gather_tube, rms_frame_difference
from tubevit.tubes import MAIN_TUBES


def conv3d_tokens(embeddings: TubeViTEmbeddings, video: torch.Tensor) -> torch.Tensor:
    """All tube tokens of `(batch, frames, channels, height, width)` from torch's convolution, without positions."""
    tokens = []
    for index, tube in enumerate(embeddings.tubes):
        weight, bias = embeddings.kernel(index)
        t, y, x = tube.offset
        shifted = video[:, t:, :, y:, x:].transpose(1, 2)
        outputs = nn.functional.conv3d(shifted, weight, bias, stride=tube.kernel_stride)
        (nt, nh, nw), (ft, fh, fw) = tube.grid((video.shape[1], *video.shape[3:])), tube.space_to_depth
        missing = [count - have for count, have in zip((nw * fw, nh * fh, nt * ft), outputs.shape[:1:-1], strict=True)]
        outputs = nn.functional.pad(outputs, [value for extra in missing for value in (0, extra)])
        outputs = outputs.reshape(len(video), -1, nt, ft, nh, fh, nw, fw).permute(0, 2, 4, 6, 3, 5, 7, 1)
        tokens.append(outputs.reshape(len(video), nt * nh * nw, -1))
    return torch.cat(tokens, dim=1)


def seen_centers(tube: Tube, size) -> list[tuple[float, float, float]]:
    """The center of the pixels that each token covers, found by marking them one application at a time."""
    centers = []
    for token in itertools.product(*(range(count) for count in tube.grid(size))):
        seen = torch.zeros(size)
        for neighbor in itertools.product(*(range(factor) for factor in tube.space_to_depth)):
            corner = [
                o + i * s + j * (s // f)
                for o, i, s, j, f in zip(tube.offset, token, tube.stride, neighbor, tube.space_to_depth, strict=True)
            ]
            ends = [start + kernel for start, kernel in zip(corner, tube.kernel_size, strict=True)]
            if all(end <= extent for end, extent in zip(ends, size, strict=True)):
                seen[tuple(slice(start, end) for start, end in zip(corner, ends, strict=True))] = 1
        places = seen.nonzero()
        centers.append(tuple(((places.amin(0) + places.amax(0)) / 2).tolist()))
    return centers


def plain_positions(tubes, size, dim, temperature=10000.0) -> torch.Tensor:
    """Eqs. 3 to 7 token by token and channel by channel."""
    rows = []
    for tube in tubes:
        for t, y, x in seen_centers(tube, size):
            row = [0.0] * dim
            for j in range(dim // 6):
                frequency = temperature ** (-j / (dim // 6))
                for k, value in enumerate((t, x, y)):
                    row[6 * j + 2 * k] = math.sin(value * frequency)
                    row[6 * j + 2 * k + 1] = math.cos(value * frequency)
            rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("size", [(8, 16, 16), (11, 19, 16), (6, 8, 30)])
def test_tokens_equal_conv3d_plus_positions_in_float64(size):
    embeddings = make_model(TubeViTModel).double().embeddings
    frames, height, width = size
    video = torch.randn(2, frames, 3, height, width, dtype=torch.float64)
    expected = conv3d_tokens(embeddings, video) + plain_positions(embeddings.tubes, size, 24)
    torch.testing.assert_close(embeddings(pixel_values_videos=video), expected, rtol=0, atol=1e-12)


@st.composite
def tokenizers(draw):
    """A configuration with random tubes, and the size of a clip that contains them."""
    factors = st.sampled_from([1, 2, 4])
    tubes = []
    for _ in range(draw(st.integers(1, 3))):
        merged = [draw(factors), draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))]
        tubes.append(
            {
                "kernel_size": [draw(st.integers(1, 5)) for _ in range(3)],
                "stride": [factor * draw(st.integers(1, 3)) for factor in merged],
                "offset": [draw(st.integers(0, 3)) for _ in range(3)],
                "space_to_depth": merged,
            }
        )
    size = [max(t["kernel_size"][a] + t["offset"][a] for t in tubes) + draw(st.integers(0, 9)) for a in range(3)]
    return {
        "tubes": tubes,
        "hidden_size": 48,
        "num_frames": size[0],
        "image_size": size[1:],
        "num_channels": draw(st.sampled_from([1, 3])),
        "interpolate_kernels": draw(st.booleans()),
        "interpolated_kernel_size": [3, 2, 4],
        "position_embedding": draw(st.sampled_from(["fixed", "none"])),
        "allow_missing_tubes": True,
    }, tuple(size)


@settings(max_examples=60, deadline=None)
@given(tokenizers(), st.integers(0, 2**31))
def test_random_tokenizers_equal_conv3d_and_reshape(case, seed):
    values, size = case
    embeddings = make_model(TubeViTModel, tiny_config(**values), seed).double().embeddings
    frames, height, width = size
    video = torch.randn(1, frames, values["num_channels"], height, width, dtype=torch.float64)
    expected = conv3d_tokens(embeddings, video)
    if values["position_embedding"] == "fixed":
        expected = expected + plain_positions(embeddings.tubes, size, 48)
    torch.testing.assert_close(embeddings(pixel_values_videos=video), expected, rtol=0, atol=1e-12)


def test_token_centers_are_the_middles_of_the_pixels_that_change_a_token():
    tube = {"kernel_size": [3, 2, 4], "stride": [4, 4, 6], "offset": [1, 0, 2], "space_to_depth": [2, 2, 1]}
    config = tiny_config(tubes=[tube], hidden_size=24, num_frames=10, image_size=[9, 13], position_embedding="none")
    embeddings = make_model(TubeViTModel, config).double().embeddings
    video = torch.randn(1, 10, 3, 9, 13, dtype=torch.float64, requires_grad=True)
    tokens = embeddings(pixel_values_videos=video)
    found = []
    for token in tokens[0]:
        (gradient,) = torch.autograd.grad(token.square().sum(), video, retain_graph=True)
        places = gradient[0].abs().sum(1).nonzero()
        found.append(tuple(((places.amin(0) + places.amax(0)) / 2).tolist()))
    assert found == list(itertools.product(*embeddings.tubes[0].centers((10, 9, 13))))


def test_main_configuration_equals_conv3d():
    config = tiny_config(tubes=list(MAIN_TUBES), num_frames=32, image_size=224)
    embeddings = make_model(TubeViTModel, config).double().embeddings
    video = torch.randn(1, 32, 3, 224, 224, dtype=torch.float64)
    tokens = embeddings(pixel_values_videos=video)
    assert tokens.shape == (1, 539, 24)
    expected = conv3d_tokens(embeddings, video) + plain_positions(embeddings.tubes, (32, 224, 224), 24)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-12)


def test_gradients_equal_conv3d():
    embeddings = make_model(TubeViTModel).double().embeddings
    video = tiny_clips(dtype=torch.float64).requires_grad_()
    weights = [projection.weight for projection in embeddings.projections]
    seed = torch.randn_like(embeddings(pixel_values_videos=video))
    ours = torch.autograd.grad((embeddings(pixel_values_videos=video) * seed).sum(), [video, *weights])
    theirs = torch.autograd.grad((conv3d_tokens(embeddings, video) * seed).sum(), [video, *weights])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_any_memory_layout_gives_the_same_tokens():
    embeddings = make_model(TubeViTModel).embeddings
    video = tiny_clips()
    expected = embeddings(pixel_values_videos=video)
    channels_last = video.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    frames_last = video.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    padded = torch.zeros(2, 16, 3, 20, 20)[:, ::2, :, 2:18, 3:19].copy_(video)
    for view in (channels_last, frames_last, padded):
        assert not view.is_contiguous()
        torch.testing.assert_close(embeddings(pixel_values_videos=view), expected)


def test_gather_copies_only_what_the_tube_reads():
    video = tiny_clips(batch=1)
    tube = Tube((4, 2, 2), (4, 8, 8))
    pixels = gather_tube(video, tube)
    assert pixels.shape == (1, 2 * 2 * 2, 3, 4, 2, 2)
    assert torch.equal(pixels[0, 3], video[0, 0:4, :, 8:10, 8:10].transpose(0, 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("tube", "width", "left"),
    [
        (Tube((4, 8, 16), (4, 8, 16), (1, 0, 0)), 48, 0),  # 16 bytes are gathered at a time for every dtype
        (Tube((2, 4, 4), (3, 6, 12), (0, 1, 8)), 40, 0),
        (Tube((2, 4, 4), (3, 6, 12), (0, 1, 8)), 40, 3),  # a crop that is not aligned to packed values
        (Tube((2, 4, 6), (3, 6, 10), (0, 1, 2)), 42, 2),
        (Tube((2, 4, 8), (3, 6, 8), (0, 0, 8)), 41, 0),  # rows of odd length
        (Tube((1, 3, 5), (2, 4, 7), (0, 0, 1)), 40, 0),
        (Tube((2, 8, 8), (4, 8, 8), space_to_depth=(2, 1, 2)), 32, 0),
    ],
)
def test_gathered_pixels_equal_the_windows(tube, width, left, dtype):
    frames, height = 12, 18
    whole = (255 * torch.rand(2, frames, 3, height, width + left)).to(dtype)
    video = whole[..., left:]
    nt, nh, nw = tube.kernel_grid((frames, height, width))
    (kt, kh, kw), (st, sh, sw), (ot, oh, ow) = tube.kernel_size, tube.kernel_stride, tube.offset
    windows = [
        video[:, (t := ot + i * st) : t + kt, :, (y := oh + j * sh) : y + kh, (x := ow + k * sw) : x + kw].transpose(
            1, 2
        )
        for i in range(nt)
        for j in range(nh)
        for k in range(nw)
    ]
    gathered = gather_tube(video, tube)
    assert gathered.dtype == dtype
    assert torch.equal(gathered, torch.stack(windows, dim=1))
    if dtype.is_floating_point:  # pixels that require gradients are gathered without packing
        assert torch.equal(gather_tube(video.clone().requires_grad_(), tube), gathered)


def test_gather_supports_func_transforms_and_derivatives():
    videos, tube = tiny_clips(batch=2)[:, None], Tube((4, 8, 8), (4, 8, 8))
    mapped = torch.func.vmap(lambda video: gather_tube(video, tube))(videos)
    assert torch.equal(mapped, torch.stack([gather_tube(video, tube) for video in videos]))
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(gather_tube(forward_ad.make_dual(videos[0], videos[1]), tube)).tangent
    assert torch.equal(tangent, gather_tube(videos[1], tube))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_uint8_pixels_are_normalized_by_the_model(dtype):
    statistics = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    embeddings = make_model(TubeViTModel, **statistics).to(dtype).embeddings
    raw = tiny_clips(dtype=torch.uint8)
    wide = torch.promote_types(dtype, torch.float32)
    mean, std = (torch.tensor(values, dtype=wide)[:, None, None] for values in statistics.values())
    normalized = ((raw.to(wide) / 255 - mean) / std).to(dtype)
    tolerance = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
    ours, theirs = embeddings(pixel_values_videos=raw), embeddings(pixel_values_videos=normalized)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * 4)
    image, normalized = raw[:, 0], normalized[:, 0]
    torch.testing.assert_close(
        embeddings(pixel_values=image), embeddings(pixel_values=normalized), rtol=tolerance, atol=tolerance * 4
    )


def test_positions_equal_the_formula_with_zero_padding():
    tube, size = Tube((4, 2, 6), (3, 5, 4), (1, 2, 0)), (20, 30, 25)
    table = sincos_position_embedding(tube.centers(size), 26, 10000.0)
    torch.testing.assert_close(table, plain_positions([tube], size, 26), rtol=0, atol=1e-13)
    assert torch.count_nonzero(table[:, 24:]) == 0


def test_position_tables_are_cached_not_saved_and_keep_their_precision():
    model = make_model(TubeViTModel)
    tubes, tokens = model.embeddings.tubes, torch.zeros(1, 1, 24)
    first = model.embeddings.positions(tubes, [0, 1, 2], (8, 16, 16), tokens)
    assert model.embeddings.positions(tubes, [0, 1, 2], (8, 16, 16), tokens) is first
    assert not any("position" in key for key in model.state_dict())
    model(pixel_values_videos=tiny_clips())
    back = model.bfloat16().float()
    table = back.embeddings(pixel_values_videos=tiny_clips()) - conv3d_tokens(back.embeddings, tiny_clips())
    torch.testing.assert_close(table[0], first, atol=1e-5, rtol=0)


def test_tables_created_in_inference_mode_can_be_used_in_training():
    model = make_model(TubeViTModel)
    clips = tiny_clips(frames=9)
    with torch.inference_mode():
        model(pixel_values_videos=clips)
    model(pixel_values_videos=clips).pooler_output.sum().backward()


def test_an_image_is_a_video_of_one_frame():
    embeddings = make_model(TubeViTModel, allow_missing_tubes=True).embeddings
    image = tiny_clips()[:, 0]
    torch.testing.assert_close(embeddings(pixel_values=image), embeddings(pixel_values_videos=image[:, None]))


def test_2d_tube_at_any_index_tokenizes_images_from_the_first_frame():
    tubes = [
        {"kernel_size": [1, 8, 8], "stride": [4, 8, 8], "offset": [2, 0, 0]},
        {"kernel_size": [4, 4, 4], "stride": [4, 8, 8]},
    ]
    embeddings = make_model(TubeViTModel, tubes=tubes).double().embeddings
    image = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    projection = embeddings.projections[0]
    patches = nn.functional.conv2d(image, projection.weight[:, :, 0], projection.bias, stride=8)
    expected = patches.flatten(2).transpose(1, 2) + plain_positions([Tube((1, 8, 8), (1, 8, 8))], (1, 16, 16), 24)
    torch.testing.assert_close(embeddings(pixel_values=image), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "exactly one"),
        ({"pixel_values": (1, 3, 16, 16), "pixel_values_videos": (1, 8, 3, 16, 16)}, "exactly one"),
        ({"pixel_values_videos": (8, 3, 16, 16)}, r"5 axes \(batch, frames, channels.*\(8, 3, 16, 16\)"),
        ({"pixel_values_videos": (1, 2, 8, 3, 16, 16)}, "classification models take several views"),
        ({"pixel_values": (3, 16, 16)}, r"4 axes .*\(3, 16, 16\)"),
        (
            {"pixel_values_videos": (0, 8, 3, 16, 16)},
            r"pixel_values_videos is empty: its shape is \(0, 8, 3, 16, 16\)",
        ),
        ({"pixel_values_videos": (1, 3, 8, 16, 16)}, r"3 channels on axis 2 .* got 8"),
        ({"pixel_values": (1, 4, 16, 16)}, r"3 channels on axis 1 .* got 4"),
        ({"pixel_values_videos": (1, 5, 3, 16, 16)}, r"Tube 1 .* 5 frames where it needs 6.*6x8x8"),
        ({"pixel_values": (1, 3, 7, 16)}, r"Tube 2 .*7 rows where it needs 8"),
    ],
)
def test_invalid_inputs_raise_one_line(inputs, message):
    embeddings = make_model(TubeViTModel).embeddings
    with pytest.raises(ValueError, match=message) as error:
        embeddings(**{name: torch.zeros(shape) for name, shape in inputs.items()})
    assert "\n" not in str(error.value)


def test_integer_pixels_other_than_uint8_raise():
    embeddings = make_model(TubeViTModel).embeddings
    with pytest.raises(ValueError, match=r"float \(normalized\) or uint8 \(raw pixels\), got torch.int64"):
        embeddings(pixel_values_videos=torch.zeros(1, 8, 3, 16, 16, dtype=torch.long))


def test_check_pixels_reports_nan_and_inf():
    clips = tiny_clips()
    clips[1, 2, 0, 3, 4] = float("nan")
    make_model(TubeViTModel)(pixel_values_videos=clips)
    with pytest.raises(ValueError, match=r"contains NaN or inf at index \(1, 2, 0, 3, 4\)"):
        make_model(TubeViTModel, check_pixels=True)(pixel_values_videos=clips)


def test_temporal_difference_kernels_ignore_static_clips():
    model = TubeViTModel(tiny_config(kernel_initialization="temporal_difference")).double()
    embeddings = model.embeddings
    still = tiny_clips(dtype=torch.float64)[:, :1].expand(-1, 8, -1, -1, -1)
    for index, tube in enumerate(embeddings.tubes):
        weight, _ = embeddings.kernel(index)
        scale = weight.std() * weight[0].numel() ** 0.5
        assert 0.7 < scale < 1.2  # outputs of independent inputs with variance 1 have a variance near 1
        tokens = embeddings.projections[index](gather_tube(still, tube))
        assert (tokens.abs().max() < 1e-6) == (
            not tube.is_image_tube
        )  # tolerance: kernel means are computed in float32
    moving = embeddings(pixel_values_videos=tiny_clips(dtype=torch.float64))
    assert (moving - embeddings(pixel_values_videos=still)).abs().max() > 0.1


def test_fan_in_kernels_preserve_the_scale_of_pixels():
    model = TubeViTModel(tiny_config(kernel_initialization="fan_in", initializer_range=0.5))
    for index in range(len(model.embeddings.tubes)):
        weight, _ = model.embeddings.kernel(index)
        assert 0.8 < weight.std() * weight[0].numel() ** 0.5 < 1.2


def test_initialization_does_not_overwrite_loaded_kernels(tmp_path):
    model = make_model(TubeViTModel, kernel_initialization="temporal_difference")
    torch.nn.init.ones_(model.embeddings.projections[0].weight)
    model.save_pretrained(tmp_path)
    assert torch.equal(
        TubeViTModel.from_pretrained(tmp_path).embeddings.projections[0].weight, model.embeddings.projections[0].weight
    )


def kernel_applications(embeddings, clips):
    """For each token of the first two tubes on `clips` of 8 frames of 16x16: the token, its pixels, and weight and bias of its kernel."""
    tokens = iter(embeddings(pixel_values_videos=clips).unbind(1))
    for index, tube in enumerate(embeddings.tubes[:2]):
        weight, bias = embeddings.kernel(index)
        for place in itertools.product(*(range(count) for count in tube.grid((8, 16, 16)))):
            t, y, x = (o + i * s for o, i, s in zip(tube.offset, place, tube.stride, strict=True))
            kt, kh, kw = tube.kernel_size
            window = clips[:, t : t + kt, :, y : y + kh, x : x + kw]
            yield next(tokens), window, weight, bias


def test_frame_differences_are_computed_within_each_kernel_application():
    embeddings = make_model(TubeViTModel, use_frame_differences=True, position_embedding="none").double().embeddings
    for token, window, weight, bias in kernel_applications(embeddings, tiny_clips(dtype=torch.float64)):
        changes = [(window[:, max(1, k)] - window[:, max(1, k) - 1]).abs() for k in range(window.shape[1])]
        expected = torch.einsum("btchw,octhw->bo", torch.stack(changes, 1), weight) + bias
        torch.testing.assert_close(token, expected, rtol=0, atol=1e-9)


def test_frame_differences_ignore_static_pixels_and_sign_and_skip_2d_tubes():
    torch.manual_seed(0)
    plain, changed = (
        TubeViTModel(tiny_config()).double(),
        TubeViTModel(tiny_config(use_frame_differences=True)).double(),
    )
    changed.load_state_dict(plain.state_dict())
    clips = tiny_clips(dtype=torch.float64)
    size = (clips.shape[1], *clips.shape[3:])
    of_image = torch.cat([torch.full((t.num_tokens(size),), t.is_image_tube) for t in changed.embeddings.tubes])
    tokens = changed.embeddings(pixel_values_videos=clips)
    still = changed.embeddings(pixel_values_videos=clips[:, :1].expand_as(clips))
    negative = changed.embeddings(pixel_values_videos=3 - clips)
    assert 0 < of_image.sum() < len(of_image)
    assert torch.equal(tokens[:, of_image], plain.embeddings(pixel_values_videos=clips)[:, of_image])
    assert not torch.isclose(tokens, plain.embeddings(pixel_values_videos=clips))[:, ~of_image].any(-1).any()
    torch.testing.assert_close(still[0, ~of_image], still[1, ~of_image])  # static clips: only positions remain
    torch.testing.assert_close(negative[:, ~of_image], tokens[:, ~of_image])
    image = clips[:, 0]
    torch.testing.assert_close(
        changed.embeddings(pixel_values=image), plain.embeddings(pixel_values=image), rtol=0, atol=0
    )


@pytest.mark.parametrize("interpolate_kernels", [False, True])
def test_rms_differences_equal_a_loop_over_kernel_applications(interpolate_kernels):
    options = {"position_embedding": "none", "interpolate_kernels": interpolate_kernels}
    model = make_model(TubeViTModel, use_frame_differences=True, frame_difference_type="rms", **options)
    embeddings = model.double().embeddings
    for token, window, weight, bias in kernel_applications(embeddings, tiny_clips(dtype=torch.float64)):
        squares = [(window[:, k + 1] - window[:, k]) ** 2 / 2 for k in range(window.shape[1] - 1)]
        image = (sum(squares) / len(squares)) ** 0.5
        expected = torch.einsum("bchw,octhw->bo", image, weight) + bias
        torch.testing.assert_close(token, expected, rtol=0, atol=1e-9)


def test_rms_differences_estimate_the_deviation_and_have_gradients_where_nothing_moves():
    torch.manual_seed(0)
    noise = 0.3 * torch.randn(1, 1, 3, 4_001, 2, 2, dtype=torch.float64)
    drift = torch.linspace(0, 1, 4_001, dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(
        rms_frame_difference(noise + drift), torch.full((1, 1, 3, 1, 2, 2), 0.3).double(), rtol=0.05, atol=0
    )
    still = torch.ones(1, 1, 3, 8, 2, 2, requires_grad=True)
    rms_frame_difference(still).sum().backward()
    assert torch.equal(still.grad, torch.zeros_like(still))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_difference_type": "rms"}, "needs use_frame_differences=True"),
        (
            {
                "frame_difference_type": "rms",
                "use_frame_differences": True,
                "kernel_initialization": "temporal_difference",
            },
            "add up to 0",
        ),
    ],
)
def test_rms_differences_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**options)


def test_frame_differences_of_uint8_equal_those_of_normalized_floats():
    model = make_model(TubeViTModel, use_frame_differences=True, image_mean=0.3, image_std=0.25)
    raw = torch.randint(0, 256, (2, 8, 3, 16, 16), dtype=torch.uint8)
    tokens = model.embeddings(pixel_values_videos=raw)
    torch.testing.assert_close(tokens, model.embeddings(pixel_values_videos=(raw / 255 - 0.3) / 0.25))
    tokens.square().sum().backward()
    assert all(
        parameter.grad.flatten(2).abs().amin(-1).gt(0).all()
        for parameter in model.embeddings.projections.parameters()
        if parameter.dim() == 5
    )
