"""Trackers and terminal output of a run."""

import json
import logging
import re
import shutil
import subprocess
import sys
import time
import warnings

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import ONE_VIEW, arguments, environment, make_run, make_videos
from transformers.utils import logging as library_logging

from tubevit.processing.cpu_cores import num_cores
from tubevit.training import logging_utils, run_video_classification, run_video_classification_no_trainer
from tubevit.training.data.worker_processes import waiting_messages, worker_messages
from tubevit.training.logging_utils import progress_bar


SCRIPTS = {"train": run_video_classification, "train-loop": run_video_classification_no_trainer}
SHORT = {**ONE_VIEW, "max_steps": 4, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 6, 1)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_tensorboard_has_the_curve(script, videos, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert script.train(make_run(videos, tmp_path / "run", report_to="tensorboard", **SHORT)) == 0
    (path,) = (tmp_path / "run" / "runs").rglob("events.out.tfevents.*")
    events = EventAccumulator(str(path.parent)).Reload()
    (tag,) = (tag for tag in events.Tags()["scalars"] if tag.removeprefix("train/") == "loss")
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    logged = [(entry["step"], entry["loss"]) for entry in state["log_history"] if "loss" in entry]
    assert len(logged) == 4
    assert [(event.step, event.value) for event in events.Scalars(tag)] == [
        (step, pytest.approx(loss, rel=1e-6)) for step, loss in logged
    ]


def test_loop_trains_resumes_and_merges_lora(videos, tmp_path):
    pytest.importorskip("peft")
    options = {**SHORT, "lora_rank": 2, "save_strategy": "steps", "save_steps": 2, "save_total_limit": None}
    train = run_video_classification_no_trainer.train
    assert train(make_run(videos, tmp_path / "whole", **options)) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "step-4"))
    (tmp_path / "run" / "model.safetensors").unlink()
    assert train(make_run(videos, tmp_path / "run", resume_from_checkpoint="true", **options)) == 0
    expected, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert expected.keys() == resumed.keys() and not any("lora" in name for name in expected)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_libraries_print_nothing(videos, tmp_path):
    """Without a terminal there are no progress bars, and only the commands themselves print."""
    argvs = [
        [command, *arguments(videos, tmp_path / command, dataloader_num_workers=num_cores() + 1, **SHORT)]
        for command in SCRIPTS
    ]
    code = "import json, sys; from tubevit.training.cli import main; sys.exit(sum(map(main, json.loads(sys.argv[1]))))"
    command = [sys.executable, "-c", code, json.dumps(argvs)]
    # A real process: a forked one reports at its end what Triton "leaked", because its parent's objects are not collected.
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and result.stderr == ""
    message = f"{num_cores() + 1} DataLoader workers run on {num_cores()} cores"
    assert result.stdout.count(message) == len(SCRIPTS)


STEP = re.compile(
    r"step (\d) of 4 \(\d+ %\): loss (\d\.\d+), learning rate [\d.e-]+, [\d.e+]+ clips/(s|min), \d+ s left"
)
EVALUATION = re.compile(r"step (\d) of 4, evaluation: .*accuracy \d+\.\d %.*majority class rate 33\.3 %.*")


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_log_has_readable_lines(script, videos, tmp_path, monkeypatch, capsys):
    """Of each step, where a minute has passed since the last line; never a dictionary."""
    options = {**ONE_VIEW, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"}
    options |= {"load_best_model_at_end": False, "check_data": False, "gradient_accumulation_steps": 2}
    assert script.train(make_run(videos, tmp_path / "fast", **options)) == 0
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.startswith("The model takes ")]  # after the fifth batch
    start = lines.index("Training starts: 4 steps.")
    assert [EVALUATION.fullmatch(line)[1] for line in lines[start + 1 : start + 3]] == ["2", "4"]
    assert not [line for line in lines if "{" in line or (line.startswith("step ") and "evaluation" not in line)]
    monkeypatch.setattr(logging_utils, "SECONDS_BETWEEN_LINES", 0.0)
    assert script.train(make_run(videos, tmp_path / "slow", **options)) == 0
    lines = capsys.readouterr().out.splitlines()
    matches = [match for match in map(STEP.fullmatch, lines) if match]
    assert [match[1] for match in matches] == ["1", "2", "3", "4"]
    assert "step 2 of 4, evaluation: 1 batches done" in lines or script is SCRIPTS["train-loop"]
    state = json.loads((tmp_path / "slow" / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert [float(match[2]) for match in matches] == pytest.approx(losses, rel=2e-3)


def test_lines_come_once_a_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(logging_utils.time, "monotonic", lambda: now[0])
    for _ in progress_bar(range(40), "checking", unit="file"):
        now[0] += 25  # seconds per file
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 13  # every third file
    assert lines[0] == "checking: 3 of 40 (8 %), 2.4 files/min, 15 min 25 s left"
    assert lines[-1].startswith("checking: 39 of 40 (98 %)")


def test_lines_come_while_an_item_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(logging_utils, "SECONDS_BETWEEN_LINES", 0.02)
    with progress_bar(description="runs", total=3, unit="run") as progress:
        for _ in range(500):
            time.sleep(0.01)
            if "runs: 0 of 3 (0 %), 0 runs/min, time left unknown" in capsys.readouterr().err:
                break
        else:
            pytest.fail("nothing was printed within 5 s")
        progress.update()


def test_too_many_loader_workers_are_reported(monkeypatch):
    assert worker_messages(0) == worker_messages(num_cores()) == []
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    (message,) = worker_messages(num_cores())
    assert message.startswith(f"{2 * num_cores()} DataLoader workers")


@pytest.mark.parametrize("num_workers", [0, 1, 64])
def test_advice_about_loader_workers_never_contradicts_itself(num_workers):
    fewer = worker_messages(num_workers)
    (more,) = waiting_messages(600.0, 0.9, num_workers)
    assert ("larger dataloader_num_workers" in more) == (num_workers < num_cores())
    assert not (fewer and "larger" in more) and "tubevit data prepare" in more
    assert waiting_messages(0.1, 0.9, num_workers) == waiting_messages(600.0, 0.1, num_workers) == []


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_no_deprecation_warnings_of_transformers(script, videos, tmp_path):
    """In training with activation checkpointing, resume and evaluation; for both kinds of warnings of Transformers."""
    messages, handler = [], logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    library_logging.add_handler(handler)
    options = {**ONE_VIEW, "activation_checkpointing": True, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    options |= {"eval_strategy": "steps", "eval_steps": 1, "check_data": False}
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning):
                warnings.filterwarnings("error", category=category, module=r"transformers|accelerate|tubevit")
                warnings.filterwarnings("error", message=".*deprecated.*removed in", category=category)
            assert script.train(make_run(videos, tmp_path / "run", **options)) == 0
    finally:
        library_logging.remove_handler(handler)
    assert not [message for message in messages if "deprecat" in message.lower()]
