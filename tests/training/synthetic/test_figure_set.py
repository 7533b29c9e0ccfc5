"""The laws of the made people: bodies keep their shape, feet stay on the ground, and each action is what it is called."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tubevit.training.cli import main
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.synthetic.figure_scenes import (
    Capsule,
    FigureSet,
    Grid,
    View,
    draw_backdrop,
    draw_capsule,
    draw_figures,
    random_backdrop,
    random_figure_scene,
    random_view,
)
from tubevit.training.synthetic.figures import (
    ACTIONS,
    BEGINNINGS,
    FOREARM,
    NECK,
    SHIN,
    SHOULDER,
    SOLE,
    THIGH,
    TRUNK,
    UPPER_ARM,
    Stroke,
    act,
    lunge,
    passing_by,
    standing,
)
from tubevit.training.synthetic.files import LIST_NAME, MANIFEST_NAME, write_figure_set
from tubevit.training.synthetic.motion_set import SPLITS


TIMES = (np.arange(150) + 0.5) / 150  # so fine that nothing happens between two of them
SEEDS = range(25)
UPRIGHT = View(top=-1.2, bottom=0.1, left=-0.4, right=1.4)


def people(action: str) -> list:
    """Whoever acts in several clips of an action."""
    return [act(action, np.random.default_rng(seed), TIMES) for seed in SEEDS]


def scene(action: str = "pushing", seed: int = 0, num_frames: int = 8):
    return random_figure_scene(action, np.random.default_rng(seed), num_frames)


def drawn(each, size: int = 48) -> np.ndarray:
    return draw_figures(each, size, np.random.default_rng(0))


def lengths(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points, axis=-1)


# Bodies


@pytest.mark.parametrize("action", ACTIONS)
def test_limbs_are_as_long_as_they_are_all_the_time(action):
    for person in (person for clip in people(action) for person in clip):
        joints = person.joints()
        for limb, length in (
            (joints.neck - joints.hip, TRUNK),
            (joints.shoulder - joints.hip, TRUNK * SHOULDER),
            (joints.head - joints.neck, NECK),
            (joints.knees - joints.hip, THIGH),
            (joints.ankles - joints.knees, SHIN),
            (joints.elbows - joints.shoulder, UPPER_ARM),
            (joints.hands - joints.elbows, FOREARM),
        ):
            assert np.allclose(lengths(limb), length * person.height)


@pytest.mark.parametrize("action", ACTIONS)
def test_one_foot_is_on_the_ground_and_none_below_it(action):
    for person in (person for clip in people(action) for person in clip):
        lowest = person.joints().ankles[..., 0].max(0)
        assert np.allclose(lowest, -SOLE * person.height)


@pytest.mark.parametrize("action", ACTIONS)
def test_knees_and_elbows_bend_one_way(action):
    for person in (person for clip in people(action) for person in clip):
        assert person.knees.max() < 1e-9 and person.elbows.min() > -1e-9


def test_who_stands_has_both_feet_on_the_ground_and_stays():
    for seed in SEEDS:
        person = standing(np.random.default_rng(seed), TIMES)
        ankles = person.joints().ankles
        assert -ankles[..., 0].min() < 0.06 and np.ptp(ankles[..., 1], axis=1).max() < 0.03
        assert 0.9 < -person.joints().head[:, 0].min() + 0.1 < 1.15


@pytest.mark.parametrize("length", [0.02, 0.5, -0.4])
def test_a_walk_covers_its_length_and_leaves_the_posture_as_it_was(length):
    person, still = (standing(np.random.default_rng(3), TIMES, facing=-1) for _ in range(2))
    person.walk(0.2, 0.6, length)
    gone = person.joints().hip[:, 1] - still.joints().hip[:, 1]
    assert np.allclose(gone[TIMES < 0.2], 0) and np.allclose(gone[TIMES > 0.6], -length)
    assert (np.diff(gone) * -length > -1e-12).all()
    resting = (TIMES < 0.2) | (TIMES > 0.6)
    for angles in ("thighs", "knees", "arms"):
        change = getattr(person, angles) - getattr(still, angles)
        assert np.allclose(change[:, resting], 0) and np.abs(change).max() > 0.01


@pytest.mark.parametrize("facing", [1, -1])
def test_a_hand_goes_where_it_is_told_or_as_far_as_the_arm_is_long(facing):
    person = standing(np.random.default_rng(0), TIMES, facing=facing)
    shoulder, full = person.joints().shoulder, np.ones_like(TIMES)
    near = shoulder + person.height * np.array([0.1, 0.2 * facing])
    person.reach(1, full, near)
    assert np.allclose(person.joints().hands[1], near)
    assert person.elbows[1].min() > 0
    person.reach(0, full, shoulder + np.array([-1.0, 2.0 * facing]))
    arm = person.joints().hands[0] - shoulder
    assert np.allclose(lengths(arm), person.height * (UPPER_ARM + FOREARM), rtol=1e-4)
    assert np.allclose(arm[:, 0] / arm[:, 1], -0.5 * facing, atol=0.02)


def test_a_passer_by_walks_forwards_behind_the_others():
    ways = []
    for seed in SEEDS:
        person = passing_by(np.random.default_rng(seed), TIMES, 0.2, 0.4)
        steps = np.diff(person.joints().hip[:, 1])
        assert (steps * person.facing > 0).all() and 0.2 <= person.start <= 0.4
        assert person.joints().ankles[..., 0].max() < -0.3
        ways.append(person.facing)
    assert set(ways) == {1, -1}


# Actions


def test_who_acts_is_on_the_left_and_the_other_one_faces_the_other_way():
    for action in ACTIONS:
        clips = people(action)
        for clip in clips:
            assert [person.facing for person in clip] == [1, -1][: len(clip)]
            assert len(clip) == 1 or (clip[0].joints().hip[0, 1] < clip[1].joints().hip[0, 1])
        alone = sum(len(clip) == 1 for clip in clips)
        assert alone > len(SEEDS) / 2 if action == "pointing" else alone == 0


def test_hands_of_a_handshake_meet_and_stay_together_in_front_of_both():
    for first, second in people("hand_shaking"):
        hands, others = first.joints().hands, second.joints().hands
        apart = np.stack([lengths(hands[side] - others[1 - side]) for side in range(2)])
        together = apart < 0.02
        assert together.any(1).sum() == 1  # of the pairs of hands one
        side = int(together.any(1).argmax())
        meeting = together[side]
        assert meeting.sum() >= 0.1 * len(TIMES)
        assert (hands[side, meeting, 1] > first.joints().hip[meeting, 1]).all()
        assert (hands[side, meeting, 1] < second.joints().hip[meeting, 1]).all()
        assert (-hands[side, meeting, 0] > 0.5).all() and (-hands[side, meeting, 0] < 0.85).all()


def test_who_hugs_comes_close_with_arms_around_and_leaves_again():
    for first, second in people("hugging"):
        apart = second.joints().hip[:, 1] - first.joints().hip[:, 1]
        closest = apart.argmin()
        assert -0.01 < apart[closest] < 0.2 and apart[0] > 0.5 and apart[-1] > apart[closest] + 0.05
        assert (first.joints().hands[:, closest, 1] > second.joints().hip[closest, 1]).all()
        assert (second.joints().hands[:, closest, 1] < first.joints().hip[closest, 1]).all()


def test_each_action_has_its_beginning_and_a_lunge_parts_the_legs_until_it_is_over():
    assert set(BEGINNINGS) == set(ACTIONS)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        person, stroke = standing(rng, TIMES), Stroke(0.4, 0.5, 0.6, 0.7)
        before = person.thighs.copy()
        lunge(person, stroke, rng, depth=(0.1, 0.6))
        moved = person.thighs - before
        assert not moved[:, (TIMES < 0.3) | (TIMES > 0.8)].any()
        ahead, behind = sorted(moved[:, (TIMES > 0.5) & (TIMES < 0.6)].mean(1), reverse=True)
        assert 0.1 <= ahead <= 0.6 and -0.6 <= behind <= -0.1


def test_who_kicks_lifts_one_foot_forwards_and_nobody_else_does():
    for first, second in people("kicking"):
        lifts = [-person.joints().ankles[..., 0].min(1) for person in (first, second)]
        assert lifts[0].max() > 0.14 and lifts[0].min() < 0.12 and lifts[1].max() < 0.12
        leg = int(lifts[0].argmax())
        highest = first.joints().ankles[leg, :, 0].argmin()
        assert first.joints().ankles[leg, highest, 1] > first.joints().hip[highest, 1] + 0.2
        assert second.way[-1] < second.way[0]


def test_one_arm_alone_rises_to_point():
    for first, *others in people("pointing"):
        arms = [first.arms.max(1), *(other.arms.max(1) for other in others)]
        raised = [angle > 1.0 for angle in np.concatenate(arms)]
        assert sum(raised) == 1 and any(raised[:2])
        hand = first.joints().hands[int(first.arms.max(1).argmax())]
        assert (hand[:, 1] - first.joints().shoulder[:, 1]).max() > 0.27
        assert all(np.ptp(person.way) < 0.03 for person in (first, *others))  # nobody walks


def test_who_punches_strikes_with_one_arm_and_the_other_steps_back():
    for first, second in people("punching"):
        forwards = (first.joints().hands[..., 1] - first.joints().shoulder[:, 1]).max(1)
        raised = first.arms.max(1) > 1.0
        assert raised.sum() == 1 and forwards[raised] > 0.27
        assert first.lean.max() > first.lean[0] + 0.08 and np.abs(second.lean - second.lean[0]).max() > 0.1
        assert second.way[-1] < second.way[0]


def test_who_pushes_does_so_with_both_hands_and_the_pushed_one_moves_away():
    for first, second in people("pushing"):
        assert (first.arms.max(1) > 1.0).all()
        touch = first.arms.min(0).argmax()
        assert second.way[-1] < second.way[touch] - 0.1
        apart = second.joints().hip[:, 1] - first.joints().hip[:, 1]
        assert apart[-1] > apart[touch] + 0.05


# Drawing


@pytest.mark.parametrize("view", [UPRIGHT, View(-1, 0, -0.1, 0.3)])
def test_a_capsule_is_drawn_as_pixel_by_pixel(view):
    size, color = 24, np.array([0.9, 0.2, 0.5])
    start = np.array([[-0.5, 0.1], [-0.2, 1.2], [-0.05, 0.2], [-0.4, 0.15]])
    end = np.array([[-0.3, 0.4], [0.3, 1.9], [-0.05, 0.2], [-0.9, 0.15]])  # the second leaves, the third is a disc
    shift = np.array([[0, 0], [1, -2], [3, 0], [0, 2]])
    canvas = np.random.default_rng(0).random((4, size, size, 3), np.float32)
    expected = canvas.astype(float)
    height, width = (view.bottom - view.top) / size, (view.right - view.left) / size
    for frame, row, column in np.ndindex(4, size, size):
        y = view.top + (row - shift[frame, 0] + 0.5) * height
        x = view.left + (column - shift[frame, 1] + 0.5) * width
        line, off = end[frame] - start[frame], np.array([y, x]) - start[frame]
        share = min(1, max(0, off @ line / max(line @ line, 1e-9)))
        distance = np.hypot(*(off - share * line))
        covered = min(1, max(0, 0.5 + (0.07 - distance) / ((height + width) / 2)))
        expected[frame, row, column] += covered * (color - expected[frame, row, column])
    before = canvas.copy()
    draw_capsule(canvas, Capsule(start, end, 0.07, color), Grid(view, size, shift))
    assert np.abs(canvas - before).max() > 0.3
    assert np.abs(canvas - expected).max() < 1e-4


def test_what_is_outside_the_picture_is_not_drawn():
    canvas = np.zeros((1, 16, 16, 3), np.float32)
    far = np.array([[-0.5, 9.0]])
    draw_capsule(canvas, Capsule(far, far + 0.2, 0.1, np.ones(3)), Grid(UPRIGHT, 16, np.zeros((1, 2), int)))
    assert not canvas.any()


def test_who_is_in_front_covers_who_is_behind():
    each = scene("pointing")
    person, look = each.people[-1]
    red, blue = (replace(look, shirt=np.array(color)) for color in ([1.0, 0, 0], [0, 0, 1.0]))
    plain = replace(each, gain=1.0, offset=0.0, grain=0.0, is_mirrored=False, shake=0 * each.shake)
    joints, view = person.joints(), each.view
    trunk = (0.3 * joints.hip + 0.7 * joints.shoulder)[0]
    share = (trunk - [view.top, view.left]) / [view.bottom - view.top, view.right - view.left]
    row, column = (48 * share).astype(int)
    for looks in ((red, blue), (blue, red)):
        pixels = drawn(replace(plain, people=tuple((person, own) for own in looks)))
        assert pixels[0, :, row, column].tolist() == (255 * looks[-1].shirt).tolist()


def test_a_mirrored_clip_is_the_clip_mirrored_and_half_of_them_are():
    each = replace(scene(), grain=0.02)
    one, other = (drawn(replace(each, is_mirrored=mirrored)) for mirrored in (False, True))
    assert np.array_equal(one, other[..., ::-1]) and not np.array_equal(one, other)
    for action in ACTIONS:
        count = sum(scene(action, seed).is_mirrored for seed in range(60))
        assert abs(count / 60 - 0.5) < 0.26  # 4 standard deviations


def test_a_shaking_camera_moves_everything_alike():
    still = replace(scene(), shake=np.zeros((8, 2)), grain=0.0, is_mirrored=False)
    moved = replace(still, shake=still.shake + np.array([3, -2]) / 48)
    assert np.array_equal(drawn(moved)[..., 3:, :-2], drawn(still)[..., :-3, 2:])


def test_a_larger_picture_shows_the_same_scene():
    each = replace(scene("hugging", 2), grain=0.0, shake=np.zeros((8, 2)))
    small, large = (torch.from_numpy(drawn(each, side)).float() for side in (36, 144))
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().mean() < 4


def test_noise_is_as_strong_as_said_and_the_exposure_linear():
    each = replace(scene(), gain=1.0, offset=0.0, grain=0.0)
    clean = drawn(each).astype(float)
    noise = (drawn(replace(each, grain=0.02)) - clean)[(clean > 20) & (clean < 235)]
    assert abs(noise.mean()) < 0.2 and noise.std() == pytest.approx(255 * 0.02, rel=0.05)
    brighter = drawn(replace(each, gain=0.8, offset=0.1)).astype(float)
    assert np.abs(brighter - np.clip(0.8 * clean + 25.5, 0, 255))[(clean > 0) & (clean < 255)].max() <= 1


def test_a_backdrop_is_finite_stands_still_and_differs_from_clip_to_clip():
    rng = np.random.default_rng(0)
    first, second = (draw_backdrop(random_backdrop(rng), 24, np.zeros((3, 2), int)) for _ in range(2))
    assert first.shape == (3, 24, 24, 3) and first.dtype == np.float32 and np.isfinite(first).all()
    assert np.array_equal(first[0], first[2]) and np.abs(first - second).mean() > 0.02


def test_the_view_holds_the_people_unless_somebody_may_leave_it():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        actors = act("pushing", rng, TIMES)
        x = np.concatenate([points[..., 1].ravel() for person in actors for points in person.joints()])
        view = random_view(rng, actors, is_cut_off=False)
        assert ((x > view.left) & (x < view.right)).mean() > 0.98 and view.bottom > 0 and view.top < -1.05
        cut = random_view(rng, actors, is_cut_off=True)
        assert cut.right - cut.left < 2.1


# The set


def small(**settings) -> FigureSet:
    return FigureSet(**{"num_clips": 14, "num_frames": 8, "image_size": 24, **settings})


def test_clips_have_the_form_that_models_take_and_every_class_appears():
    clips = small()
    assert clips.class_names == ["hand_shaking", "hugging", "kicking", "pointing", "punching", "pushing"]
    assert Counter(clips.labels) == {0: 3, 1: 3, 2: 2, 3: 2, 4: 2, 5: 2}
    assert clips[7]["pixel_values_videos"].shape == (8, 3, 24, 24) and clips[7]["labels"] == 1
    assert clips[7]["pixel_values_videos"].dtype == torch.uint8
    everything = torch.stack([clips.pixels(index) for index in range(len(clips))])
    assert len(torch.unique(everything.flatten(1), dim=0)) == 14
    assert (everything.float().std(1).flatten(1).mean(1) > 0).all()  # something moves in each


def test_a_clip_shows_the_action_of_its_class():
    clips = small()
    for index in range(6):
        rng = clips.generator(index)
        expected = draw_figures(random_figure_scene(clips.class_names[index], rng, 8), 24, rng)
        assert np.array_equal(clips.pixels(index).numpy(), expected)


def test_the_same_settings_give_the_same_clips_and_a_larger_set_contains_them():
    first, again, larger, other = small(), small(), small(num_clips=30), small(seed=1)
    for index in (0, 5, 13):
        assert torch.equal(first.pixels(index), again.pixels(index))
        assert torch.equal(first.pixels(index), larger.pixels(index))
        assert not torch.equal(first.pixels(index), other.pixels(index))


def test_no_clip_is_in_both_splits():
    train, validation = (
        {each["pixel_values_videos"].numpy().tobytes() for each in small(split=split)} for split in SPLITS
    )
    assert len(train) == len(validation) == 14 and not train & validation


@pytest.mark.parametrize(
    ("settings", "message"),
    [
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


def test_files_are_read_as_class_folders_and_as_list_and_are_not_mixed_with_others(tmp_path):
    sizes = {"num_train": 7, "num_validation": 6, "num_frames": 8, "image_size": 24}
    folder = write_figure_set(tmp_path / "set", **sizes)
    for config in (DataConfig(data=str(folder)), DataConfig(data=str(folder / LIST_NAME))):
        data = load_video_dataset(config)
        assert data.class_names == small().class_names
        assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 7, "validation": 6}
    settings = json.loads((folder / MANIFEST_NAME).read_text())["settings"]
    assert settings["kind"] == "figures" and settings["container"] == "mp4" and settings["num_frames"] == 8
    with pytest.raises(ValueError, match="holds a set with seed=0"):
        write_figure_set(folder, **sizes, seed=1)


def test_the_command_writes_figures_and_refuses_what_is_not_theirs(tmp_path, capsys):
    sizes = ["--num-train", "6", "--num-validation", "6", "--num-frames", "8", "--image-size", "24"]
    arguments = ["data", "synthesize", str(tmp_path / "set"), "--task", "figures", *sizes]
    for option in (["--level", "2"], ["--images"]):
        assert main([*arguments, *option]) == 2
        assert f"{option[0]} has no effect on --task figures" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert (
        "6 classes; chance is 16.7 %; single frames of simulated people" in said
        and "tubevit train --config figures data=" in said
    )
    assert {path.parent.name for path in (tmp_path / "set").rglob("*.mp4")} == set(ACTIONS)
