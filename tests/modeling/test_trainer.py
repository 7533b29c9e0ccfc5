"""Gradient accumulation and several ranks (DDP, FSDP2) do not change the training curve, for every label type."""

import os
import subprocess
import sys

import pytest
import torch
from repository import HELPERS
from tiny_training import KINDS, train, train_sharded


def assert_same_weights(ours, expected):
    for name, weights in expected.items():
        torch.testing.assert_close(
            ours[name], weights, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def whole_batches():
    return {kind: train(kind, batch_size=8, accumulation=1) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_accumulation_changes_nothing(kind, whole_batches):
    assert_same_weights(train(kind, batch_size=2, accumulation=4), whole_batches[kind])


def test_two_ranks_change_nothing(tmp_path, whole_batches):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(HELPERS / "tiny_training.py"), str(tmp_path), "2", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr[-3000:]
    for kind in KINDS:
        assert_same_weights(torch.load(tmp_path / f"{kind}.pt"), whole_batches[kind])
    assert_same_weights(torch.load(tmp_path / "sharded.pt"), train_sharded())
