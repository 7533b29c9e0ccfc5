"""`classifier_init=ridge`: training starts with the logits of ridge regression on the features of the training videos."""

import csv

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tiny_runs import CLASSES, ONE_VIEW, TINY_MODEL, arguments, make_run, make_videos

from tubevit.training import run_video_classification, run_video_classification_no_trainer
from tubevit.training.cli import main
from tubevit.training.data.clip_sampling import MultiViewReader
from tubevit.training.evaluation.probes import fit_ridge
from tubevit.training.trainer import ridge_start
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.ridge_start import SCALES, set_ridge_classifier, softmax_scale


SCRIPTS = {"train": run_video_classification, "train-loop": run_video_classification_no_trainer}
RIDGE = {"classifier_init": "ridge", "eval_strategy": "no", "load_best_model_at_end": False, **ONE_VIEW}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four training videos a class of three films, and an annotation file with the films."""
    root = make_videos(tmp_path_factory.mktemp("videos"), 4, 1)
    rows = [(f"train/{name}/{index}.mp4", name, f"film {index % 3}") for name in CLASSES for index in range(4)]
    with open(root / "films.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "film"), *rows])
    return root


def start(data, folder, **options):
    setup = build_run(make_run(data, folder, **RIDGE, **options), folder)
    set_ridge_classifier(setup, Accelerator(cpu=True))
    return setup


@pytest.mark.parametrize(
    ("has_groups", "flip"),
    [(False, "off"), (True, "off"), (True, "on"), (False, "swap")],
    ids=["files", "films", "films, mirrored", "files, mirrored with other labels"],
)
@torch.no_grad()
def test_logits_at_the_start_are_those_of_ridge_regression_times_its_scale(
    has_groups, flip, videos, tmp_path, capsys, monkeypatch
):
    """With flips, mirror images are in the fit too, in the group of their clips, and with the labels that flips give them."""
    data = {"validation_fraction": 0.0, "group_column": "film"} if has_groups else {}
    data["flip"] = "off" if flip == "off" else "on"
    if flip == "swap":
        monkeypatch.setattr(ridge_start, "flipped_labels", lambda *_: {0: 1, 1: 0})
    # In training mode the features would be random.
    dropout = {"model_config": {**TINY_MODEL, "hidden_dropout_prob": 0.5, "classifier_dropout": 0.5}}
    groups_of_fits = []
    monkeypatch.setattr(ridge_start, "fit_ridge", lambda *args: groups_of_fits.append(args[3]) or fit_ridge(*args))
    setup = start(videos / "films.csv" if has_groups else videos, tmp_path, **data, **dropout)
    assert len(set(groups_of_fits[0])) == (3 if has_groups else 12)
    model, rows = setup.model.model.eval(), setup.data.splits["train"]
    read = MultiViewReader(setup.model.processor)
    clips = torch.stack([read(row["video"]).pixels for row in rows])
    features = model.tubevit(pixel_values_videos=clips).pooler_output
    groups, labels = setup.data.groups["train"] if has_groups else list(range(12)), np.array(rows["label"])
    if flip == "off":
        fit = fit_ridge(features.numpy(), labels, 3, groups)
        scale = softmax_scale(fit.left_out, labels)
    else:
        both = torch.cat((features, model.tubevit(pixel_values_videos=clips.flip(-1)).pooler_output))
        mirrored = np.array([1, 0, 2])[labels] if flip == "swap" else labels
        of_both = np.concatenate((labels, mirrored))
        fit = fit_ridge(both.numpy(), of_both, 3, 2 * list(groups))
        scale = softmax_scale(fit.left_out, of_both)
    expected = scale * fit.predict(features.numpy())
    logits = model(pixel_values_videos=clips).logits
    torch.testing.assert_close(logits.double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-3)
    shown = capsys.readouterr().out
    assert (
        f"{len(rows)} training videos{'' if flip == 'off' else ' and their mirror images'}: right on" in shown
        and f"of one {'group' if has_groups else 'file'} at" in shown
    )
    assert not model.classifier._forward_pre_hooks and not model.base_model._forward_hooks
    again = start(videos / "films.csv" if has_groups else videos, tmp_path, **data, **dropout)
    assert torch.equal(again.model.model.classifier.weight, model.classifier.weight)


@torch.no_grad()
def test_clips_are_in_the_fit_at_each_token_budget_of_the_range(videos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ridge_start, "ANNOUNCED_BYTES", 1)
    monkeypatch.setattr(ridge_start, "PART", 5)
    setup = start(videos, tmp_path, flip="off", token_budget_range=[5, 20])
    model, rows, levels = setup.model.model.eval(), setup.data.splits["train"], setup.budgets.levels
    read = MultiViewReader(setup.model.processor)
    clips = torch.stack([read(row["video"]).pixels for row in rows])
    features = []
    for level in levels[::-1]:
        model.set_token_budget(level.num_tokens)
        features.append(model.tubevit(pixel_values_videos=clips).pooler_output)
    model.set_token_budget(None)
    labels, num_levels = np.array(rows["label"]), len(levels)
    fit = fit_ridge(torch.cat(features).numpy(), np.tile(labels, num_levels), 3, num_levels * list(range(12)))
    expected = softmax_scale(fit.left_out, np.tile(labels, num_levels)) * fit.predict(features[0].numpy())
    logits = model(pixel_values_videos=clips).logits
    torch.testing.assert_close(logits.double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-3)
    shown = capsys.readouterr().out
    assert num_levels > 2 and f"12 training videos at each of {num_levels} token budgets: right" in shown
    assert f"The features of 12 training videos at each of {num_levels} token budgets, and predictions" in shown


@pytest.mark.parametrize("command", SCRIPTS)
def test_both_commands_train_from_it_and_a_resumed_run_does_not_fit_again(
    command, videos, tmp_path, capsys, monkeypatch
):
    """With a learning rate of nearly 0 the trained classifier, and its EMA, is the one of the start."""
    options = {**RIDGE, "learning_rate": 1e-9, "ema_decay": 0.5, "save_strategy": "steps", "save_steps": 1}
    folder = tmp_path / "run"
    assert SCRIPTS[command].train(make_run(videos, folder, **options, max_steps=1)) == 0
    assert "starts as ridge regression" in capsys.readouterr().out
    expected = start(videos, tmp_path).model.model.classifier
    saved = load_file(folder / "model.safetensors")
    for name in ("weight", "bias"):
        torch.testing.assert_close(saved[f"classifier.{name}"], getattr(expected, name), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(ridge_start, "set_ridge_classifier", lambda *_: pytest.fail("computed again"))
    assert SCRIPTS[command].train(make_run(videos, folder, **options, max_steps=1, resume_from_checkpoint="true")) == 0


REFUSED = {
    "multi_label=true": "needs one label per video, and these data have several",
    "lora_rank=2": "does not work with lora_rank: freeze layers instead",
    "task=masked": "classifier_init=ridge is for classifiers",
    "head_from=k710": "both set the initial classifier: give one of them",
    "datasets.a.data=here": "Joint training does not support classifier_init=ridge",
}


@pytest.mark.parametrize(("option", "message"), REFUSED.items())
def test_runs_that_cannot_start_with_it_are_refused_in_one_line(option, message, videos, tmp_path, capsys):
    given = dict(pair.split("=", 1) for pair in arguments(videos, tmp_path / "run", **RIDGE))
    name, value = option.split("=", 1)
    if name.startswith("datasets"):
        del given["data"]
    elif name == "multi_label":  # class folders cannot have several
        given["data"] = str(videos / "films.csv")
    assert main(["train", *(f"{key}={each}" for key, each in {**given, name: value}.items())]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_models_without_a_linear_classifier_and_sharded_weights_are_refused(videos, tmp_path, monkeypatch):
    setup = build_run(make_run(videos, tmp_path, **RIDGE), tmp_path)
    run, data, model = setup.run, setup.data, setup.model
    model.model.classifier = torch.nn.Sequential(model.model.classifier)
    with pytest.raises(ValueError, match="sets a linear layer `classifier` with a bias, which TubeViTForVideo"):
        ridge_start.check_ridge_start(run, data, model)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="does not work with FSDP"):
        ridge_start.check_ridge_start(run, data, model)


def test_videos_of_one_group_are_refused(videos, tmp_path):
    text = (videos / "films.csv").read_text().replace("film 1", "film 0").replace("film 2", "film 0")
    (videos / "one_film.csv").write_text(text)
    with pytest.raises(ValueError, match="all 12 training videos are of one group: leave out group_column"):
        start(videos / "one_film.csv", tmp_path, validation_fraction=0.0, group_column="film")


def test_the_scale_has_the_smallest_cross_entropy():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    predictions = 0.4 * np.eye(3)[labels] + 0.3 * rng.normal(size=(60, 3))

    def loss(scale: float) -> float:
        logits = torch.from_numpy(scale * predictions)
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=3 / 63).item()

    scale = softmax_scale(predictions, labels)
    assert SCALES[0] < scale < SCALES[1] and loss(scale) < min(loss(0.98 * scale), loss(1.02 * scale))
    surest = torch.from_numpy(softmax_scale(np.eye(3)[labels], labels) * np.eye(3)[:1]).softmax(1)[0, 0].item()
    assert surest == pytest.approx(61 / 63, rel=1e-6)  # Laplace's rule
    assert softmax_scale(-predictions, labels) == pytest.approx(SCALES[0], rel=1e-6)
