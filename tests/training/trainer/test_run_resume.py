"""A run that is killed and resumed ends with exactly the weights of an uninterrupted run; runs that cannot be resumed raise."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import tiny_runs
import torch
from safetensors.torch import load_file
from tiny_runs import (
    ONE_VIEW,
    TINY_MODEL,
    UNEVEN,
    WRONG_WEIGHTS,
    arguments,
    edit_weights,
    kill_behind,
    make_run,
    make_videos,
)
from video_classifiers import PEERS, save_peer
from warm_processes import run_python

from tubevit.training.cli import main
from tubevit.training.run_folder import write_run_files
from tubevit.training.run_video_classification import train
from tubevit.training.run_video_classification_no_trainer import train as train_loop
from tubevit.training.trainer import build
from tubevit.training.trainer.build import RunSetup
from tubevit.training.trainer.checkpointing import check_same_options, last_checkpoint
from tubevit.training.trainer.trainer_overrides import load_weights


RANDOM = {**tiny_runs.RANDOM, **UNEVEN}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 6, 2)


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(make_run(videos, folder, **RANDOM)) == 0
    return folder


def losses(folder: Path) -> list[float]:
    state = json.loads((folder / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


@pytest.mark.parametrize(("num_workers", "step"), [(0, 9), (2, 6)])
def test_killed_and_resumed_is_uninterrupted(num_workers, step, videos, whole, tmp_path):
    folder = tmp_path / "run"
    kill_behind(step, videos, folder, dataloader_num_workers=num_workers, **RANDOM)
    assert not (folder / "model.safetensors").exists()
    assert (
        train(make_run(videos, folder, resume_from_checkpoint="true", dataloader_num_workers=num_workers, **RANDOM))
        == 0
    )
    expected, resumed = load_file(whole / "model.safetensors"), load_file(folder / "model.safetensors")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert losses(folder) == losses(whole)


@pytest.fixture(scope="module")
def shards(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "tars"
    assert main(["data", "shard", str(videos), str(folder), "--as-is", "--shard-size", "0.04", "--workers", "1"]) == 0
    assert len(list(folder.glob("train-*.tar"))) > 3
    return folder


def test_a_run_on_shards_equals_a_run_on_files(shards, whole, tmp_path):
    assert train(make_run(shards, tmp_path / "run", **RANDOM)) == 0
    assert losses(tmp_path / "run") == losses(whole)
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path / "run"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("command", ["train", "train-loop"])
def test_killed_and_resumed_stream_of_shards_is_uninterrupted(command, shards, tmp_path, capsys):
    """With 0 workers, and killed and resumed with 2: the order does not depend on their number."""
    options = {
        **tiny_runs.RANDOM,
        "streaming": True,
        "shuffle_buffer_size": 5,
        "num_train_epochs": 2,
        "eval_strategy": "no",
    }
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main([command, *arguments(shards, whole, **options)]) == 0
    assert "The training clips are read one shard after the other" in capsys.readouterr().out
    kill_behind(7, shards, folder, command, dataloader_num_workers=2, **options)
    resumed = {**options, "dataloader_num_workers": 2, "resume_from_checkpoint": "true"}
    assert main([command, *arguments(shards, folder, **resumed)]) == 0
    expected, found = (load_file(each / "model.safetensors") for each in (whole, folder))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses(folder) == losses(whole)


def test_stream_of_shards_on_two_ranks_is_continued_exactly(shards, tmp_path):
    """Two processes cannot be killed behind one step of both: the files of a run that was killed are those up to a checkpoint."""
    options = {**RANDOM, "streaming": True, "shuffle_buffer_size": 3, "eval_strategy": "no", "save_steps": 3}
    options |= {
        "max_steps": 5,
        "per_device_train_batch_size": 2,
        "mixup_alpha": 0.0,
        "sampler": "random",
    }  # an epoch has five steps
    whole, folder = tmp_path / "whole", tmp_path / "run"

    def run(output: Path, **more) -> None:
        result = run_python(
            "-m", "tubevit.training.cli", "train", *arguments(shards, output, **options, **more), ranks=2
        )
        assert result.returncode == 0, result.stderr[-3000:]

    run(whole, dataloader_num_workers=2)
    later = ("checkpoint-5", "evaluation", "*.safetensors", "train_metrics.json", "trainer_state.json")
    shutil.copytree(
        whole,
        folder,
        ignore=lambda path, names: shutil.ignore_patterns(*later)(path, names) if path == str(whole) else [],
    )
    run(folder, resume_from_checkpoint="true")
    expected, found = (load_file(each / "model.safetensors") for each in (whole, folder))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses(folder) == losses(whole)


def test_resume_of_a_finished_run_changes_nothing(videos, whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    assert train(make_run(videos, folder, resume_from_checkpoint="true", **RANDOM)) == 0
    assert "holds a finished run: nothing is left to train" in capsys.readouterr().out
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert set(changed) <= {"README.md", "training_args.bin"}


def test_resume_after_the_last_step_takes_no_step(videos, tmp_path, capsys):
    """Trainer would take one; also for a run that was killed after its last checkpoint."""
    folder, options = tmp_path / "run", {**RANDOM, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    assert train(make_run(videos, folder, **options)) == 0
    weights, metrics = ((folder / name).read_bytes() for name in ("model.safetensors", "train_metrics.json"))
    for is_whole in (True, False):
        if not is_whole:
            (folder / "train_metrics.json").unlink()
        assert train(make_run(videos, folder, resume_from_checkpoint="true", **options)) == 0
        assert ("nothing is left to train" in capsys.readouterr().out) == is_whole
        assert (folder / "model.safetensors").read_bytes() == weights
        again = json.loads((folder / "train_metrics.json").read_text())
        assert again == pytest.approx(json.loads(metrics)) and again["steps"] == 4
        assert again["train_loss"] == pytest.approx(sum(losses(folder)) / 4)
        assert json.loads((folder / "throughput.json").read_text())["clips_per_second"] > 0
        assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_resumed_run_reports_loss_and_time_of_all_steps(whole, videos, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("evaluation", "train_metrics.json", "checkpoint-15"))
    (checkpoint,) = folder.glob("checkpoint-*")
    path, step = checkpoint / "trainer_state.json", int(checkpoint.name.removeprefix("checkpoint-"))
    state = json.loads(path.read_text())
    progress = state["stateful_callbacks"]["Progress"]["attributes"]
    assert progress["num_clips"] == 18 * (step // 5) + 4 * (step % 5)
    assert progress["sum_of_losses"] == pytest.approx(sum(losses(whole)[:step]))
    progress["seconds"] = 1000.0
    path.write_text(json.dumps(state))
    assert train(make_run(videos, folder, resume_from_checkpoint="true", **RANDOM)) == 0
    metrics, throughput = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("train_metrics", "throughput")
    )
    assert metrics == pytest.approx(json.loads((whole / "train_metrics.json").read_text()))
    assert metrics["train_loss"] == pytest.approx(sum(losses(whole)) / 15)
    assert 1000 < throughput["seconds"] < 2000
    assert throughput["clips_per_second"] == pytest.approx(3 * 18 / throughput["seconds"])


def test_early_stopping_patience_is_restored(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(RunSetup, "compute_metrics", property(lambda setup: lambda prediction: {"accuracy": 0.5}))
    monkeypatch.setattr(RunSetup, "best_metric", "accuracy")
    whole, options = tmp_path / "whole", {**ONE_VIEW, "num_train_epochs": 9, "early_stopping_patience": 2}
    assert train(make_run(videos, whole, **options, save_total_limit=None)) == 0
    assert sorted(path.name for path in whole.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-15",
        "checkpoint-5",
    ]
    weights, evaluated = (whole / "model.safetensors").read_bytes(), (whole / "evaluation" / "metrics.json").stat()
    capsys.readouterr()
    assert train(make_run(videos, whole, resume_from_checkpoint="true", **options)) == 0
    assert "nothing is left to train" in capsys.readouterr().out
    assert (whole / "model.safetensors").read_bytes() == weights
    assert (whole / "evaluation" / "metrics.json").stat() == evaluated
    shutil.rmtree(whole / "checkpoint-15")  # as if killed before it, but for what the end had written
    assert train(make_run(videos, whole, resume_from_checkpoint="true", **options)) == 0
    assert json.loads((whole / "train_metrics.json").read_text())["steps"] == 15
    assert (whole / "model.safetensors").read_bytes() == weights
    assert (whole / "evaluation" / "metrics.json").stat() != evaluated, "a model that is saved anew is scored anew"


def test_incomplete_evaluation_still_fails_after_a_resume(whole, videos, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    path = folder / "evaluation" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "is_complete": False}))
    assert train(make_run(videos, folder, resume_from_checkpoint="true", on_corrupt_video="raise", **RANDOM)) == 1
    assert train(make_run(videos, folder, resume_from_checkpoint="true", on_corrupt_video="skip", **RANDOM)) == 0


@pytest.fixture
def unfinished(whole, tmp_path):
    """An unfinished run with checkpoints."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("evaluation", "model.safetensors"))
    for name in ("model.safetensors",):
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.copy(whole / checkpoint.name / name, checkpoint / name)
    return folder


@pytest.mark.parametrize("edit", WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_resume_with_missing_or_unexpected_weights_raises(edit, videos, unfinished):
    edit_weights(last_checkpoint(unfinished, True, []), edit)
    with pytest.raises(ValueError, match="does not hold the weights of this model"):
        train(make_run(videos, unfinished, resume_from_checkpoint="true", **RANDOM))


@pytest.mark.parametrize("name", PEERS)
def test_load_weights_converts_keys(name, tmp_path):
    model, _ = save_peer(tmp_path, name)
    expected = {key: each.clone() for key, each in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.zero_()
    load_weights(model, tmp_path)
    assert all(torch.equal(each, expected[key]) for key, each in model.state_dict().items())
    for parameter in model.parameters():
        parameter.data.zero_()
    for lost in load_file(tmp_path / "model.safetensors"):
        save_peer(tmp_path, name)
        edit_weights(tmp_path, lambda tensors: {key: each for key, each in tensors.items() if key != lost})  # noqa: B023
        with pytest.raises(ValueError, match="does not hold the weights of this model"):
            load_weights(model, tmp_path)
    assert not any(parameter.any() for parameter in model.parameters())
    save_peer(tmp_path, name)
    edit_weights(tmp_path, lambda tensors: {**tensors, "classifier.bias": torch.zeros(5)})
    with pytest.raises(ValueError, match="1 are missing or of another shape, 0 are unexpected"):
        load_weights(model, tmp_path)


def test_models_with_renamed_keys_are_resumed(videos, tmp_path):
    save_peer(tmp_path / "source", "vivit", ["blue", "green", "red"])
    options = {**RANDOM, "model_config": None, "preset": None, "model_name_or_path": str(tmp_path / "source")}
    options |= {"drop_path_rate": None, "num_frames": None, "image_size": None, "short_side": None, "max_steps": 6}
    assert train(make_run(videos, tmp_path / "whole", **options)) == 0
    left_out = shutil.ignore_patterns("evaluation", "model.safetensors", "checkpoint-6")
    shutil.copytree(tmp_path / "whole", tmp_path / "run", ignore=left_out)
    start = tmp_path / "whole" / "checkpoint-4" / "model.safetensors"
    shutil.copy(start, tmp_path / "run" / "checkpoint-4")
    assert train(make_run(videos, tmp_path / "run", resume_from_checkpoint="true", **options)) == 0
    expected, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert expected.keys() == resumed.keys() == load_file(start).keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_incomplete_checkpoints_are_skipped(unfinished):
    messages = []
    newest = last_checkpoint(unfinished, True, messages)
    assert not messages
    for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "ema.safetensors"):
        broken = unfinished / "checkpoint-99"
        shutil.copytree(newest, broken)
        (broken / name).unlink()
        assert last_checkpoint(unfinished, True, messages) == newest
        assert name.split(".")[0] in messages.pop()
        shutil.rmtree(broken)
    for checkpoint in unfinished.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        last_checkpoint(unfinished, True, messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 1e-3}, "learning_rate=0.003, not 0.001"),
        ({"seed": 1}, "seed=42, not 1"),
        ({"lr_scheduler_kwargs": {"num_cycles": 1}}, r"has lr_scheduler_kwargs=None, not \{'num_cycles"),
        ({"model_config": TINY_MODEL}, "model_config"),
    ],
)
def test_resume_with_other_options_raises_before_the_data_are_read(options, message, videos, unfinished, monkeypatch):
    monkeypatch.setattr(build, "load_video_dataset", None)
    with pytest.raises(ValueError, match=message):
        train(make_run(videos, unfinished, **{**RANDOM, "resume_from_checkpoint": "true", **options}))


@pytest.mark.parametrize(
    ("saved", "current", "message"),
    [
        ("av", "torchcodec-cpu", None),
        ("torchcodec-cpu", "av", None),
        ("av", "torchcodec-cuda", "decoder='av', not 'torchcodec-cuda'"),
        ("torchcodec-cuda", "torchcodec-cpu", "decoder='torchcodec-cuda', not 'torchcodec-cpu'"),
    ],
)
def test_the_decoder_may_change_if_the_frames_are_equal(saved, current, message, tmp_path):
    run, resumed = (make_run(tmp_path / "videos", tmp_path, decoder=each) for each in (saved, current))
    write_run_files(tmp_path, vars(run), ["blue", "red"], {})
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        check_same_options(tmp_path, vars(resumed))


def test_resume_with_another_number_of_processes_raises(videos, unfinished):
    path = unfinished / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_processes": 2}))
    with pytest.raises(ValueError, match=r"was started with 2 processes; with 1 .* resume it with 2"):
        train(make_run(videos, unfinished, resume_from_checkpoint="true", **RANDOM))


@pytest.mark.parametrize("train", [train, train_loop])
def test_resume_with_other_data_raises_before_the_summary(train, videos, unfinished, tmp_path, capsys):
    other = tmp_path / "videos"
    shutil.copytree(videos, other)
    (other / "train" / "red" / "5.mp4").unlink()
    path = unfinished / "resolved_config.yaml"
    path.write_text(path.read_text().replace(str(videos), str(other)))
    with pytest.raises(ValueError, match=r"dataset\.json"):
        train(make_run(other, unfinished, resume_from_checkpoint="true", **RANDOM))
    assert capsys.readouterr().out == ""
