"""The laws of the demo's data set: the label shows in the motion and nowhere else."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest

from tubevit.training.data.demo_clips import find_clips
from tubevit.training.synthetic.moving_shapes import (
    DIRECTIONS,
    MANIFEST_NAME,
    SHAPES,
    draw_clip,
    labels,
    random_scene,
    write_clip,
    write_dataset,
)


NUM_FRAMES, SIDE = 8, 40


OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def scene(label: str, seed: int = 0):
    return random_scene(label, np.random.default_rng(seed), NUM_FRAMES)


def clip(scene) -> np.ndarray:
    return draw_clip(scene, NUM_FRAMES, SIDE).astype(int)


@pytest.mark.parametrize("label", labels())
def test_played_backwards_it_is_a_valid_clip_of_the_opposite_direction(label):
    forward = scene(label)
    shape, direction = label.split(" moving ")
    backward = replace(forward, direction=OPPOSITE[direction], start=forward.center(NUM_FRAMES - 1))
    assert backward.label == f"{shape} moving {OPPOSITE[direction]}"
    assert np.abs(clip(backward) - clip(forward)[::-1]).max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_mirrored_a_clip_moving_left_is_one_moving_right(shape):
    left = scene(f"{shape} moving left")
    top_left, top_right, bottom_left, bottom_right = left.background
    right = replace(
        left,
        direction="right",
        start=(left.start[0], 1 - left.start[1]),
        background=(top_right, top_left, bottom_right, bottom_left),
    )
    assert np.abs(clip(right) - clip(left)[:, :, ::-1]).max() <= 1


@pytest.mark.parametrize("seed", range(3))
def test_everything_but_shape_and_direction_is_drawn_without_the_label(seed):
    scenes = [scene(label, seed) for label in labels()]
    assert len({replace(scene, shape="circle", direction="left") for scene in scenes}) == 1
    assert [scene.label for scene in scenes] == labels()


@pytest.mark.parametrize("frame", [0, 3, 7])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_frame_of_a_clip_is_as_likely_in_any_other_direction(frame, direction):
    # Starts are uniform on a torus, and shifting a torus keeps them uniform: moved so that the two meet in `frame`, the
    # clip of another direction is as likely as this one, and has that frame in common with it to the last pixel.
    original = scene("cross moving left")
    moved = replace(original, direction=direction)
    shift = np.subtract(original.center(frame), moved.center(frame))
    moved = replace(moved, start=tuple((np.array(moved.start) + shift) % 1.0))
    assert np.abs(clip(original)[frame] - clip(moved)[frame]).max() <= 1
    if direction != "left":
        assert np.abs(clip(original) - clip(moved)).max() > 50


def test_positions_are_uniform_in_every_frame():
    for direction in DIRECTIONS:
        centers = np.array([scene(f"circle moving {direction}", seed).center(5) for seed in range(2000)])
        counts = np.histogram2d(*centers.T, bins=4, range=[[0, 1], [0, 1]])[0]
        assert counts.sum() == 2000
        assert np.abs(counts / 125 - 1).max() < 0.4  # four standard deviations


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_the_area_of_a_circle_of_their_radius(shape):
    drawn = replace(scene(f"{shape} moving up"), start=(0.5, 0.5), color=(1.0, 1.0, 1.0), background=((0.0,) * 3,) * 4)
    area = draw_clip(drawn, 1, 200)[0, :, :, 0].mean() / 255
    assert area == pytest.approx(np.pi * drawn.radius**2, rel=0.01)


def test_the_shape_moves_in_its_direction():
    for name, (step_y, step_x) in DIRECTIONS.items():
        moving = replace(scene(f"circle moving {name}"), start=(0.5, 0.5), speed=0.05)
        assert moving.center(2) == pytest.approx((0.5 + 0.1 * step_y, 0.5 + 0.1 * step_x))


def decode(path) -> np.ndarray:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def test_files_hold_the_clips_that_were_drawn(tmp_path):
    frames = draw_clip(scene("triangle moving down"), NUM_FRAMES, SIDE)
    write_clip(tmp_path / "clip.mp4", frames)
    decoded = decode(tmp_path / "clip.mp4")
    assert decoded.shape == frames.shape
    assert np.abs(decoded - frames).mean() < 6


def test_the_data_set_is_a_folder_of_class_folders(tmp_path):
    folder = write_dataset(tmp_path / "set", train_per_class=2, val_per_class=1, num_frames=4, side=32)
    found = find_clips(folder)
    assert len(found.train) == 2 * len(labels())
    assert len(found.val) == len(labels())
    assert sorted({clip.label for clip in found.train}) == labels()


def write_small(folder, train_per_class=1, seed=0) -> dict[str, dict]:
    """A tiny set: the scene that each of its files shows, by the file's name. (x264 does not give the same bytes twice.)"""
    write_dataset(folder, train_per_class, 1, seed, num_frames=4, side=32)
    scenes = json.loads((folder / MANIFEST_NAME).read_text())["scenes"]
    assert {scene["file"] for scene in scenes} == {p.relative_to(folder).as_posix() for p in folder.rglob("*.mp4")}
    return {scene["file"]: scene for scene in scenes}


def test_the_data_set_is_reproducible_and_grows_without_changing(tmp_path):
    first, again, other = write_small(tmp_path / "a"), write_small(tmp_path / "b"), write_small(tmp_path / "c", seed=1)
    assert first == again
    assert first.keys() == other.keys()
    assert all(scene["start"] != other[name]["start"] for name, scene in first.items())
    larger = write_small(tmp_path / "a", train_per_class=2)
    assert len(larger) == len(first) + len(labels())
    assert {name: larger[name] for name in first} == first


def test_a_set_with_the_same_settings_is_kept(tmp_path):
    write_small(tmp_path)
    marker = tmp_path / "train" / "circle moving up" / "000.mp4"
    marker.write_bytes(b"kept")
    write_dataset(tmp_path, 1, 1, num_frames=4, side=32)
    assert marker.read_bytes() == b"kept"


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="not a set of moving shapes"):
        write_dataset(tmp_path, 1, 1)
    assert (tmp_path / "holiday.mp4").read_bytes() == b"precious"


def test_an_interrupted_set_is_written_again(tmp_path):
    folder = tmp_path / "set"
    write_dataset(folder, 1, 1, num_frames=4, side=32)
    (folder / "moving_shapes.json").write_text("{}")
    (folder / "train" / "circle moving up" / "000.mp4").unlink()
    write_dataset(folder, 1, 1, num_frames=4, side=32)
    assert len(find_clips(folder).train) == len(labels())
