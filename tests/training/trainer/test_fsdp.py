"""`tubevit train` with FSDP2 in two and four ranks trains as one process does; sharded checkpoints continue a run exactly."""

import json
import shutil

import pytest
import torch
from repository import HELPERS
from safetensors.torch import load_file
from tiny_runs import ONE_VIEW, arguments, make_run, make_videos
from warm_processes import run_python

from tubevit.training.cli import main
from tubevit.training.run_video_classification import train


NUM_RANKS, NUM_CLIPS = (2, 4), 4  # clips of a step, over all ranks
# The large epsilon of Adam keeps rounding errors of tiny gradients small; clipping needs the norm over all shards.
OPTIONS = {**ONE_VIEW, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"}
OPTIONS |= {"adam_epsilon": 1e-2, "learning_rate": 0.1, "max_grad_norm": 0.5}
SHARDED = {"fsdp": "true", "fsdp_config.state_dict_type": "SHARDED_STATE_DICT"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 4, 1)


@pytest.fixture(scope="module")
def alone(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert train(make_run(videos, folder, per_device_train_batch_size=NUM_CLIPS, **OPTIONS)) == 0
    return folder


def train_sharded(videos, folder, num_ranks, *flags, **options):
    given = arguments(videos, folder, per_device_train_batch_size=NUM_CLIPS // num_ranks, **OPTIONS, **options)
    result = run_python(HELPERS / "cpu_fsdp.py", "train", *flags, *given, ranks=num_ranks)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def curve(folder):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [(entry["loss"], entry["grad_norm"]) for entry in history if "loss" in entry]


@pytest.mark.parametrize("num_ranks", NUM_RANKS)
def test_ranks_that_shard_the_weights_train_as_one_process(num_ranks, videos, alone, tmp_path):
    folder = tmp_path / "run"
    options = SHARDED if num_ranks == 2 else {"fsdp": "true"}  # else whole weights in each checkpoint
    train_sharded(videos, folder, num_ranks, **options)
    saved = {path.name for path in (folder / "checkpoint-4").iterdir()}
    assert ("pytorch_model_fsdp_0" if num_ranks == 2 else "pytorch_model_fsdp.bin") in saved  # not DDP
    assert torch.tensor(curve(folder)).sub(torch.tensor(curve(alone))).abs().max() < 1e-5
    expected, found = (load_file(each / "model.safetensors") for each in (alone, folder))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(
            found[name], weight, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert json.loads((folder / "evaluation" / "metrics.json").read_text())["num_scored"] == 3
    if num_ranks == 2:
        again = tmp_path / "again"
        later = ("checkpoint-4", "evaluation", "*.safetensors", "train_metrics.json", "trainer_state.json")
        shutil.copytree(
            folder,
            again,
            ignore=lambda at, names: set() if at != str(folder) else shutil.ignore_patterns(*later)(at, names),
        )
        train_sharded(videos, again, num_ranks, resume_from_checkpoint="true", **options)
        continued = load_file(again / "model.safetensors")
        assert all(torch.equal(continued[name], weight) for name, weight in found.items())
        assert curve(again) == curve(folder)


def test_dry_run_of_sharded_weights_prints_once(videos, tmp_path):
    result = train_sharded(videos, tmp_path / "run", 2, "--dry-run", **SHARDED)
    assert result.stdout.count("Dry run: the loss of the first batch is") == 1 and not (tmp_path / "run").exists()
    assert "FSDP2-wrapped module" not in result.stderr


def test_fsdp_on_cpus_is_refused_outside_of_these_tests(videos, tmp_path, capsys):
    assert main(["train", *arguments(videos, tmp_path / "run", fsdp="true")]) == 2
    assert "FSDP needs GPUs" in capsys.readouterr().err
