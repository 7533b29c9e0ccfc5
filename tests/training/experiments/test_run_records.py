"""Finished runs of `tubevit train` become records, and rows of RESULTS.md, with the command that made them."""

import json
import re

import pytest
from tiny_models import tiny_config

from tubevit import TubeViTConfig, TubeViTForVideoClassification
from tubevit.training.cli import main
from tubevit.training.experiments.run_records import portable, record_run
from tubevit.training.models.families import family_of
from tubevit.training.models.lora import with_adapters
from tubevit.training.models.model_options import ModelConfig
from tubevit.training.run_folder import write_json, write_run_files
from tubevit.training.trainer.run_config import JointRun, TrainingRun


CLASSES = ["hop", "run", "skip"]
COUNTS = {"train": {"listed": 6, "cannot_be_read": 0, "used": 6}}
OPTIONS = {"preset": "tiny", "num_temporal_views": 2, "num_spatial_views": 3, "num_frames": 8}
ABSOLUTE = re.compile(r"(?<![\w.])/\w")  # a slash that begins a path


def write_run(folder, run, part=None, correct=3, command=("tubevit", "train", "preset=tiny"), **counts):
    """What `tubevit train` leaves behind, without having trained: the same functions write what decides the result."""
    model = folder / (part or "")
    (model / "evaluation").mkdir(parents=True)
    write_run_files(folder, vars(run), CLASSES, COUNTS)
    environment = json.loads((folder / "environment.json").read_text())
    write_json(folder / "environment.json", environment | {"command": list(command)})
    write_json(folder / "train_metrics.json", {"train_loss": 1.25, "steps": 40})
    write_json(
        folder / "trainer_state.json", {"log_history": [{"step": 40, "loss": 1.5}, {"step": 40, "eval_loss": 1.0}]}
    )
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
    assert "Chance (always the most frequent class): 60.0 %." in text
    row = next(line for line in text.splitlines() if line.startswith("| tiny | 70.0"))
    assert "| 70.0 | 14.1 | 60.0 - 80.0 | 2 | 3, 4 of 5 | 2 x 3 |" in row and "| 40 | 2.0 | 3.0 |" in row
    other = next(line for line in text.splitlines() if line.startswith("| tiny | 40.0"))
    assert "| 40.0 |  |  | 1 | 2 of 5 | 2 x 3 |" in other
    assert "INCOMPLETE" not in text and "Seeds 0, 1." in text
    assert "    tubevit train preset=tiny\n" in text


def test_a_result_says_what_the_run_was(tmp_path):
    result = record_run(plain_run(tmp_path), "Hopping")
    assert (result["title"], result["group"], result["size"]) == ("Hopping", "train_hopping", "cpu")
    assert result["scores"]["validation"] == {
        "accuracy": 0.6, "correct": 3, "number": 5, "listed": 5, "chance": 0.6,
    }  # fmt: skip
    config = tiny_config(num_labels=3)
    model = TubeViTForVideoClassification(config)
    assert result["parameters"] == sum(each.numel() for each in model.parameters())
    assert result["tokens"] == config.num_tokens(8) and result["views"] == "2 x 3" and result["gflops"] > 0
    assert (result["training_seconds"], result["evaluation_seconds"], result["seconds"]) == (120, 3, 123)
    assert result["settings"]["seed"] == 0 and result["losses"] == [{"step": 40, "loss": 1.5}]
    environment = json.loads((tmp_path / "a" / "environment.json").read_text())
    for name in ("commit", "dirty", "machine", "date"):
        assert result[name] == environment[name]
    assert {"cpu", "cores", "torch", "transformers"} <= set(result["machine"])


@pytest.mark.parametrize("options", [{}, {"num_frozen_layers": 1, "lora_target_modules": "q_proj,fc1"}])
def test_a_run_with_adapters_counts_what_it_trained(options, tmp_path):
    pytest.importorskip("peft")
    whole = record_run(plain_run(tmp_path))
    folder = plain_run(tmp_path, "lora", changes={"lora_rank": 2, **options})
    tiny_config(num_labels=3, num_frozen_layers=options.get("num_frozen_layers", 0)).save_pretrained(folder)
    model = TubeViTForVideoClassification(TubeViTConfig.from_pretrained(folder))
    adapted = with_adapters(ModelConfig(preset="tiny", lora_rank=2, **options), model, family_of(model.config), [])
    result = record_run(folder)
    assert result["parameters"] == whole["parameters"] == whole["trained_parameters"]
    assert result["trained_parameters"] == adapted.get_nb_trainable_parameters()[0] < result["parameters"] / 2


def test_a_run_after_another_carries_what_that_one_was(tmp_path, monkeypatch):
    """Seeds that each started from a model of their own are one row, and the command makes both runs again."""
    monkeypatch.chdir(tmp_path)
    runs = []
    for seed in (0, 1):
        plain_run(tmp_path, f"first{seed}", seed, command=["tubevit", "train", "--config", "figures", f"seed={seed}"])
        run = TrainingRun.of(
            **{name: value for name, value in OPTIONS.items() if name != "preset"},
            model_name_or_path=f"first{seed}",
            data="clips",
            output_dir=f"second{seed}",
            seed=seed,
        )
        own = ["tubevit", "train", f"model_name_or_path={tmp_path}/first{seed}"]
        runs.append(write_run(tmp_path / f"second{seed}", run, correct=3 + seed, command=own))
    first, second = (record_run(run) for run in runs)
    assert first["name"] == second["name"] and first["about"] and first["steps"] == 80
    assert (first["training_seconds"], first["evaluation_seconds"]) == (240, 3)
    before, after = second["command"].split(" && ")
    assert before == "tubevit train --config figures seed=1" and after == "tubevit train model_name_or_path=first1"
    assert first["settings"]["init_from"]["weights"]["preset"] == "tiny"
    assert "model_name_or_path" not in first["settings"]
    assert first["rows"][0]["title"] == "after figures"
    path = tmp_path / "first0" / "environment.json"
    write_json(path, json.loads(path.read_text()) | {"commit": "another"})
    assert record_run(runs[0])["dirty"] is True
    path = tmp_path / "first1" / "resolved_config.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.0005", "learning_rate: 0.0003"))
    assert record_run(runs[1])["name"] != first["name"]
    path.unlink()
    alone = record_run(runs[1])
    assert alone["steps"] == 40 and "init_from" not in alone["settings"] and "not counted" in alone["about"]
    assert alone["settings"]["model_name_or_path"] == "first1"


def test_what_runs_of_older_versions_did_not_write_is_unknown(tmp_path):
    folder = plain_run(tmp_path)
    path = folder / "environment.json"
    environment = json.loads(path.read_text())
    kept = {name: environment[name] for name in ("versions", "gpus", "num_processes", "command", "system")}
    write_json(path, kept)
    result = record_run(folder)
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
        fsdp_config={"activation_checkpointing": str(tmp_path.parent / "zero.json")},
    )
    folder = write_run(
        tmp_path / "run",
        run,
        "real",
        command=["tubevit", "train", "--config=/home/me/own.yaml", f'a={{"b": "{outside}"}}', "c=../d/e"],
    )
    assert main(["experiments", "results", "results", "--add", str(folder)]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result["settings"]["datasets"]["real"]["data"] == "data/clips"
    assert result["settings"]["fsdp_config"]["activation_checkpointing"] == "zero.json"
    assert result["command"] == """tubevit train --config=own.yaml 'a={"b": "figures"}' c=../d/e"""
    for path in [*(tmp_path / "results").glob("**/*.json"), tmp_path / "results" / "RESULTS.md"]:
        assert not ABSOLUTE.search(path.read_text()), path


def test_paths_become_portable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable([str(tmp_path / "a" / "b"), str(tmp_path.parent), "~/x/y", "C:\\clips\\mine", "file:///a/b"]) == [
        "a/b", tmp_path.parent.name, "y", "mine", "b",
    ]  # fmt: skip
    same = {"a": ["../clips", "org/name", "on", 3, None, True], "b": {"c": "a/b"}}
    assert portable(same) == same


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("evaluation/metrics.json", "was not evaluated"),
        ("train_metrics.json", "is not finished"),
        ("resolved_config.yaml", "is not a run of `tubevit train`"),
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
    with pytest.raises(ValueError, match="no accuracy"):
        record_run(folder)


def test_the_same_run_may_be_added_again_and_another_with_its_settings_not(tmp_path, capsys):
    one, same, other = plain_run(tmp_path, "a"), plain_run(tmp_path, "b"), plain_run(tmp_path, "c", correct=1)
    results = str(tmp_path / "results")
    assert main(["experiments", "results", results, "--add", str(one)]) == 0
    assert main(["experiments", "results", results, "--add", str(one), str(same)]) == 0
    assert len(read_results(tmp_path / "results")) == 1
    assert main(["experiments", "results", results, "--add", str(other)]) == 2
    assert "same seed and options" in capsys.readouterr().err
    assert main(["experiments", "results", str(tmp_path / "fresh"), "--add", str(one), str(other)]) == 2
    assert not (tmp_path / "fresh").exists()


def test_a_title_without_runs_is_refused(tmp_path, capsys):
    assert main(["experiments", "results", str(tmp_path), "--title", "Runs"]) == 2
    assert "--add" in capsys.readouterr().err
