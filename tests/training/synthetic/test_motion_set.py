"""The laws of the made motion set: a class is an order of frames, and neither a frame nor the unordered frames tell it."""

import csv
import functools
import json
from collections import Counter
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tubevit.training.cli import main
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.synthetic.files import LIST_NAME, MANIFEST_NAME, write_motion_set
from tubevit.training.synthetic.motion_scenes import (
    ANGULAR,
    LEVELS,
    MAX_RADIUS,
    MIN_RADIUS,
    ROUND,
    TASKS,
    TONES,
    UNORDERED_TASKS,
    draw_frames,
    frame_step,
    random_scene,
)
from tubevit.training.synthetic.motion_set import PAIRS, SPLITS, MotionSet, ShapeImages
from tubevit.training.synthetic.moving_shapes import REACH, distance_to_edge


NUM_FRAMES, SIDE = 12, 24


def scene(task: str, level: int = 4, seed: int = 0, num_frames: int = NUM_FRAMES):
    return random_scene(task, level, np.random.default_rng(seed), num_frames)


@functools.cache
def many_scenes(task: str) -> list:
    return [scene(task, level=1, seed=seed, num_frames=8) for seed in range(1500)]


# What the labels rest on


@pytest.mark.parametrize("num_frames", [8, 9, 12, 16, 64])
@pytest.mark.parametrize("task", TASKS)
def test_the_classes_of_a_task_show_the_same_frames_each_once_in_different_orders(task, num_frames):
    orders = scene(task, num_frames=num_frames).orders
    assert len(orders) == len(TASKS[task])
    assert all(sorted(order) == list(range(num_frames)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_is_drawn_without_its_class(task, monkeypatch):
    # The same index with another label: the set's names are turned round, so that every label is another class of the task.
    def clips(rotation):
        drawn = MotionSet(task, level=4, num_clips=len(TASKS[task]), num_frames=NUM_FRAMES, image_size=SIDE)
        drawn._classes = drawn._classes[rotation:] + drawn._classes[:rotation]
        return [drawn.draw(index) for index in range(len(drawn))]

    for one, other in zip(clips(0), clips(1), strict=True):
        assert not np.array_equal(one, other)
        assert sorted(frame.tobytes() for frame in one) == sorted(frame.tobytes() for frame in other)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shown", [0, 5])
def test_a_frame_has_the_same_law_whatever_task_class_and_time(task, shown):
    scenes = many_scenes(task)
    for place in range(len(TASKS[task])):
        frames = [each.orders[place][shown] for each in scenes]
        for i in range(2):
            sprites = [(each.pair[i], frame) for each, frame in zip(scenes, frames, strict=True)]
            centers = np.array([sprite.centers[frame] for sprite, frame in sprites]) % 1.0
            sizes = np.array([np.log(sprite.radii[frame] / MIN_RADIUS) for sprite, frame in sprites])
            for values in (centers[:, 0], centers[:, 1], sizes / np.log(MAX_RADIUS / MIN_RADIUS)):
                assert is_uniform(values)
            tones = Counter(int(sprite.tones[frame]) for sprite, frame in sprites)
            assert tones.keys() == set(TONES)
            assert all(abs(count / 500 - 1) < 0.17 for count in tones.values())  # 4.5 standard deviations


def is_uniform(values: np.ndarray) -> bool:
    """Whether values in [0, 1) pass the Kolmogorov-Smirnov test at a level of 1 in 10,000."""
    ranks = np.arange(1, len(values) + 1) / len(values)
    return np.abs(np.sort(values) - ranks).max() < 2.23 / len(values) ** 0.5


def test_the_test_of_uniformity_can_fail():
    values = np.random.default_rng(0).uniform(size=1500)
    assert is_uniform(values)
    assert not is_uniform(0.9 * values)
    assert not is_uniform(np.abs(values - 0.12))


@pytest.mark.parametrize("task", TASKS)
def test_places_sizes_and_flashes_of_a_frame_are_independent_of_each_other(task):
    scenes = many_scenes(task)
    for order in range(len(TASKS[task])):
        rows = []
        for each in scenes:
            frame = each.orders[order][3]
            centers = np.concatenate([sprite.centers[frame] for sprite in each.pair])
            sizes = [np.log(sprite.radii[frame]) for sprite in each.pair]
            tones = [sprite.tones[frame] for sprite in each.pair]
            rows.append([*np.cos(2 * np.pi * centers), *np.sin(2 * np.pi * centers), *sizes, *tones])
        correlation = np.corrcoef(np.array(rows, float).T)
        assert np.abs(correlation - np.eye(len(correlation))).max() < 4.5 / len(scenes) ** 0.5


@pytest.mark.parametrize("task", UNORDERED_TASKS)
def test_where_classes_are_more_than_forwards_and_backwards_nothing_else_moves_steadily(task):
    # A steady drift would put the unordered frames in order. Successive steps of one point the same way; those of jumps do not.
    agreements = []
    for seed in range(40):
        each = scene(task, seed=seed)
        for track in (each.background.offsets, each.shake, *(sprite.centers for sprite in each.distractors)):
            steps = np.diff(track, axis=0)
            agreements.append(np.mean(np.sum(steps[1:] * steps[:-1], axis=1)) / np.mean(np.sum(steps**2, axis=1)))
    assert np.mean(agreements) < -0.3


@pytest.mark.parametrize("task", sorted(TASKS.keys() - set(UNORDERED_TASKS)))
def test_otherwise_background_and_distractors_move_steadily(task):
    each = scene(task)
    for track in (each.background.offsets, *(sprite.centers for sprite in each.distractors)):
        steps = np.diff(track, axis=0)
        assert np.abs(steps).max() > 0
        assert np.allclose(steps, steps[0])


# What the classes mean


def centers(task: str, place: int, seed: int = 0):
    """Centres of the pair as the class shows them, `(2, frames, 2)`."""
    each = scene(task, seed=seed)
    return np.stack([sprite.centers[each.orders[place]] for sprite in each.pair])


@pytest.mark.parametrize(("place", "step"), list(enumerate([(0, 1), (0, -1), (1, 0), (-1, 0)])))
def test_one_shape_moves_in_the_direction_and_the_other_hops_across(place, step):
    for seed in range(4):
        steps = np.diff(centers("direction", place, seed), axis=1)
        moving = next(i for i in range(2) if np.allclose(steps[i], np.array(step) / NUM_FRAMES))
        assert np.allclose(steps[1 - moving][:, 0] * step[0], 0) and np.allclose(steps[1 - moving][:, 1] * step[1], 0)
        assert len(np.unique(np.round(steps[1 - moving] * NUM_FRAMES))) > 3


@pytest.mark.parametrize(("place", "first", "second"), [(0, 1, -1), (1, -1, 1)])
def test_one_tone_follows_the_other(place, first, second):
    for seed in range(4):
        each = scene("order", seed=seed)
        for sprite in each.pair:
            tones = sprite.tones[each.orders[place]]
            ends = np.flatnonzero((tones[:-1] == first) & (tones[1:] != first)) + 1
            assert set(tones) == set(TONES) and (tones[ends] == second).all()


@pytest.mark.parametrize(("place", "sign"), [(0, 1), (1, -1)])
def test_shapes_grow_or_shrink_but_where_the_circle_of_sizes_closes(place, sign):
    each = scene("approach")
    for sprite in each.pair:
        steps = sign * np.diff(np.log(sprite.radii[each.orders[place]]))
        assert (steps > 0).sum() >= NUM_FRAMES - 3
        assert np.allclose(steps[steps > 0], steps[steps > 0][0])


def test_fast_clips_move_and_swing_as_many_times_as_fast_as_frames_are_skipped():
    step = frame_step(NUM_FRAMES)
    slow, fast = (np.diff(centers("speed", place), axis=1) % 1.0 for place in (0, 1))
    assert np.allclose(np.minimum(fast, 1 - fast).max(), step * np.minimum(slow, 1 - slow).max())
    for i in range(2):
        spectra = [np.abs(np.fft.rfft(centers("period", place)[i], axis=0)).sum(1)[1:] for place in (0, 1)]
        assert spectra[0].argmax() + 1 == 1
        assert spectra[1].argmax() + 1 == min(step, NUM_FRAMES - step)


@pytest.mark.parametrize(("place", "leader"), [(0, 0), (1, 1)])
def test_one_shape_starts_when_the_other_has_arrived(place, leader):
    for seed in range(4):
        moves = np.linalg.norm(np.diff(centers("first", place, seed), axis=1), axis=-1) > 1e-9
        assert moves[leader, 0] and not moves[1 - leader, 0] and moves[1 - leader, -1] and not moves[leader, -1]
        assert moves.any(0).all() and moves.all(0).sum() <= 1  # one of them moves, both at most while they change


# Drawing


@pytest.mark.parametrize("shape", REACH)
def test_shapes_have_the_area_of_a_circle_and_reach_as_far_as_said(shape):
    grid = (np.arange(-400, 400) + 0.5) / 250
    inside = distance_to_edge(shape, grid[:, None], grid[None, :], 1.0) < 0
    assert inside.sum() / 250**2 == pytest.approx(np.pi, rel=0.01)
    reach = np.abs(grid[np.nonzero(inside)[0]]).max(), np.abs(grid[np.nonzero(inside)[1]]).max()
    assert max(reach) == pytest.approx(REACH[shape], abs=0.011)
    with pytest.raises(ValueError, match="Unknown shape 'star'"):
        distance_to_edge("star", grid, grid, 1.0)


@pytest.mark.parametrize("level", LEVELS)
def test_the_picture_is_a_torus(level):
    # Everything moved by whole pixels is the picture, rolled.
    each = scene("order", level)
    shift = np.array([5, -7])
    moved = replace(each, shake=each.shake + shift / SIDE)
    rolled = np.roll(draw_frames(each, SIDE), shift, axis=(2, 3)).astype(int)
    assert np.abs(draw_frames(moved, SIDE).astype(int) - rolled).max() <= 1


def test_a_larger_picture_shows_the_same_scene():
    small, large = (torch.from_numpy(draw_frames(scene("first", level=2), side)).float() for side in (32, 128))
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (shrunk - small).abs().mean() < 4


def test_levels_differ_as_they_say():
    frames = {level: draw_frames(scene("order", level), 32).astype(int) for level in LEVELS}
    color = [
        np.unique(frames[level][0].reshape(3, -1), axis=1, return_counts=True)[1].max() / 32**2 for level in LEVELS
    ]
    assert color[0] > 0.5 and max(color[1:]) < 0.05  # one color fills the plain background
    assert [len(scene("order", level).distractors) for level in LEVELS] == [0, 0, 2, 3]
    assert [bool(scene("order", level).shake.any()) for level in LEVELS] == [False, False, False, True]
    hues = [[sprite.colors[0] for sprite in scene("order", level, seed).pair] for level in (1, 2) for seed in range(9)]
    assert all(round_color[0] > round_color[2] and angular[0] < angular[1] for round_color, angular in hues)


# The sets


def small(**settings) -> MotionSet:
    return MotionSet(**{"num_clips": 20, "num_frames": 8, "image_size": 16, **settings})


def all_pixels(drawn: MotionSet) -> torch.Tensor:
    return torch.stack([drawn.pixels(index) for index in range(len(drawn))])


def test_a_clip_and_an_image_have_the_form_that_models_take():
    clip, image = small()[3], ShapeImages(num_images=4, image_size=16)[3]
    assert clip["pixel_values_videos"].shape == (8, 3, 16, 16) and clip["pixel_values_videos"].dtype == torch.uint8
    assert image["pixel_values"].shape == (3, 16, 16) and image["pixel_values"].dtype == torch.uint8
    assert clip["labels"] == 3 and image["labels"] == 3
    batch = next(iter(torch.utils.data.DataLoader(small(), batch_size=5)))
    assert batch["pixel_values_videos"].shape == (5, 8, 3, 16, 16) and batch["labels"].tolist() == [0, 1, 2, 3, 4]


def test_classes_are_those_of_the_tasks_and_balanced():
    assert small().class_names == sorted(name for names in TASKS.values() for name in names)
    assert small(task="speed").class_names == ["moves fast", "moves slowly"]
    assert ShapeImages(num_images=1).class_names == sorted(f"{a} and {b}" for a in ROUND for b in ANGULAR)
    counts = Counter(small(num_clips=45).labels)
    assert len(counts) == 14 and max(counts.values()) - min(counts.values()) == 1


def test_an_image_shows_the_pair_of_its_class():
    images = ShapeImages(level=1, num_images=len(PAIRS), image_size=64)
    for index, name in enumerate(images.class_names):
        expected = random_scene(None, 1, images.generator(index), 1, PAIRS[name])
        assert tuple(sprite.shape for sprite in expected.pair) == PAIRS[name]
        assert np.array_equal(images[index]["pixel_values"].numpy(), draw_frames(expected, 64)[0])


def test_the_same_settings_give_the_same_set_and_a_larger_one_contains_it():
    first, again, larger = small(), small(), small(num_clips=40)
    for index in (0, 7, 19):
        assert torch.equal(first.pixels(index), again.pixels(index))
        assert torch.equal(first.pixels(index), larger.pixels(index))
    assert not torch.equal(first.pixels(0), small(seed=1).pixels(0))


def test_no_clip_is_in_both_splits():
    train, validation = ({clip.numpy().tobytes() for clip in all_pixels(small(split=split))} for split in SPLITS)
    assert len(train) == len(validation) == 20 and not train & validation


def test_a_clip_is_drawn_once(monkeypatch):
    drawn, fresh = small(), small()
    one = drawn[2]["pixel_values_videos"].clone()
    everything = all_pixels(drawn)
    assert torch.equal(everything[2], one)
    assert torch.equal(everything, torch.stack([fresh.pixels(index) for index in range(20)]))
    monkeypatch.setattr(MotionSet, "draw", None)  # nothing is drawn from here on
    assert torch.equal(drawn[2]["pixel_values_videos"], one) and torch.equal(
        drawn[-1]["pixel_values_videos"], everything[19]
    )
    with pytest.raises(IndexError):
        drawn[20]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "colour"}, "task must be one of all, direction"),
        ({"level": 5}, "level must be one of 1, 2, 3, 4, got 5"),
        ({"split": "val"}, "split must be one of train, validation, got 'val'"),
        ({"num_frames": 7}, "num_frames must be at least 8, got 7"),
        ({"image_size": 15}, "image_size must be at least 16, got 15"),
        ({"num_clips": 0}, "num_clips must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_setting_that_there_is_not_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


# Files


def write_small(folder, **settings):
    return write_motion_set(
        folder, **{"num_train": 15, "num_validation": 14, "num_frames": 8, "image_size": 32, **settings}
    )


@pytest.mark.parametrize(("container", "codec"), [("mp4", "h264"), ("webm", "vp9")])
def test_files_hold_the_clips_frame_by_frame_and_are_read_as_class_folders_and_as_list(tmp_path, container, codec):
    folder = write_small(tmp_path / "set", container=container)
    drawn = small(num_clips=15, image_size=32)
    with open(folder / LIST_NAME, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 29
    for index in (0, 14):
        assert rows[index]["label"] == drawn.class_names[drawn.labels[index]] and rows[index]["split"] == "train"
        with av.open(str(folder / rows[index]["path"])) as file:
            assert file.streams.video[0].codec_context.name == codec
            frames = list(file.decode(video=0))
        assert all(frame.key_frame for frame in frames)
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).transpose(0, 3, 1, 2)
        assert np.abs(pixels - drawn.pixels(index).numpy().astype(float)).mean() < 8
    for config in (DataConfig(data=str(folder)), DataConfig(data=str(folder / LIST_NAME))):
        data = load_video_dataset(config)
        assert data.class_names == drawn.class_names
        assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 15, "validation": 14}


def test_images_are_stored_without_loss_and_read_as_image_folders(tmp_path):
    folder = write_small(tmp_path / "set", images=True)
    data = load_video_dataset(DataConfig(data=str(folder)))
    images = ShapeImages(num_images=15, image_size=32)
    assert data.media == "image" and data.class_names == images.class_names
    path = folder / "train" / images.class_names[1] / "0001.png"  # the second of its class
    assert np.array_equal(np.array(Image.open(path)).transpose(2, 0, 1), images.pixels(1 + len(PAIRS)).numpy())


def test_what_is_there_is_kept_and_what_is_missing_is_written(tmp_path):
    folder = write_small(tmp_path / "set")
    kept, lost = sorted((folder / "train").rglob("*.mp4"))[:2]
    kept.write_bytes(b"kept")
    lost.unlink()
    (folder / LIST_NAME).unlink()
    write_small(folder, num_train=29)
    assert kept.read_bytes() == b"kept" and lost.stat().st_size > 100 and (folder / LIST_NAME).is_file()
    assert len(list((folder / "train").rglob("*.mp4"))) == 29
    assert json.loads((folder / MANIFEST_NAME).read_text())["numbers"] == {"train": 29, "validation": 14}


def test_other_settings_smaller_sets_and_other_folders_are_refused(tmp_path):
    folder = write_small(tmp_path / "set")
    with pytest.raises(ValueError, match="holds a set with level=1"):
        write_small(folder, level=2)
    with pytest.raises(ValueError, match="larger set already"):
        write_small(folder, num_train=5)
    with pytest.raises(ValueError, match="image_size must be even"):
        write_small(tmp_path / "odd", image_size=33)
    with pytest.raises(ValueError, match="container must be one of mp4, webm"):
        write_small(tmp_path / "odd", container="avi")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "a.mp4").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="not a synthetic set"):
        write_small(tmp_path / "holiday")
    assert (tmp_path / "holiday" / "a.mp4").read_bytes() == b"precious"


def test_the_command_writes_a_set_and_says_what_chance_is(tmp_path, capsys):
    sizes = ["--num-train", "4", "--num-validation", "2", "--num-frames", "8", "--image-size", "32"]
    assert main(["data", "synthesize", str(tmp_path / "set"), "--task", "speed", *sizes]) == 0
    said = capsys.readouterr().out
    assert "2 classes; chance is 50.0 %" in said
    assert "tubevit train" in said and "model_config.allow_missing_tubes=true" in said, "some tubes do not fit"
    assert len(list((tmp_path / "set").rglob("*.mp4"))) == 6
    assert main(["data", "synthesize", str(tmp_path / "images"), "--images", *sizes]) == 0
    assert "6 classes; chance is 16.7 %" in capsys.readouterr().out
    assert main(["data", "synthesize", str(tmp_path / "more"), "--images", "--task", "speed", *sizes]) == 2
    assert "--task speed has no effect on --images" in capsys.readouterr().err
    assert main(["data", "synthesize", str(tmp_path / "set"), "--task", "period", *sizes]) == 2
    assert "holds a set with task=speed" in capsys.readouterr().err
