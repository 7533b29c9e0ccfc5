"""Dropping tokens at random: which tokens stay depends on the clip alone, and all other computations are the model's."""

import itertools
import json
from fractions import Fraction

import pytest
import torch
from tiny_models import make_model, tiny_clips
from video_classifiers import save_peer, save_tubevit
from video_files import moving_frames, write_video

from tubevit import TubeViTForVideoClassification, TubeViTModel
from tubevit.training.cli import main
from tubevit.training.models.model_size import count_flops
from tubevit.training.models.random_tokens import RandomTokens, _choose, _nearest, check_random_tokens
from tubevit.tubes import Tube


FULL = 20  # tube tokens of a clip of `tiny_models`


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_tokens_of_a_clip_are_some_of_all_with_their_positions(dtype):
    model = make_model(TubeViTModel, pooling="cls", num_register_tokens=2)
    embeddings, clips = model.embeddings, tiny_clips(3, dtype=dtype)
    whole = embeddings(pixel_values_videos=clips)
    handle = RandomTokens(model, 7)
    kept = embeddings(pixel_values=None, pixel_values_videos=clips)
    assert kept.shape == (3, 3 + 7, 24) and torch.equal(kept[:, :3], whole[:, :3])
    places = [[whole[clip, 3:].eq(token).all(dim=1).nonzero().item() for token in kept[clip, 3:]] for clip in range(3)]
    assert all(each == sorted(each) for each in places) and len(set(map(tuple, places))) == 3
    for clip in range(3):  # in a batch of any size
        torch.testing.assert_close(
            embeddings(pixel_values=None, pixel_values_videos=clips[clip : clip + 1]), kept[clip : clip + 1]
        )
    handle.remove()
    assert torch.equal(embeddings(pixel_values_videos=clips), whole)


def test_all_tokens_are_the_model_and_fewer_cost_less():
    model, clips = make_model(TubeViTForVideoClassification), tiny_clips()
    logits, flops = model(clips).logits, count_flops(model, pixel_values_videos=clips)
    image = model.tubevit(pixel_values=clips[:, 0]).pooler_output
    handle = RandomTokens(model, FULL)
    assert torch.equal(model(clips).logits, logits)
    handle.remove()
    RandomTokens(model, FULL // 2)
    assert torch.equal(model.tubevit(pixel_values=clips[:, 0]).pooler_output, image)
    assert not torch.equal(model(clips).logits, logits)
    assert count_flops(model, pixel_values_videos=clips) < 0.6 * flops


@pytest.mark.parametrize("fields", [{"position_embedding": "relative"}, {"rope_theta": 100.0, "hidden_size": 32}])
def test_positions_inside_attention_are_refused(fields):
    with pytest.raises(ValueError, match="random_tokens=5 needs positions that are added to the tokens, and m has"):
        check_random_tokens("m", make_model(TubeViTModel, **fields).config, "video", 5, None)


def test_grid_pooling_takes_the_nearest_token_that_was_kept():
    model, clips = make_model(TubeViTForVideoClassification, pooling="grid", pooling_grid=[2, 2, 2]), tiny_clips()
    check_random_tokens("m", model.config, "video", 5, None)
    image = model.tubevit(pixel_values=clips[:, 0]).pooler_output
    whole, flops = model(clips).logits, count_flops(model, pixel_values_videos=clips)
    handle = RandomTokens(model, FULL)
    assert torch.equal(model(clips).logits, whole)  # also where tokens of two tubes have one center
    handle.remove()
    handle = RandomTokens(model, 1)
    outputs = model.tubevit(pixel_values_videos=clips)
    kept = outputs.last_hidden_state[:, -1]
    torch.testing.assert_close(outputs.pooler_output, kept.repeat(1, 8))
    assert torch.equal(model.tubevit(pixel_values=clips[:, 0]).pooler_output, image)
    assert count_flops(model, pixel_values_videos=clips) < 0.5 * flops
    handle.remove()
    assert torch.equal(model(clips).logits, whole)


def test_of_kept_tokens_that_are_as_near_the_first_takes_the_place():
    """The distances are exact: sides of 12 and 30 have no binary fraction, and more than 25 tokens made `cdist` multiply matrices."""
    tubes, size = (Tube((1, 2, 2), (1, 2, 2)), Tube((2, 4, 4), (2, 4, 4))), (3, 12, 30)
    centers = [center for tube in tubes for center in itertools.product(*tube.centers(size))]
    parts = [[Fraction(value) / side for value, side in zip(center, size, strict=True)] for center in centers]
    kept = [_choose(seed, len(parts), 40) for seed in range(2)]

    def distance(one, other):
        return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))

    expected = [
        [min(range(40), key=lambda place, part=part: distance(part, parts[row[place]])) for part in parts]
        for row in kept
    ]
    assert _nearest(tubes, size, torch.stack(kept)).tolist() == expected


def test_eval_with_random_tokens(tmp_path, capsys):
    model, data = save_tubevit(tmp_path / "model", names=("a", "b")), tmp_path / "videos"
    for index, name in enumerate("aabb"):
        (data / "val" / name).mkdir(parents=True, exist_ok=True)
        write_video(data / "val" / name / f"{index}.mp4", moving_frames(10, 32, 40, seed=index), fps=10)

    def run(folder, *options, model=model):
        given = [f"model_name_or_path={model}", f"data={data}", f"output_dir={tmp_path / folder}", "use_cpu=true"]
        return main(["eval", *given, *options]), capsys.readouterr()

    def predictions(folder):
        return (tmp_path / folder / "predictions.csv").read_text()

    assert run("all")[0] == run("random", "random_tokens=6")[0] == 0
    assert run("again", "--random-tokens", "6", "batch_size=1")[0] == 0
    assert predictions("random") == predictions("again") != predictions("all")
    assert json.loads((tmp_path / "random" / "metrics.json").read_text())["random_tokens"] == 6
    assert "random_tokens" not in json.loads((tmp_path / "all" / "metrics.json").read_text())
    save_peer(tmp_path / "vivit", "vivit", ("a", "b"))
    for options, message in (
        ({"random_tokens": 21}, "random_tokens=21: a clip of model has 20 tube tokens"),
        ({"random_tokens": 6, "token_budget": 6}, "give one of them"),
        ({"random_tokens": 6, "model": tmp_path / "vivit"}, "random_tokens=6 is for TubeViT, and vivit is a vivit"),
        ({"random_tokens": 0}, "random_tokens must be at least 1, got 0"),
    ):
        own = options.pop("model", model)
        code, shown = run("none", *(f"{key}={value}" for key, value in options.items()), model=own)
        assert code == 2 and message in shown.err and shown.err.count("\n") == 1
