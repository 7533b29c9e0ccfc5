"""Errors of `tubevit train`: one line with advice, a nonzero exit code, and no file overwritten."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from dataset_files import add_table
from tiny_runs import TINY_MODEL, arguments, make_run, make_videos
from transformers import Trainer
from video_classifiers import save_peer, save_tubevit

from tubevit.training.cli import main
from tubevit.training.models import lora
from tubevit.training.models.lora import MIN_PEFT
from tubevit.training.run_video_classification import train
from tubevit.training.trainer.callbacks import TrainingStopped


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 2, 1)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expect_error(capsys, argv: list[str], *words: str) -> None:
    """`tubevit train` with these arguments fails with one line that contains `words`."""
    try:
        code = main(["train", *argv])
    except SystemExit as error:
        code = error.code
    shown = capsys.readouterr().err
    line = shown.strip().splitlines()[-1]
    assert code not in (0, None) and "Traceback" not in shown
    assert line.startswith("tubevit train: error: ")
    for word in words:
        assert word in line


def bad_data(kind: str, folder: Path) -> dict[str, str]:
    """Options with data that cannot be used for training."""
    videos = make_videos(folder / "videos", 1, 1)
    clips = sorted(str(path) for path in (videos / "train").rglob("*.mp4"))
    if kind == "missing column":
        return {"data": str(add_table(folder / "a.csv", [{"path": clip, "kind": "a"} for clip in clips]))}
    if kind == "unknown label":
        train = add_table(folder / "train.csv", [{"path": clip, "label": "a"} for clip in clips])
        val = add_table(folder / "val.csv", [{"path": clip, "label": "b"} for clip in clips])
        return {"data": None, "train_data": str(train), "validation_data": str(val)}
    if kind == "empty":
        (folder / "empty" / "train" / "a").mkdir(parents=True)
        return {"data": str(folder / "empty")}
    if kind == "all bad":
        for path in videos.rglob("*.mp4"):
            path.write_bytes(b"")
    if kind == "one class":
        for name in ("red", "green"):
            shutil.rmtree(videos / "train" / name)
            shutil.rmtree(videos / "val" / name)
    return {"data": str(videos if kind != "not there" else folder / "nothing")}


BAD_DATA = {
    "missing column": ("label",),
    "unknown label": ("'b'", "not one of the 1 classes; the classes are a."),
    "empty": ("videos",),
    "all bad": ("3 of 3 videos of the train split cannot be read",),
    "one class": ("of one class only", "training needs two"),
    "not there": ("nothing",),
}


@pytest.mark.parametrize(("kind", "words"), BAD_DATA.items())
def test_unusable_data_raise_one_line(kind, words, capsys, tmp_path):
    options = bad_data(kind, tmp_path)
    output = tmp_path / "run"
    expect_error(capsys, arguments(tmp_path, output, **options), *words)
    assert {path.name for path in output.iterdir()} <= {"corrupt_videos.csv"} if output.is_dir() else True


def test_folder_is_reused_after_corrupt_data_were_repaired(videos, capsys, tmp_path):
    output = tmp_path / "run"
    expect_error(capsys, arguments(tmp_path, output, **bad_data("all bad", tmp_path)), "cannot be read")
    assert train(make_run(videos, output, max_steps=1, num_temporal_views=1, num_spatial_views=1)) == 0


WRONG_OPTIONS = {
    "misspelled key": (["lerning_rate=1"], ("'learning_rate'",)),
    "misspelled option": (["--lerning-rate=1"], ("--learning_rate",)),
    "tube that does not fit": (["num_frames=4"], ("kernel 5x2x2", "give at least")),
    "clip smaller than its tubes": (["image_size=4"], ("Tube",)),
    "no such preset": (["preset=tyni"], ("there are tiny, small",)),
    "no such model": (["preset=null", "model_config=null", "model_name_or_path=./nothing"], ("no model folder",)),
    "too many frozen layers": (["num_frozen_layers=3"], ("num_frozen_layers",)),
    "no such optimizer": (["optim=adan"], ("adan",)),
    "unknown metric": (["metric_for_best_model=acuracy"], ("acuracy", "accuracy")),
    "metric that needs more classes": (
        ["metric_for_best_model=eval_top5_accuracy"],
        ("eval_top5_accuracy", "one of accuracy, mean_class_accuracy, loss with 3 classes"),
    ),
    "strategies that differ": (["save_strategy=steps"], ("save_strategy=epoch", "load_best_model_at_end=false")),
    "early stopping without evaluation": (["eval_strategy=no", "early_stopping_patience=2"], ("eval_strategy=epoch",)),
    "another config field": (["model_config.hiden_size=3"], ("hidden_size",)),
    "two precisions": (["fp16=true", "mixed_precision=bf16"], ("fp16=true contradicts mixed_precision=bf16",)),
    "unknown option": (["warmth=1"], ("There is no option 'warmth'",)),
    "tracker that is not installed": (["report_to=dvclive"], ("report_to=dvclive", "pip install")),
    "unknown tracker": (["report_to=nothing"], ("report_to=nothing", "there is no such tracker", "tensorboard")),
    "image model alone": (["tube_checkpoint=x"], ("model_name_or_path",)),
}


@pytest.mark.parametrize(("argv", "words"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_wrong_options_print_one_line(argv, words, videos, capsys, tmp_path):
    expect_error(capsys, [*arguments(videos, tmp_path / "run"), *argv], *words)


def test_folder_with_files_is_not_changed(videos, capsys, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / "precious.txt").write_text("mine")
    before = files_below(output)
    expect_error(capsys, arguments(videos, output), "is not empty", "resume_from_checkpoint=true")
    assert files_below(output) == before
    expect_error(capsys, [*arguments(videos, output), "resume_from_checkpoint=true"], "nothing to resume")
    assert files_below(output) == before


def test_folder_without_write_access_raises_at_the_start(videos, capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    expect_error(capsys, arguments(videos, tmp_path / "file"), "is a file")
    expect_error(capsys, arguments(videos, tmp_path / "file" / "run"), "cannot be written")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    expect_error(capsys, arguments(videos, tmp_path / "run"), "GB free", "save_total_limit")


def test_failed_start_leaves_no_folder(videos, capsys, tmp_path):
    expect_error(capsys, [*arguments(tmp_path / "missing", tmp_path / "runs" / "run")], "missing")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "run").mkdir()
    expect_error(capsys, [*arguments(tmp_path / "missing", tmp_path / "run")], "missing")
    assert (tmp_path / "run").is_dir(), "it was there before"


def test_resume_without_a_checkpoint_raises(videos, capsys, tmp_path):
    options = {
        "max_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
        "num_temporal_views": 1,
        "num_spatial_views": 1,
    }
    assert train(make_run(videos, tmp_path / "run", **options)) == 0
    expect_error(
        capsys,
        [*arguments(videos, tmp_path / "run", **options), "resume_from_checkpoint=true"],
        "no complete checkpoint",
    )


def test_other_number_of_classes_than_the_checkpoint_raises(videos, capsys, tmp_path):
    source = save_tubevit(tmp_path / "source")
    argv = arguments(videos, tmp_path / "run", preset=None, model_config=None, model_name_or_path=source)
    expect_error(capsys, argv, "4 classes, the data 3", "ignore_mismatched_sizes=true")


def test_checkpoint_without_all_weights_raises(videos, capsys, tmp_path):
    from safetensors.torch import load_file, save_file

    source = save_tubevit(tmp_path / "source", ["blue", "green", "red"])
    tensors = load_file(source / "model.safetensors")
    del tensors["tubevit.layers.1.mlp.fc1.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    argv = arguments(videos, tmp_path / "run", preset=None, model_config=None, model_name_or_path=source)
    expect_error(capsys, argv, "lacks 1 weights", "layers.1.mlp.fc1.weight")


def test_impossible_views_raise_at_the_start(videos, capsys, tmp_path):
    save_peer(tmp_path / "source", "videoprism", ["blue", "green", "red"])
    options = {"preset": None, "model_config": None, "num_frames": None, "image_size": None, "short_side": None}
    argv = arguments(videos, tmp_path / "run", model_name_or_path=tmp_path / "source", **options)
    expect_error(capsys, argv, "num_spatial_views=3")
    assert not (tmp_path / "run").exists()


def test_lora_without_peft_or_with_an_old_one_raises(videos, capsys, tmp_path, monkeypatch):
    arguments_of_lora = [*arguments(videos, tmp_path / "run"), "lora_rank=4"]
    advice = f'lora_rank needs PEFT {MIN_PEFT} or newer: pip install "peft>={MIN_PEFT}"'
    monkeypatch.setattr(lora, "version", lambda name: "0.9.0")
    expect_error(capsys, arguments_of_lora, f"{advice} (0.9.0 is installed)")
    monkeypatch.setattr(lora, "version", lambda name: MIN_PEFT)
    monkeypatch.setitem(sys.modules, "peft", None)
    expect_error(capsys, arguments_of_lora, advice)


def test_nan_loss_stops_training_before_a_checkpoint(videos, tmp_path, monkeypatch):
    step = Trainer.training_step

    def broken(self, *args, **kwargs):
        return step(self, *args, **kwargs) * (float("nan") if self.state.global_step == 2 else 1)

    monkeypatch.setattr(Trainer, "training_step", broken)
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no", "logging_steps": 100}
    with pytest.raises(TrainingStopped, match="The loss is nan at step 3"):
        train(make_run(videos, tmp_path / "run", **options))
    saved = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert saved == ["checkpoint-1", "checkpoint-2"]


def test_nan_weights_stop_training_before_a_checkpoint(videos, tmp_path, monkeypatch):
    """As on a process with a finite loss when the loss of another process is NaN."""
    step = Trainer.training_step

    def broken(self, model, *args, **kwargs):
        loss = step(self, model, *args, **kwargs)
        if self.state.global_step == 1:
            model.classifier.bias.grad[0] = float("inf")
        return loss

    monkeypatch.setattr(Trainer, "training_step", broken)
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no", "logging_steps": 100}
    with pytest.raises(TrainingStopped, match="contains NaN or inf at step 2"):
        train(make_run(videos, tmp_path / "run", **options))
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]


def test_chance_loss_stops_training(videos, capsys, tmp_path):
    options = {
        "learning_rate": 1e-12,
        "num_train_epochs": 20,
        "chance_loss_patience": 8,
        "model_config": {**TINY_MODEL, "initializer_range": 1e-3},
    }
    expect_error(
        capsys,
        arguments(videos, tmp_path / "run", **options),
        "Nothing was learned in 8 steps up to step 12",  # of 40, after 4 of warm-up
        "at chance level (1.099)",
    )
