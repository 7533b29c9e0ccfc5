"""
Gradient accumulation and several ranks (DDP) do not change the training curve, for every label type.

With batch norms (local blocks of UniFormerV2) accumulation does, and several ranks do unless the batch norms are synchronized.
"""

import pytest
import torch
from repository import HELPERS
from tiny_training import DESIGNS, KINDS, train, train_uniformerv2
from warm_processes import run_python


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


def differ(one, other) -> bool:
    return any((one[name] - weights).abs().max() > 1e-3 for name, weights in other.items())


@pytest.mark.parametrize("name", ["global", "full"])
def test_gradient_accumulation_of_uniformerv2_changes_batch_norms_only(name):
    whole, accumulated = train_uniformerv2(name), train_uniformerv2(name, accumulation=4)
    if name == "global":
        assert_same_weights(accumulated, whole)
    else:
        assert differ(accumulated, whole)


def test_activation_checkpointing_updates_batch_norms_once():
    whole, recomputed = train_uniformerv2("full"), train_uniformerv2("full", checkpointing=True)
    assert whole.keys() == recomputed.keys() and all(torch.equal(whole[name], recomputed[name]) for name in whole)


def test_two_ranks_change_nothing(tmp_path, whole_batches):
    result = run_python(HELPERS / "tiny_training.py", tmp_path, "2", "2", ranks=2)
    assert result.returncode == 0, result.stderr[-3000:]
    for kind in KINDS:
        assert_same_weights(torch.load(tmp_path / f"{kind}.pt"), whole_batches[kind])
    for name in DESIGNS:
        ours, expected = torch.load(tmp_path / f"{name}.pt"), train_uniformerv2(name)
        if name == "full-separate":
            assert differ(ours, expected)
        else:
            assert_same_weights(ours, expected)
