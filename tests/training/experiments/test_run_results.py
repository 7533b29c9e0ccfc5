"""Finished runs of `tubevit train` become result files, and rows of RESULTS.md, with a command that makes them again."""

import argparse
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import TINY_TUBES, tiny_config
from tiny_runs import TINY_MODEL

from tubevit import TubeViTForVideoClassification
from tubevit.training.cli import main
from tubevit.training.experiments.data_commands import find_data_command
from tubevit.training.experiments.paths import portable
from tubevit.training.experiments.run_command import WITHOUT_EFFECT, as_text, find_overrides, recipe_of
from tubevit.training.experiments.run_results import find_run, make_result
from tubevit.training.options import add_config_arguments, as_options, parse_arguments
from tubevit.training.run_folder import write_json, write_run_files
from tubevit.training.trainer.run_config import JointRun, TrainingRun, all_blocks, read_run


CLASSES = ["hop", "run", "skip"]
COUNTS = {"train": {"listed": 6, "cannot_be_read": 0, "used": 6}}
OPTIONS = {"preset": "tiny", "num_temporal_views": 2, "num_spatial_views": 3, "num_frames": 8}
ABSOLUTE = re.compile(r"(?<![\w.])/\w")  # a slash that begins a path


def write_run(folder, run, part=None, correct=3, command=("tubevit", "train"), **counts):
    """What `tubevit train` leaves behind, without having trained: the same functions write what decides the result."""
    model = folder / (part or "")
    (model / "evaluation").mkdir(parents=True)
    write_run_files(folder, vars(run), CLASSES, COUNTS)
    environment = json.loads((folder / "environment.json").read_text())
    write_json(folder / "environment.json", environment | {"command": list(command)})
    write_json(folder / "train_metrics.json", {"train_loss": 1.25, "steps": 40})
    write_json(folder / "throughput.json", {"seconds": 120.0})
    write_json(model / "evaluation" / "throughput.json", {"seconds": 3.0})
    tiny_config(num_labels=3).save_pretrained(model)  # the weights are not looked at
    evaluation = {"accuracy": correct / 5, "num_videos": 5, "num_scored": 5, "num_without_label": 0}
    reading = {"num_temporal_views": 2, "num_spatial_views": 3, "view_aggregation": "probs", "num_frames": 8}
    write_json(model / "evaluation" / "metrics.json", evaluation | reading | counts)
    rows = "\n".join(f"{i},{name},{number}" for i, (name, number) in enumerate(zip(CLASSES, (1, 3, 1), strict=True)))
    (model / "evaluation" / "per_class.csv").write_text(f"index,class,num_videos\n{rows}\n")
    return model


def plain_run(tmp_path, name="a", seed=0, correct=3, changes=None, **options):
    output = tmp_path / name
    run = TrainingRun.of(**OPTIONS, data=str(tmp_path / "clips"), output_dir=str(output), seed=seed, **(changes or {}))
    return write_run(output, run, correct=correct, **options)


def read_results(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("**/*.json"))]


def test_seeds_of_one_configuration_are_one_row(tmp_path, capsys):
    runs = [plain_run(tmp_path, f"run{seed}", seed, correct) for seed, correct in enumerate((3, 4))]
    runs.append(plain_run(tmp_path, "other", 0, 2, {"learning_rate": 3e-3}))
    assert main(["experiments", "results", str(tmp_path / "results"), "--add", *map(str, runs)]) == 0
    assert capsys.readouterr().out.count("Wrote ") == 4
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    assert "## `tubevit train` on clips (cpu)" in text and "5 validation examples" in text
    assert "Guessing the most frequent class: 60.0 %." in text
    row = next(line for line in text.splitlines() if line.startswith("| tiny, num_frames=8, num_temporal_views=2 |"))
    assert "| 70.0 | 14.1 | 60.0 - 80.0 | 2 | 3, 4 of 5 | 2 x 3 |" in row and "| 40 | 2.0 | 3.0 |" in row
    other = next(line for line in text.splitlines() if "learning_rate=0.003" in line and line.startswith("|"))
    assert "| 40.0 |  |  | 1 | 2 of 5 | 2 x 3 |" in other
    assert "INCOMPLETE" not in text and "Seeds 0, 1." in text
    assert "    tubevit train preset=tiny" in text and " seed=1 output_dir=run1\n" in text


def test_a_result_says_what_the_run_was(tmp_path):
    result = make_result(find_run(plain_run(tmp_path)), "Hopping")
    assert (result["title"], result["group"], result["size"]) == ("Hopping", "train_hopping", "cpu")
    assert result["scores"]["validation"] == {
        "accuracy": 0.6, "correct": 3, "number": 5, "listed": 5, "chance": 0.6,
    }  # fmt: skip
    config = tiny_config(num_labels=3)
    model = TubeViTForVideoClassification(config)
    assert result["parameters"] == sum(each.numel() for each in model.parameters())
    assert result["tokens"] == config.num_tokens(8) and result["views"] == "2 x 3" and result["gflops"] > 0
    assert (result["training_seconds"], result["evaluation_seconds"], result["seconds"]) == (120, 3, 123)
    assert result["settings"]["seed"] == 0 and "seed" not in result["settings"]["config"]
    environment = json.loads((tmp_path / "a" / "environment.json").read_text())
    for name in ("commit", "dirty", "machine", "date"):
        assert result[name] == environment[name]
    assert {"cpu", "cores", "torch", "transformers"} <= set(result["machine"])


def test_a_run_after_another_carries_what_that_one_was(tmp_path, monkeypatch):
    """Seeds that each started from a model of their own are one row, and the command makes both runs again."""
    monkeypatch.chdir(tmp_path)
    runs = []
    for seed in (0, 1):
        plain_run(tmp_path, f"first{seed}", seed, command=["tubevit", "train", "--config", "figures"])
        run = TrainingRun.of(
            **{name: value for name, value in OPTIONS.items() if name != "preset"},
            model_name_or_path=f"first{seed}",
            data="clips",
            output_dir=f"second{seed}",
            seed=seed,
        )
        runs.append(write_run(tmp_path / f"second{seed}", run, correct=3 + seed))
    first, second = (make_result(find_run(run)) for run in runs)
    assert first["name"] == second["name"] and first["about"] and first["steps"] == 80
    assert (first["training_seconds"], first["evaluation_seconds"]) == (240, 3)
    before, after = second["command"].split(" && ")
    assert before.startswith("tubevit train --config figures ") and " seed=1 " in before and before.endswith("first1")
    assert after.startswith("tubevit train model_name_or_path=first1 ") and after.endswith(
        " seed=1 output_dir=second1"
    )
    assert first["settings"]["start"]["config"]["preset"] == "tiny"
    assert "model_name_or_path" not in first["settings"]["config"]
    assert first["rows"][0]["title"].startswith("after figures,")
    path = tmp_path / "first0" / "environment.json"
    write_json(path, json.loads(path.read_text()) | {"commit": "another"})
    assert make_result(find_run(runs[0]))["dirty"] is True
    path = tmp_path / "first1" / "resolved_config.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.0001", "learning_rate: 0.0003"))
    assert make_result(find_run(runs[1]))["name"] != first["name"]
    path.unlink()
    alone = make_result(find_run(runs[1]))
    assert alone["steps"] == 40 and "start" not in alone["settings"] and "not counted" in alone["about"]
    assert alone["settings"]["config"]["model_name_or_path"] == "first1"


def test_what_runs_of_older_versions_did_not_write_is_unknown(tmp_path):
    folder = plain_run(tmp_path)
    path = folder / "environment.json"
    environment = json.loads(path.read_text())
    kept = {name: environment[name] for name in ("versions", "gpus", "num_processes", "command", "system")}
    write_json(path, kept)
    result = make_result(find_run(folder))
    assert result["commit"] == "unknown" and result["dirty"] is False
    assert set(result["machine"]) == {"torch", "transformers"}


def test_no_absolute_path_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / "data" / "clips", tmp_path.parent / "elsewhere" / "figures"
    datasets = {"real": {"data": str(inside)}, "made": {"train_data": str(outside), "video_root": "../videos"}}
    run = JointRun.of(
        **OPTIONS,
        datasets=datasets,
        output_dir=str(tmp_path.parent / "runs" / "joint"),
        lr_scheduler_kwargs={"file": str(tmp_path.parent / "zero.json")},
    )
    folder = write_run(tmp_path / "run", run, "real", command=["tubevit", "train", "--config", "/home/me/own.yaml"])
    assert main(["experiments", "results", "results", "--add", str(folder)]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result["settings"]["config"]["datasets"]["real"]["data"] == "data/clips"
    assert result["settings"]["config"]["lr_scheduler_kwargs"] == {"file": "zero.json"}
    for word in ("data/clips", "train_data=figures", "video_root=../videos", "output_dir=joint", "zero.json"):
        assert word in result["command"]
    for path in [*(tmp_path / "results").glob("**/*.json"), tmp_path / "results" / "RESULTS.md"]:
        assert not ABSOLUTE.search(path.read_text()), path


def test_paths_become_portable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable([str(tmp_path / "a" / "b"), str(tmp_path.parent), "~/x/y", "C:\\clips\\mine", "file:///a/b"]) == [
        "a/b", tmp_path.parent.name, "y", "mine", "b",
    ]  # fmt: skip
    same = {"a": ["../clips", "org/name", "on", 3, None, True], "b": {"c": "a/b"}}
    assert portable(same) == same


@pytest.mark.parametrize("recipe", [None, "joint-small"])
def test_the_command_makes_the_same_run(recipe):
    """Whatever the options are, read back from the command they are what they were."""
    datasets = {
        "videos": {"kind": "video", "weight": 1, "data": "my clips", "flip": "on", "label_smoothing": 0.0},
        "images": {"kind": "image", "weight": 2, "data": "1e5", "multi_label": None},
    }
    options = {
        "datasets": datasets,
        "preset": "tiny",
        "model_config": {**TINY_MODEL, "hidden_act": "no", "tubes": TINY_TUBES},
        "learning_rate": 3e-5,
        "fps": 12.5,
        "ddp_timeout": 60,
        "seed": 7,
        "output_dir": "runs/it's",
    }
    run = JointRun.of(**options)
    values = {name: value for block in vars(run).values() for name, value in as_options(block).items()}
    overrides = find_overrides(values, recipe) | {"output_dir": "runs/it's"}
    words = shlex.split(" ".join(shlex.quote(f"{key}={text}") for key, text in overrides.items()))
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, all_blocks())
    again = read_run(parse_arguments(parser, [*(["--config", recipe] if recipe else []), *words]))
    free = {name: run.training.given[name] for name in WITHOUT_EFFECT}
    assert replace(again, training=again.training.copy(**free)) == run
    # What a recipe changes and the run does not is set back.
    assert ("gradient_accumulation_steps" in overrides) == (recipe is not None)


def test_only_what_differs_from_the_recipe_is_in_the_command(tmp_path):
    command = ["tubevit", "train", "--config=joint-small", "datasets.videos.data=a"]
    assert recipe_of({"command": command}) == "joint-small"
    assert recipe_of({"command": ["tubevit", "train", "--config", "mine.yaml"]}) is None
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, all_blocks())
    given = ["datasets.videos.data=a", "datasets.images.data=b", "max_steps=7000", "logging_steps=7"]
    run = read_run(parse_arguments(parser, ["--config", "joint-small", *given]))
    values = {name: value for block in vars(run).values() for name, value in as_options(block).items()}
    assert find_overrides(values, "joint-small") == dict(each.split("=") for each in given[:3])


def test_several_processes_and_the_plain_loop_are_in_the_command(tmp_path):
    folder = plain_run(tmp_path, command=["tubevit", "train-loop"])
    assert make_result(find_run(folder))["command"].startswith("tubevit train-loop preset=tiny ")
    environment = json.loads((folder / "environment.json").read_text())
    write_json(folder / "environment.json", environment | {"num_processes": 2})
    command = make_result(find_run(folder))["command"]
    assert command.startswith(
        "torchrun --nproc-per-node 2 training/run_video_classification_no_trainer.py preset=tiny "
    )


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("evaluation/metrics.json", "was not evaluated"),
        ("train_metrics.json", "did not end"),
        ("resolved_config.yaml", "is no run of `tubevit train`"),
    ],
)
def test_runs_that_are_not_whole_are_refused(lacking, message, tmp_path, capsys):
    whole, folder = plain_run(tmp_path, "whole"), plain_run(tmp_path, "broken", 1)
    (folder / lacking).unlink()
    assert main(["experiments", "results", str(tmp_path / "results"), "--add", str(whole), str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_an_incomplete_evaluation_says_so_in_the_table(tmp_path):
    folder = plain_run(tmp_path, num_videos=6)
    assert main(["experiments", "results", str(tmp_path / "results"), "--add", str(folder)]) == 0
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    assert "| INCOMPLETE: scored |" in text and "| 3 of 5 | 5 of 6 |" in text


def test_a_joint_run_is_added_by_its_data_sets(tmp_path, capsys):
    datasets = {"real": {"data": "a/ut"}, "made": {"data": "figures"}}
    run = JointRun.of(**OPTIONS, datasets=datasets, output_dir="runs/joint")
    folder = write_run(tmp_path / "joint", run, "real")
    assert main(["experiments", "results", str(tmp_path / "results"), "--add", str(folder.parent)]) == 2
    error = capsys.readouterr().err
    assert str(folder) in error and error.count("\n") == 1
    assert (
        main(["experiments", "results", str(tmp_path / "results"), "--add", str(folder), "--title", "Real | clips"])
        == 0
    )
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    assert "## Real | clips (cpu)" in text and "**Data set real of a joint run**" in text


def test_scores_of_another_kind_are_refused(tmp_path):
    folder = plain_run(tmp_path, accuracy=None)
    with pytest.raises(ValueError, match="not scored by accuracy"):
        make_result(find_run(folder))


def test_the_same_run_may_be_added_again_and_another_with_its_settings_not(tmp_path, capsys):
    one, same, other = plain_run(tmp_path, "a"), plain_run(tmp_path, "b"), plain_run(tmp_path, "c", correct=1)
    results = str(tmp_path / "results")
    assert main(["experiments", "results", results, "--add", str(one)]) == 0
    assert main(["experiments", "results", results, "--add", str(one), str(same)]) == 0
    assert len(read_results(tmp_path / "results")) == 1
    assert main(["experiments", "results", results, "--add", str(other)]) == 2
    assert "same seed and settings" in capsys.readouterr().err
    assert main(["experiments", "results", str(tmp_path / "fresh"), "--add", str(one), str(other)]) == 2
    assert not (tmp_path / "fresh").exists()


def test_a_title_without_runs_is_refused(tmp_path, capsys):
    assert main(["experiments", "results", str(tmp_path), "--title", "Runs"]) == 2
    assert "--add" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value", ["null", "1e5", "on", "a: b", "[x", "plain", "it's", 1e-8, True, None, [1, {"a": 2.5}]]
)
def test_entries_are_read_as_they_were(value):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, all_blocks())
    args = parser.parse_args(["data=x", "preset=tiny", f"model_config.some={as_text(value, True)}"])
    assert read_run(args).model.model_config == {"some": value}


SMALL_SET = ["--num-train", "2", "--num-validation", "1", "--num-frames", "8", "--image-size", "32", "--seed", "3"]


@pytest.mark.parametrize(
    "options",
    [
        ["--task", "figures"],
        ["--images", "--level", "2"],
        ["--task", "direction", "--level", "3", "--container", "webm"],
    ],
    ids=["figures", "images", "shapes"],
)
def test_the_command_that_made_data_makes_them_again(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "synthesize", "data/all made", *options, *SMALL_SET]) == 0
    command = find_data_command("data/all made")
    made = Path("data/all made").rename("before")
    assert main(shlex.split(command)[1:]) == 0
    files = {path.relative_to(made) for path in made.glob("**/*")}
    assert {path.relative_to("data/all made") for path in Path("data/all made").glob("**/*")} == files
    assert Path("data/all made/motion_set.json").read_text() == (made / "motion_set.json").read_text()


def test_a_row_says_how_its_data_were_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "synthesize", "made", "--task", "order", *SMALL_SET]) == 0
    assert main(["data", "prepare", "made", "clips", "--short-side", "24", "--gop", "4", "--no-timing"]) == 0
    command = find_data_command("clips")
    assert command == "tubevit prepare VIDEOS clips --short-side 24 --gop 4 --crf 23 --preset veryfast"
    assert make_result(find_run(plain_run(tmp_path)))["about"] == f"The data were made by `{command}`."
    for nothing in ("made/train", "nowhere"):
        assert find_data_command(nothing) is None
