"""Linear baselines: they find what they are told to look at, and nothing where only the order of frames differs."""

import json

import numpy as np
import pytest
import torch
from dataset_files import class_folders

from tubevit.training.cli import main
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.experiments.linear_baselines import (
    FEATURES,
    SIDE,
    Clips,
    motion_energy,
    read_clips,
    score,
    synthetic_clips,
    to_grayscale,
    unordered_frames,
)
from tubevit.training.experiments.results import load_records
from tubevit.training.synthetic.motion_set import MotionSet


def invented_clips(number: int, seed: int, kind: str) -> Clips:
    """Noise of two classes that differ in appearance, in how much moves, or in the order of frames."""
    rng = np.random.default_rng(seed)
    frames = rng.uniform(size=(number, 7, 4, 4))
    labels = np.arange(number) % 2
    if kind == "appearance":
        frames[labels == 1, :, :2] += 1
    elif kind == "motion":
        frames[labels == 0] = frames[labels == 0].mean(1, keepdims=True)
        frames += rng.uniform(-1, 1, (number, 1, 4, 4))
    else:  # brighter or darker from frame to frame
        frames = frames[:, :1] + np.linspace(0, 1, 7)[:, None, None]
        frames[labels == 1] = frames[labels == 1][:, ::-1]
        frames += rng.uniform(-1, 1, (number, 1, 1, 1))
    return Clips(frames, labels)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("appearance", {"one frame": True}), ("motion", {"one frame": False, "motion energy": True}),
     ("order", {"one frame": False, "frames without order": False, "motion energy": False})],
)  # fmt: skip
def test_each_classifier_sees_what_its_features_hold(kind, expected):
    accuracies = score(invented_clips(200, 0, kind), invented_clips(200, 1, kind))
    assert accuracies["chance"] == 0.5
    for name, is_seen in expected.items():
        assert (accuracies[name] > 0.95) if is_seen else (abs(accuracies[name] - 0.5) < 0.16)


def test_features_do_not_change_with_what_they_are_blind_to():
    frames = np.random.default_rng(0).uniform(size=(3, 7, 4, 4))
    shuffled = frames[:, np.random.default_rng(1).permutation(7)]
    assert np.allclose(unordered_frames(shuffled), unordered_frames(frames))
    assert not np.allclose(motion_energy(shuffled), motion_energy(frames))
    assert np.allclose(motion_energy(frames + 5), motion_energy(frames))
    # Backwards, the three parts of the clip change places.
    parts = motion_energy(frames).reshape(3, 3, -1)
    assert np.allclose(motion_energy(frames[:, ::-1]).reshape(3, 3, -1), parts[:, ::-1])
    assert motion_energy(frames[:, :2]).shape == (3, 16)  # two frames have one difference


def test_grayscale_frames_are_means_over_areas_of_the_whole_frame():
    frames = torch.randint(0, 256, (2, 3, 48, 72), dtype=torch.uint8)
    gray = to_grayscale(frames)
    assert gray.shape == (2, SIDE, SIDE)
    expected = (frames[1, :, 2:4, 3:6].double().mean((1, 2)) / 255 * torch.tensor([0.299, 0.587, 0.114])).sum()
    assert gray[1, 1, 1].item() == pytest.approx(expected.item(), abs=1e-6)


def test_invented_clips_and_files_give_the_same_kind_of_arrays(tmp_path):
    frames, labels = synthetic_clips(MotionSet("speed", num_clips=3, num_frames=8, image_size=32))
    assert frames.shape == (3, 8, SIDE, SIDE) and labels.tolist() == [0, 1, 0]
    folder = class_folders(tmp_path, {"train": {"hop": 1, "skip": 1}, "val": {"hop": 1}})
    frames, labels = read_clips(load_video_dataset(DataConfig(data=str(folder))).splits["train"], 20, "reading")
    assert frames.shape == (2, 20, SIDE, SIDE) and labels.tolist() == [0, 1]
    assert 0 < frames.max() <= 1


@pytest.mark.parametrize("task", ["approach", "order"])
def test_one_frame_and_unordered_frames_of_the_synthetic_set_tell_nothing(task):
    def clips(split, number):
        return Clips(*synthetic_clips(MotionSet(task, 2, split, number, num_frames=8, image_size=24)))

    accuracies = score(clips("train", 200), clips("validation", 200))
    assert abs(accuracies["one frame"] - 0.5) < 0.16  # 4.5 standard deviations
    assert abs(accuracies["frames without order"] - 0.5) < 0.16


def test_the_command_scores_files(tmp_path, capsys):
    folder = class_folders(tmp_path / "data", {"train": {"hop": 2, "skip": 2}, "val": {"hop": 1, "skip": 1}})
    assert (
        main(["experiments", "baselines", str(folder), "--num-frames", "4", "--json", str(tmp_path / "out.json")]) == 0
    )
    said = capsys.readouterr().out
    assert all(name in said for name in FEATURES)
    (result,) = json.loads((tmp_path / "out.json").read_text())
    assert result["num_train"] == 4 and result["num_validation"] == 2 and result["num_frames"] == 4
    assert result["accuracies"][0].keys() == {"chance", *FEATURES}


def test_the_command_scores_synthetic_sets(tmp_path, capsys):
    sizes = ["--num-train", "12", "--num-validation", "6", "--num-frames", "8", "--image-size", "16", "--seeds", "2"]
    arguments = ["experiments", "baselines", "--synthetic", "--task", "order", "speed", "--level", "2", *sizes]
    assert main([*arguments, "--json", str(tmp_path / "out.json")]) == 0
    assert "synthetic, speed, level 2" in capsys.readouterr().out
    results = json.loads((tmp_path / "out.json").read_text())
    assert [result["data"] for result in results] == ["synthetic, order, level 2", "synthetic, speed, level 2"]
    assert all(len(result["accuracies"]) == 2 for result in results)


def test_result_files_of_made_sets_are_read_back_as_one_table(tmp_path, capsys):
    sizes = ["--num-train", "12", "--num-validation", "6", "--num-frames", "8", "--image-size", "16", "--seeds", "2"]
    arguments = ["experiments", "baselines", "--synthetic", "--task", "order", "speed", "--level", "2", *sizes]
    output = ["--json", str(tmp_path / "out.json"), "--output", str(tmp_path / "results")]
    assert main([*arguments, *output]) == 0
    scores = [result["accuracies"] for result in json.loads((tmp_path / "out.json").read_text())]
    results = load_records(tmp_path / "results")
    # In the order of `data synthesize`, in which speed stands behind order.
    assert [result["name"] for result in results] == ["synthetic-order-level2", "synthetic-speed-level2"]
    assert [result["accuracies"] for result in results] == scores
    assert results[0]["settings"]["seeds"] == [0, 1] and results[0]["seconds"] > 0
    assert main(["experiments", "results", str(tmp_path / "results")]) == 0
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    tables = [line for line in text.splitlines() if line.startswith("|  |")]
    assert len(tables) == 1 and all(f"{name}, %" in tables[0] for name in ["chance", *FEATURES])
    for result, accuracies in zip(results, scores, strict=True):
        (row,) = (
            line
            for line in text.splitlines()
            if line.startswith(f"| synthetic, {result['settings']['task']}, level 2")
        )
        shares = [100 * each["motion energy"] for each in accuracies]
        assert f"| {np.mean(shares):.1f} ± {np.std(shares, ddof=1):.1f} | 2 | 12 | 6 | 8 |" in row
    command = next(line for line in text.splitlines() if line.startswith("    tubevit experiments baselines"))
    assert sorted(command.split()[1:]) == sorted(arguments)
    # The same again is fine, and other clips in its place are refused before they are drawn.
    assert main([*arguments, *output]) == 0
    assert main([*arguments[:-4], "--seeds", "3", *output]) == 2
    assert "has other settings" in capsys.readouterr().err


def test_result_files_of_videos_have_no_absolute_path(tmp_path, monkeypatch):
    folder = class_folders(tmp_path / "my data", {"train": {"hop": 2, "skip": 2}, "val": {"hop": 1, "skip": 1}})
    other = tmp_path / "other"
    other.mkdir()
    for here, data in ((folder.parent, "my data"), (other, "my data")):
        monkeypatch.chdir(here)
        output = tmp_path / f"from {here.name}"
        assert (
            main(
                ["experiments", "baselines", str(folder), "split_seed=3", "--num-frames", "4", "--output", str(output)]
            )
            == 0
        )
        (result,) = load_records(output)
        assert result["settings"]["options"] == {"data": data, "split_seed": 3}
        assert result["command"] == f"tubevit experiments baselines 'data={data}' split_seed=3 --num-frames 4"
        assert result["table"]["rows"][0][0] == data and str(tmp_path) not in json.dumps(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--synthetic", "somewhere"], "Give 'somewhere' or --synthetic, not both"),
        (["--synthetic", "--data", "somewhere"], "Give '--data' or --synthetic, not both"),
        (["--synthetic", "--config", "a.yaml"], "Give 'a.yaml' or --synthetic, not both"),
        (["somewhere", "streaming=true"], "leave out streaming=true"),
        ([], "Give data"),
        (["--synthetic", "--json", "no/such/folder.json"], "there is no folder"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(["experiments", "baselines", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
