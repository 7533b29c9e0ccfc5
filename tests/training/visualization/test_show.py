"""`tubevit show`: the values in the pictures, and the picture files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import make_model, tiny_config
from video_classifiers import save_peer
from video_files import moving_frames, write_video

from tubevit import (
    FactorizedViViTConfig,
    FactorizedViViTForVideoClassification,
    TubeViTForImageClassification,
    TubeViTForJointClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
    TubeViTProcessor,
    TubeViTVideoProcessor,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    UniFormerV2VideoProcessor,
)
from tubevit.processing import TubeViTImageProcessor
from tubevit.training.cli import main
from tubevit.training.models.families import family_of
from tubevit.training.visualization import attention
from tubevit.training.visualization.attention import attention_weights, draw_attention, vivit_rows
from tubevit.training.visualization.canvas import Canvas, to_png
from tubevit.training.visualization.clips import read_clip, synthetic_clip
from tubevit.training.visualization.frame_grid import heat_strip, side_by_side
from tubevit.training.visualization.kernels import draw_kernels, kernel_pictures, most_varied, pixel_kernels
from tubevit.training.visualization.positions import draw_positions, position_similarities, position_vectors
from tubevit.training.visualization.tube_masks import applied_tubes, central_token
from tubevit.training.visualization.tubes import draw_tubes


SIZE = (8, 16, 16)
SMALL = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
HEADS = {"clips": {"modality": "video", "num_labels": 4}, "photos": {"modality": "image", "num_labels": 3}}
PIXELS = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


def texts(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def random_clip(size=SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


# Kernels


def test_each_kernel_is_scaled_around_gray():
    weight = np.random.default_rng(0).normal(size=(5, 3, 4, 2, 3)) * np.arange(1, 6).reshape(-1, 1, 1, 1, 1)
    weight[2] = 0
    pictures = kernel_pictures(weight)
    assert pictures.shape == (5, 4, 2, 3, 3)
    assert (pictures[2] == 0.5).all()
    for kernel, picture in zip(np.delete(weight, 2, 0), np.delete(pictures, 2, 0), strict=True):
        np.testing.assert_allclose(
            (picture - 0.5) * 2 * np.abs(kernel).max(), kernel.transpose(1, 2, 3, 0), atol=1e-12
        )
        assert np.abs(picture - 0.5).max() == pytest.approx(0.5)
    gray = kernel_pictures(weight[:, :2])
    assert (gray[..., 0] == gray[..., 2]).all()


def test_the_most_varied_kernels_come_first():
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 6, 6)) * np.array([2, 9, 1, 5]).reshape(-1, 1, 1, 1, 1)
    assert np.array_equal(most_varied(weight, 3), weight[[1, 3, 0]])


@pytest.mark.parametrize("overrides", [{}, {"interpolate_kernels": True}, {"num_channels": 1}])
def test_every_tube_has_a_panel_of_kernels_at_its_own_shape(overrides):
    model = make_model(TubeViTModel, **overrides)
    figure = draw_kernels(model)
    shapes = [axes.images[0].get_array().shape for axes in figure.axes]
    # A kernel per row and its frames in it, or the 24 patches.
    assert shapes == [(4, 4, 3)] * 8 * 4 + [(2, 2, 3)] * 8 * 5 + [(8, 8, 3)] * 24
    assert ("interpolated" in texts(figure)) == ("interpolate_kernels" in overrides)


# Positions


POSITIONS = {
    "fixed": {},
    "fixed_without_stride": {"position_embedding": "fixed_without_stride"},
    "learned": {"position_embedding": "learned"},
    "transfer": {"position_embedding": "transfer", "position_grid": [2, 2]},
}


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("size", [SIZE, (12, 24, 16), (1, 16, 16)])
def test_position_vectors_equal_those_that_the_model_adds(kind, size):
    model = make_model(TubeViTModel, **POSITIONS[kind]).double()
    vectors = position_vectors(model.config, size, model)
    plain = make_model(TubeViTModel, position_embedding="none").double()
    plain.load_state_dict(model.state_dict(), strict=False)
    clip = torch.randn(1, size[0], 3, *size[1:], dtype=torch.float64)
    inputs = {"pixel_values": clip[:, 0]} if size[0] == 1 else {"pixel_values_videos": clip}
    with torch.no_grad():
        added = model.embeddings(**inputs)[0] - plain.embeddings(**inputs)[0]
    np.testing.assert_allclose(vectors, added.numpy(), atol=1e-12)


@pytest.mark.parametrize("overrides", [*POSITIONS.values(), {"position_embedding": "transfer", "rope_theta": 100.0}])
def test_similarities_are_cosines_to_the_token_in_the_middle(overrides):
    if "rope_theta" in overrides:
        overrides = {**overrides, "num_attention_heads": 3, "use_cls_token": True, "num_register_tokens": 2}
    model = make_model(TubeViTModel, **overrides)
    vectors = position_vectors(model.config, SIZE, model)
    tubes = applied_tubes(model.config, SIZE)
    similarities = position_similarities(vectors, tubes, SIZE)
    starts = np.cumsum([0, *(tube.num_tokens(SIZE) for tube in tubes.values())])
    for index, tube in tubes.items():
        own = starts[index] + np.ravel_multi_index(central_token(tube, SIZE), tube.grid(SIZE))
        cosines = torch.nn.functional.cosine_similarity(torch.tensor(vectors[own])[None], torch.tensor(vectors))
        flat = np.concatenate([similarities[index][other].ravel() for other in tubes])
        np.testing.assert_allclose(flat, cosines.numpy(), atol=1e-12)
        assert similarities[index][index][central_token(tube, SIZE)] == pytest.approx(1)
        assert [similarities[index][other].shape for other in tubes] == [tube.grid(SIZE) for tube in tubes.values()]


def test_the_fixed_positions_of_a_preset_need_no_model_and_learned_ones_do():
    model = make_model(TubeViTModel)
    assert np.array_equal(position_vectors(model.config, SIZE), position_vectors(model.config, SIZE, model))
    with pytest.raises(ValueError, match="'learned' are learned: they need a model"):
        position_vectors(tiny_config(position_embedding="learned"), SIZE)
    with pytest.raises(ValueError, match="there are no positions to show"):
        draw_positions(tiny_config(position_embedding="none"), SIZE)


def test_positions_have_a_map_per_time_and_a_row_per_tube():
    figure = draw_positions(tiny_config(), SIZE)
    times = [tube.grid(SIZE)[0] for tube in tiny_config().get_tubes()]
    scale = 1
    assert len(figure.axes) == scale + len(times) * sum(times)
    circles = [line for axes in figure.axes for line in axes.lines]
    assert len(circles) == len(times)


# Attention


def test_pooling_weights_reproduce_the_pooled_vector():
    model = make_model(TubeViTForVideoClassification)
    clip = random_clip()
    weights = attention_weights(model, clip)
    assert {index: values.shape for index, values in weights.items()} == {0: (2, 2, 2), 1: (2, 2, 2), 2: (1, 2, 2)}
    assert sum(values.sum() for values in weights.values()) == pytest.approx(1)
    pooler = model.tubevit.pooler
    with torch.no_grad():
        pixels = torch.from_numpy(clip).permute(0, 3, 1, 2)[None]
        tokens = model.tubevit(pixel_values_videos=pixels).last_hidden_state
        heads = (4, 6)
        query, key = (
            projection(states).unflatten(-1, heads).transpose(1, 2)
            for projection, states in ((pooler.attention.q_proj, pooler.query), (pooler.attention.k_proj, tokens))
        )
        expected = torch.softmax(query @ key.mT / 6**0.5, dim=-1)[0, :, 0].mean(0)
    flat = np.concatenate([values.ravel() for values in weights.values()])
    np.testing.assert_allclose(flat, expected.numpy(), rtol=1e-5)
    assert model.config._attn_implementation == make_model(TubeViTForVideoClassification).config._attn_implementation


@pytest.mark.parametrize("pooling", ["attention", "cls"])
def test_attention_with_a_token_budget_is_that_of_its_tokens(pooling):
    """As of a model whose config has the coarser tubes."""
    model = make_model(TubeViTForVideoClassification, pooling=pooling)
    tubes = model.config.with_token_budget(10).tubes
    model.set_token_budget(10)
    weights = attention_weights(model, random_clip())
    assert sum(values.size for values in weights.values()) == 10
    assert "10 tokens" in texts(draw_tubes(random_clip(), model.config, 10))
    draw_attention(model, random_clip())
    model.set_tubes(tubes)
    for index, expected in attention_weights(model, random_clip()).items():
        np.testing.assert_allclose(weights[index], expected, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "cls_mean", "cls_registers"])
def test_cls_weights_are_those_of_the_last_layer(pooling):
    model = make_model(TubeViTModel, pooling=pooling, num_register_tokens=2)
    clip = random_clip()
    weights = attention_weights(model, clip)
    model.set_attn_implementation("eager")
    pixels = torch.from_numpy(clip).permute(0, 3, 1, 2)[None]
    with torch.no_grad():
        last = model(pixel_values_videos=pixels, output_attentions=True).attentions[-1]
    expected = last[0, :, 0, 3:].mean(0)
    flat = np.concatenate([values.ravel() for values in weights.values()])
    np.testing.assert_allclose(flat, (expected / expected.sum()).numpy(), rtol=1e-5)
    assert "CLS token" in texts(draw_attention(model, clip))


def test_zero_query_has_equal_weights():
    model = make_model(TubeViTModel)
    with torch.no_grad():
        model.pooler.query.zero_()
        model.pooler.attention.q_proj.bias.zero_()
    weights = attention_weights(model, random_clip())
    for values in weights.values():
        np.testing.assert_allclose(values, 1 / 20, rtol=1e-5)


def test_images_and_joint_models_have_attention():
    joint = make_model(TubeViTForJointClassification, heads=HEADS)
    assert sum(values.sum() for values in attention_weights(joint, random_clip()).values()) == pytest.approx(1)
    weights = attention_weights(make_model(TubeViTForImageClassification), random_clip((1, 16, 16)))
    assert {index: values.shape for index, values in weights.items()} == {2: (1, 2, 2)}
    assert "frame" not in texts(draw_attention(joint, random_clip((1, 16, 16))))


@pytest.mark.parametrize("fields", [{"pooling": "mean"}, {"pooling": "grid", "pooling_grid": [2, 2, 2]}])
def test_mean_pooling_has_no_attention(fields):
    with pytest.raises(ValueError, match=rf"pooling='{fields['pooling']}'.*no attention to show"):
        draw_attention(make_model(TubeViTModel, **fields), random_clip())


# Attention of UniFormerV2 and ViViT


def uniformerv2(**overrides):
    sizes = {**SMALL, "image_size": 16, "patch_size": 8, "num_frames": 8, "global_layers": [0, 2]}
    return make_model(UniFormerV2ForVideoClassification, UniFormerV2Config(**{**sizes, **overrides}))


def vivit(**overrides):
    sizes = {
        **SMALL,
        "image_size": [16, 24],
        "tubelet_size": [2, 8, 8],
        "num_frames": 8,
        "temporal_num_hidden_layers": 2,
    }
    config = FactorizedViViTConfig(**{**sizes, **overrides})
    return make_model(FactorizedViViTForVideoClassification, config)


ATTENDING = {
    "global": (lambda: uniformerv2(), (8, 2, 2)),
    "full": (lambda: uniformerv2(temporal_downsampling=True, num_local_blocks=2), (4, 2, 2)),
    **{
        " ".join(each.values()): (lambda each=each: vivit(**each), (4, 2, 3))
        for each in (
            {"factorization": "spacetime"},
            {"factorization": "spacetime", "pooling": "mean"},
            {"factorization": "encoder"},
            {"factorization": "encoder", "pooling": "mean"},
            {"factorization": "self_attention"},
            {"factorization": "dot_product"},
        )
    },
}


def expected_rows(model, clip) -> list[np.ndarray]:
    """The rows from all attention weights that the model returns, each in multiples of the mean."""
    config = model.config
    model.set_attn_implementation("eager")
    pixels = torch.from_numpy(clip).permute(0, 3, 1, 2)[None]
    with torch.no_grad():
        outputs = model.base_model(pixel_values_videos=pixels, output_attentions=True)
    last = outputs.attentions[-1].mean(1).double()
    if config.model_type == "uniformerv2":
        crossed = [weights[0].mean(0).double() for weights in outputs.cross_attentions]  # (1, tokens)
        rows = [last[:, 0, 1:] * last.shape[-1]]
        rows += [weights.numel() * weights.view(last.shape[0], -1)[:, 1:] for weights in crossed]
        return [row.flatten().numpy() for row in [*rows, sum(rows[1:]) / 2]]

    def of_query(weights):
        own = weights[:, 0, 1:] if config.has_cls_token else weights.mean(1)
        return own * weights.shape[-1]

    if config.factorization == "spacetime":
        return [of_query(last).flatten().numpy()]
    space, time = of_query(last), of_query(outputs.temporal_attentions[-1].mean(1).double())
    time = time.T.expand_as(space)  # Model 2 has one sequence, the others one for each place
    return [each.flatten().numpy() for each in (space, time, space * time)]


@pytest.mark.parametrize("name", ATTENDING)
def test_rows_are_the_attention_of_the_last_layers(name):
    build, grid = ATTENDING[name]
    model = build()
    clip = random_clip((8, 16, 8 * grid[2]))
    rows = family_of(model.config).get("attention_rows")(model, clip).rows
    assert all(row.weights.shape == grid for row in rows)
    assert model.config._attn_implementation != "eager"
    for row, expected in zip(rows, expected_rows(model, clip), strict=True):
        np.testing.assert_allclose(row.weights.ravel(), expected, rtol=1e-4)
    said = texts(draw_attention(model, clip))
    assert all(row.title in said for row in rows)


def test_weights_are_drawn_over_the_pixels_of_their_tokens(monkeypatch):
    model, drawn = vivit(factorization="dot_product"), []
    monkeypatch.setattr(attention, "heat_strip", lambda *args: drawn.append(args[2]) or heat_strip(*args))
    clip = random_clip((8, 16, 24))
    draw_attention(model, clip)
    rows = vivit_rows(model, clip).rows
    for row, heat in zip(rows, drawn, strict=True):
        assert heat.shape == (8, 16, 24)
        for time, top, left in np.ndindex(4, 2, 3):
            pixels = heat[2 * time : 2 * time + 2, 8 * top : 8 * top + 8, 8 * left : 8 * left + 8]
            assert (pixels == row.weights[time, top, left]).all()


def test_attention_of_a_file_in_bgr_is_shown_in_its_colors(tmp_path, capsys, monkeypatch):
    uniformerv2().save_pretrained(tmp_path / "model")
    UniFormerV2VideoProcessor(num_frames=8, **PIXELS, do_flip_channel_order=True).save_pretrained(tmp_path / "model")
    red = np.zeros((12, 32, 40, 3), np.uint8)
    red[..., 0] = 220
    write_video(tmp_path / "red.mp4", red)
    Image.fromarray(red[0]).save(tmp_path / "red.png")
    shown = []
    monkeypatch.setattr(attention, "side_by_side", lambda pictures: shown.extend(pictures) or side_by_side(pictures))
    run = ["show", "attention", str(tmp_path / "model"), "--output", str(tmp_path / "a.png"), "--clip"]
    assert main([*run, str(tmp_path / "red.mp4")]) == 0
    assert shown[0][..., 0].mean() > 180 and shown[0][..., 2].mean() < 40
    assert main([*run, str(tmp_path / "red.png")]) == 2
    assert "red.png is an image, and a UniFormerV2 model reads videos" in capsys.readouterr().err


# Tubes and clips


def test_tubes_picture_shows_token_counts_and_frames():
    config = tiny_config()
    figure = draw_tubes(random_clip(), config)
    said = texts(figure)
    assert "8 frames of 16\N{MULTIPLICATION SIGN}16 pixels" in said and f"{config.num_tokens()} tokens" in said
    assert all(f"{tube.num_tokens(SIZE)} tokens" in said for tube in config.get_tubes())
    assert len(figure.axes) == len(config.tubes) + 1
    said = texts(draw_tubes(random_clip(), config, 13))
    assert "13 tokens" in said and f"token budget 13, without it {config.num_tokens()} tokens" in said
    wide = draw_tubes(random_clip((8, 16, 32)), config)
    assert wide.get_figheight() < figure.get_figheight()


def test_the_synthetic_clip_moves_to_the_right():
    clip = synthetic_clip(12, 24, 32)
    assert clip.shape == (12, 24, 32, 3)
    centers = [np.average(np.arange(32), weights=(frame.min(-1) > 200).sum(0)) for frame in clip]
    assert (np.diff(centers) > 0).all()


def test_clip_file_is_read_by_the_checkpoints_processor(tmp_path):
    config = tiny_config()
    write_video(tmp_path / "a.mp4", moving_frames(20, 32, 40))
    Image.fromarray(moving_frames(1, 32, 40)[0]).save(tmp_path / "b.png")
    processors = TubeViTProcessor(
        TubeViTImageProcessor(**PIXELS),
        TubeViTVideoProcessor(num_frames=8, num_temporal_views=2, sampling="fixed_rate", fps=12.5, **PIXELS),
    )
    processors.save_pretrained(tmp_path / "model")
    config.save_pretrained(tmp_path / "model")
    clip = read_clip(str(tmp_path / "a.mp4"), config, str(tmp_path / "model"), None)
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    expected = processors.video_processor(str(tmp_path / "a.mp4"), num_frames=8, num_temporal_views=1, **raw)
    assert np.array_equal(clip, expected.pixel_values_videos[0].permute(0, 2, 3, 1).numpy())
    assert clip.shape == (8, 16, 16, 3)
    assert read_clip(str(tmp_path / "a.mp4"), config, None, 10).shape == (10, 16, 16, 3)
    assert read_clip(str(tmp_path / "b.png"), config, str(tmp_path / "model"), None).shape == (1, 16, 16, 3)
    with pytest.raises(ValueError, match="is an image"):
        read_clip(str(tmp_path / "b.png"), config, None, 8)


def test_small_pngs_keep_the_colors_of_a_few_pixels():
    canvas = Canvas(4, 2)
    canvas.image(0, 0, 2, np.linspace(0, 1, 400 * 200).reshape(200, 400), cmap="gray", vmin=0, vmax=1)
    canvas.bar(1, 1, 0.04, 0.04, 1.0, "#ff0000")
    picture = Image.open(io.BytesIO(to_png(canvas.figure, dpi=100)))
    assert picture.size == (400, 200) and picture.mode == "P"
    pixels = np.asarray(picture.convert("RGB")).astype(int).reshape(-1, 3)
    assert ((pixels[:, 0] > 200) & (pixels[:, 1] < 60)).any()


# The command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(TubeViTForVideoClassification).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("picture", ["tubes", "kernels", "positions", "attention"])
def test_every_picture_of_a_model_is_written(picture, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show", picture, "--model", model]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"Wrote {picture}.png.\n" and printed.err == ""
    with Image.open(tmp_path / f"{picture}.png") as image:
        assert image.width > 1500 and image.height > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 50


def test_pictures_of_presets_and_files_are_written(tmp_path):
    write_video(tmp_path / "a.mp4", moving_frames(20, 32, 40))
    arguments = ["--preset", "tiny", "--tubes", "core", "--num-frames", "16"]
    tubes, positions = tmp_path / "t.png", tmp_path / "p.png"
    assert main(["show", "tubes", *arguments, "--clip", str(tmp_path / "a.mp4"), "--output", str(tubes)]) == 0
    assert main(["show", "positions", *arguments, "--output", str(positions)]) == 0
    for picture in ("tubes", "positions"):
        file = tmp_path / f"{picture}.png"
        assert main(["show", picture, *arguments, "--token-budget", "200", "--output", str(file)]) == 0
        assert file.read_bytes() != {"tubes": tubes, "positions": positions}[picture].read_bytes()
    assert tubes.stat().st_size > 10_000 and positions.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kernels"], "Kernels are learned: give a checkpoint with --model"),
        (["attention"], "Attention is learned: give a checkpoint with --model"),
        (["positions", "--clip", "a.mp4"], "--clip has no effect on positions: it is for tubes and attention"),
        (["kernels", "--model", "MODEL", "--num-frames", "9"], "--num-frames has no effect on kernels"),
        (["kernels", "--model", "MODEL", "--token-budget", "9"], "--token-budget has no effect on kernels"),
        (["attention", "--model", "MODEL", "--token-budget", "2"], "smallest possible budget of its 3 tubes is 3"),
        (["tubes", "--model", "MODEL", "--preset", "tiny"], "--preset and --tubes have no effect with a checkpoint"),
        (["tubes", "--preset", "tinny"], "Did you mean 'tiny'?"),
        (["tubes", "--preset", "tiny", "--tubes", "maine"], "Did you mean 'main'?"),
        (["tubes", "--preset", "tiny", "--num-frames", "8"], "does not fit a clip of 8x224x224"),
        (["tubes", "--model", "MODEL", "--num-frames", "3"], "does not fit a clip of 3x16x16"),
        (["tubes", "--model", "nowhere"], "There is no model folder nowhere"),
        (["tubes", "--model", "MODEL", "--clip", "nowhere.mp4"], "nowhere.mp4"),
        (["tubes", "--output", "nowhere/t.png"], "There is no folder nowhere"),
    ],
)
def test_errors_are_one_line_and_write_nothing(arguments, message, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show", *(model if argument == "MODEL" else argument for argument in arguments)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("tubevit show: error: ") and message in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "shape"), [("videomae", (24, 3, 2, 8, 8)), ("timesformer", (24, 3, 1, 8, 8))])
def test_kernels_of_other_families_are_those_of_their_first_convolution(name, shape, tmp_path):
    model, _ = save_peer(tmp_path, name)
    (weight,), is_interpolated = pixel_kernels(model)
    assert weight.shape == shape and not is_interpolated
    assert len(draw_kernels(model).axes) > 0
