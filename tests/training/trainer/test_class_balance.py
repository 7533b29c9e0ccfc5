"""Class weights in the loss, and training clips that are sampled by their class."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_runs import make_run, make_videos

from tubevit.training.data.augmentation import IGNORED_LABEL, soften_labels
from tubevit.training.data.class_names import sort_names
from tubevit.training.data.clip_datasets import RowCopy
from tubevit.training.data.rng import SharedEpoch
from tubevit.training.run_video_classification import train
from tubevit.training.trainer import build
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.class_balance import (
    BalancedOrder,
    balanced_weights,
    chance_loss,
    class_probabilities,
    label_weights,
    read_class_weights,
    weighted_loss,
)


WEIGHTS = torch.tensor([0.5, 1.0, 4.0])
LABELS = torch.tensor([0, 2, IGNORED_LABEL, 2, 1, 0])


def loss_of(labels, logits):
    return weighted_loss(labels, logits, WEIGHTS, label_weights(labels, WEIGHTS).sum())


def test_the_loss_of_classes_is_that_of_torch():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(logits, LABELS, weight=WEIGHTS)
    torch.testing.assert_close(loss_of(LABELS, logits), expected)
    one_hot = soften_labels(LABELS, 3, 0.0)
    torch.testing.assert_close(loss_of(one_hot, logits), expected)
    assert loss_of(torch.full((2,), IGNORED_LABEL), logits[:2]) == 0


def test_the_loss_of_soft_labels_is_their_weighted_cross_entropy():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    soft = soften_labels(LABELS, 3, 0.3)
    known = LABELS != IGNORED_LABEL
    terms = (soft.double() * WEIGHTS.double())[known]
    expected = -(terms * logits.double().log_softmax(-1)[known]).sum() / terms.sum()
    torch.testing.assert_close(loss_of(soft, logits).double(), expected)


@pytest.mark.parametrize("smoothing", [None, 0.2])
def test_the_loss_and_its_gradient_do_not_depend_on_how_a_step_is_split(smoothing):
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), requires_grad=True)
    labels = LABELS if smoothing is None else soften_labels(LABELS, 3, smoothing)
    whole = loss_of(labels, logits)
    (expected,) = torch.autograd.grad(whole, logits)
    total = sum(label_weights(part, WEIGHTS).sum() for part in labels.split(4))  # as over batches and processes
    parts = sum(
        weighted_loss(part, some, WEIGHTS, total) for part, some in zip(labels.split(4), logits.split(4), strict=True)
    )
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, logits)[0], expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_chance_loss_is_the_smallest_weighted_loss_of_a_constant_prediction(smoothing):
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    soft, answer = soften_labels(labels, 3, smoothing), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([answer], max_iter=200, tolerance_grad=1e-9)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(soft, answer.expand(6, 3))
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = chance_loss(np.bincount(labels), 6, False, smoothing, WEIGHTS.double().numpy())
    assert float(loss_of(soft, answer.detach().expand(6, 3))) == pytest.approx(expected, rel=1e-4)


def test_balanced_weights_give_each_class_the_same_sum():
    counts = np.array([30, 10, 0, 1])
    weights = balanced_weights(counts)
    assert (weights * counts)[[0, 1, 3]] == pytest.approx(41 / 3) and weights[2] == 1


def order_of(labels, sampler, epoch=0, seed=0):
    clips = SimpleNamespace(epoch=SharedEpoch())
    clips.epoch.value = epoch
    return list(BalancedOrder(clips, labels, sampler, seed))


@pytest.mark.parametrize("sampler", ["balanced", "sqrt"])
def test_each_class_and_video_is_sampled_as_often_as_expected(sampler):
    labels = np.random.default_rng(0).permutation([0] * 60 + [1] * 25 + [2] * 10 + [3] * 2 + [-1] * 3)
    order = order_of(labels, sampler)
    assert len(order) == len(labels) and not any(labels[index.row] < 0 for index in order)
    probabilities = class_probabilities(sampler, np.array([60, 25, 10, 2]))
    power = {"balanced": 0, "sqrt": 0.5}[sampler]
    assert probabilities[3] / probabilities[0] == pytest.approx((2 / 60) ** power)
    of_class = Counter(int(labels[index.row]) for index in order)
    of_video = Counter(index.row for index in order)
    for name, number in enumerate([60, 25, 10, 2]):
        assert abs(of_class[name] - 100 * probabilities[name]) < 1
        for row in np.flatnonzero(labels == name):
            assert abs(of_video[row] - 100 * probabilities[name] / number) < 1
    assert len(set(order)) == len(order)  # each clip of a video in an epoch has random parameters of its own
    assert {index.copy for index in order} >= {0, 1} and RowCopy(order[0].row, 0) in order


def test_the_order_depends_on_seed_and_epoch_only():
    labels = np.array([0] * 20 + [1] * 4)
    assert order_of(labels, "balanced") == order_of(labels, "balanced")
    assert order_of(labels, "balanced") != order_of(labels, "balanced", epoch=1)
    assert order_of(labels, "balanced") != order_of(labels, "balanced", seed=1)


FILES = {
    "w.json": ('{"Red": 4, "blue": 0.5, "green": 1}', None),
    "w.csv": ("class,weight\nblue,0.5\nred,4\ngreen,1\n", None),
    "less.json": ('{"red": 4, "blue": 0.5}', "no weight of 1 of 3 classes, such as 'green'"),
    "other.json": ('{"red": 4, "blu": 0.5, "green": 1}', "the nearest is 'blue'"),
    "twice.csv": ("class,weight\nblue,1\nBlue,1\nred,1\ngreen,1\n", "two weights of the class 'blue'"),
    "zero.json": ('{"red": 0, "blue": 0.5, "green": 1}', "must be a number above 0, got 0"),
    "text.csv": ("class,weight\nblue,much\n", "could not convert"),
    "list.json": ("[1, 2, 3]", "must be a JSON object from class to weight"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_weights(name, tmp_path):
    content, error = FILES[name]
    (tmp_path / name).write_text(content)
    names = sort_names(["red", "green", "blue"])
    if error is None:
        assert read_class_weights(tmp_path / name, names).tolist() == [0.5, 1.0, 4.0]
        return
    with pytest.raises(ValueError, match=error):
        read_class_weights(tmp_path / name, names)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """9 blue, 3 green and 3 red training videos."""
    root = make_videos(tmp_path_factory.mktemp("videos"), 9, 1)
    for name in ("green", "red"):
        for number in range(3, 9):
            (root / "train" / name / f"{number}.mp4").unlink()
    return root


def test_a_run_states_weights_and_sampler_and_its_loss_is_weighted(videos, tmp_path, capsys):
    options = {"max_steps": 1, "save_strategy": "no", "eval_strategy": "no", "load_best_model_at_end": False}
    options |= {"num_temporal_views": 1, "num_spatial_views": 1, "per_device_train_batch_size": 15}
    run = make_run(videos, tmp_path / "run", class_weights="balanced", sampler="sqrt", **options)
    assert train(run) == 0
    shown = capsys.readouterr().out
    assert "balanced: 0.556 (blue) to 1.67 (green)" in shown
    assert "sqrt: 4 to 7 clips of a class in an epoch, 3 to 9 in the data" in shown
    logged = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"][0]["loss"]
    setup = build_run(run, tmp_path)
    clips = [setup.train_clips[index] for index in setup.train_order(1)]
    assert Counter(int(each["labels"]) for each in clips)[0] in (6, 7)
    batch = setup.model.prepare(setup.collator(augments=True)(clips))
    labels = batch.pop("labels")
    logits = setup.model.model.eval()(**batch).logits
    assert logged == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, labels, weight=setup.class_weights)), rel=1e-4
    )


REFUSED = {
    "class_weights must be balanced or a file": {"class_weights": "balance"},
    "sampler=sqrt samples clips of all videos at random": {"sampler": "sqrt", "train_sampling_strategy": "sequential"},
}


@pytest.mark.parametrize("error", REFUSED)
def test_options_that_do_not_apply_are_refused_before_the_files_are_checked(error, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "without_corrupt_videos", None)
    with pytest.raises((ValueError, OSError), match=error):
        build_run(make_run(videos, tmp_path / "run", **REFUSED[error]), tmp_path)


def test_several_labels_per_video_are_refused(videos, tmp_path):
    rows = [f"train/{name}/{number}.mp4,{name};all" for name in ("blue", "red") for number in range(3)]
    (videos / "several.csv").write_text("\n".join(["path,label", *rows]))
    run = make_run(videos / "several.csv", tmp_path / "run", multi_label=True, class_weights="balanced")
    with pytest.raises(ValueError, match="class_weights=balanced needs one label per video"):
        build_run(run, tmp_path)
