"""`--dry-run` of the commands that only read or copy: all checks and one file, and nothing is left behind. (Those that train
and evaluate have theirs beside their other tests.)"""

import json

import pytest
from saved_models import LABELS, save_model
from tiny_runs import make_videos

from tubevit import TubeViTVideoProcessor
from tubevit.training.benchmarks import bench
from tubevit.training.cli import main


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 2, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("model"))
    pixels = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    TubeViTVideoProcessor(num_frames=8, **pixels).save_pretrained(folder)
    return folder


def test_check_data_tries_the_first_file_of_each_split(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", str(videos), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "train: 6 videos" in shown and "validation: 3 videos" in shown and "3 classes" in shown
    broken = make_videos(tmp_path / "broken", 2, 1)
    for path in (broken / "train").rglob("*.mp4"):
        path.write_bytes(b"no video")
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "check", str(broken), "--dry-run"]) == 1
    assert capsys.readouterr().out.count("cannot be read") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_prepare_copies_one_video_and_leaves_nothing(videos, tmp_path, capsys):
    target = tmp_path / "a" / "copies"
    assert main(["data", "prepare", str(videos), str(target), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "9 of 9 videos are to be copied" in shown and "KiB from" in shown
    assert not list(tmp_path.iterdir())
    assert main(["data", "prepare", str(videos), str(target), "--no-timing", "--workers", "1"]) == 0
    before = {path: path.stat().st_mtime for path in target.rglob("*")}
    assert main(["data", "prepare", str(videos), str(target), "--dry-run"]) == 0
    assert "0 of 9 videos are to be copied" in capsys.readouterr().out
    assert main(["data", "prepare", str(videos), str(target), "--dry-run", "gop=7"]) == 2
    assert "was prepared with gop=24" in capsys.readouterr().err
    assert {path: path.stat().st_mtime for path in target.rglob("*")} == before


def test_prepare_takes_its_options_by_name(videos, tmp_path):
    options = [f"source={videos}", f"target={tmp_path / 'copies'}", "short-side=16", "no_timing=true", "gop=6"]
    assert main(["data", "prepare", *options, "--workers", "1"]) == 0
    settings = json.loads((tmp_path / "copies" / "prepare.json").read_text())
    assert (settings["short_side"], settings["gop"]) == (16, 6)
    assert len(list((tmp_path / "copies").rglob("*.mp4"))) == 9


def test_prepare_needs_two_folders(videos, capsys):
    assert main(["data", "prepare", str(videos)]) == 2
    assert "Give a folder of videos and a folder for their copies" in capsys.readouterr().err


def test_predict_tries_the_first_clip(videos, model, capsys):
    assert main(["predict", f"clips={videos}", f"model={model}", "top_k=1", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert sum(shown.out.count(f" {label}\n") for label in LABELS) == 1
    assert "the first of 9 clips was tried" in shown.err
    assert main(["predict", "--model", str(model)]) == 2
    assert "Give videos or images to classify" in capsys.readouterr().err


def test_predict_says_once_why_a_clip_cannot_be_read(model, tmp_path, capsys):
    missing = tmp_path / "missing.mp4"
    assert main(["predict", str(missing), "--model", str(model)]) == 1
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("No such file") == (shown.out + shown.err).count(str(missing)) == 1
    assert shown.err == "1 of 1 clips could not be read.\n"


def test_bench_takes_one_round_and_writes_nothing(monkeypatch, tmp_path, capsys):
    rounds = []
    section = (lambda args, device, number: rounds.append(number), lambda report: "a table")
    monkeypatch.setattr(bench, "SECTIONS", {"tokenizer": section})
    options = ["tokenizer=true", "preset=tiny", f"json={tmp_path / 'numbers.json'}"]
    assert main(["bench", *options, "--rounds", "9", "--dry-run"]) == 0
    assert rounds == [1] and not list(tmp_path.iterdir())
    assert "nothing was written" in capsys.readouterr().out
    assert main(["bench", *options, "rounds=9"]) == 0
    assert rounds == [1, 9] and list(tmp_path.iterdir())


def test_a_folder_where_a_model_is_still_to_be_written_says_so(tmp_path, capsys):
    for argv in (["predict", "clip.mp4", "--model", str(tmp_path)], ["export", str(tmp_path), str(tmp_path / "out")]):
        assert main(argv) == 2
        assert (
            "is empty, it has no config.json: the run that writes a model there has not ended, or was stopped"
            in capsys.readouterr().err
        )
