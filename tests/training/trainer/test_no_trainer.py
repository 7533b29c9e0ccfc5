"""`tubevit train-loop` has the loss curve and files of Trainer, and resumes exactly after a kill, also in two processes."""

import json
import math
import shutil

import pytest
import tiny_runs
import torch
from repository import HELPERS, ROOT
from safetensors.torch import load_file
from tiny_runs import (
    ONE_VIEW,
    UNEVEN,
    WRONG_WEIGHTS,
    arguments,
    edit_weights,
    kill_behind,
    make_run,
    make_videos,
)
from warm_processes import run_python

from tubevit.training import run_video_classification, run_video_classification_no_trainer
from tubevit.training.cli import main
from tubevit.training.run_video_classification_no_trainer import (
    LoopState,
    find_checkpoints,
    newest_checkpoint,
    save_checkpoint,
    seed_everything,
)


SCRIPT = ROOT / "training" / "run_video_classification_no_trainer.py"
# Options in which both scripts must agree. Not dropout: its random numbers in the loop depend on the step only.
SHARED = {
    **ONE_VIEW,
    "mixup_alpha": 0.3,
    "label_smoothing": 0.1,
    **UNEVEN,
    "ema_decay": 0.9,
    "gradient_accumulation_steps": 2,  # of five batches in an epoch
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "logging_steps": 2,
}
RANDOM = {**tiny_runs.RANDOM, **UNEVEN, "logging_steps": 3}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 6, 2)


def train(videos, folder, **options):
    return run_video_classification_no_trainer.train(make_run(videos, folder, **options))


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(videos, folder, **RANDOM) == 0
    return folder


def history(folder):
    """The log without times, which only Trainer logs."""
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    times = ("runtime", "per_second", "total_flos", "train_loss", "waiting_for_data", "slowest_rank")
    log = [{name: value for name, value in entry.items() if not name.endswith(times)} for entry in log]
    return [entry for entry in log if set(entry) != {"epoch", "step"}]


def assert_same_weights(one, two, **tolerance):
    one, two = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], **(tolerance or {"rtol": 0, "atol": 0}))


def test_loop_and_trainer_have_the_same_loss_curve_and_files(videos, tmp_path):
    assert train(videos, tmp_path / "loop", **SHARED) == 0
    assert run_video_classification.train(make_run(videos, tmp_path / "trainer", **SHARED)) == 0
    ours, theirs = history(tmp_path / "loop"), history(tmp_path / "trainer")
    assert len(ours) == len(theirs) == 4 + 5  # nine steps, logged and evaluated every other, and evaluated at the end
    for entry, expected in zip(ours, theirs, strict=True):
        assert entry == pytest.approx(expected, rel=1e-5)
    assert_same_weights(tmp_path / "loop", tmp_path / "trainer", rtol=1e-5, atol=1e-6)
    names = [
        {path.relative_to(tmp_path / run).as_posix() for path in (tmp_path / run).rglob("*") if path.is_file()}
        for run in ("loop", "trainer")
    ]
    own = [{name for name in found if name.startswith(("checkpoint-", "step-"))} for found in names]
    assert names[1] - own[1] - (names[0] - own[0]) <= {"training_args.bin"}
    assert names[0] - own[0] <= names[1]
    metrics = [json.loads((tmp_path / run / "train_metrics.json").read_text()) for run in ("loop", "trainer")]
    assert metrics[0].keys() == metrics[1].keys() and metrics[0]["best_step"] == metrics[1]["best_step"]


def test_loop_and_trainer_compile_the_model(videos, tmp_path, monkeypatch):
    compiled, compile_model = [], torch.compile

    def compile_and_note(model, **settings):
        compiled.append(settings["backend"])
        return compile_model(model, backend="eager")  # inductor takes minutes

    monkeypatch.setattr(torch, "compile", compile_and_note)
    options = {**SHARED, "torch_compile": True, "max_steps": 2}
    for name, script in (("trainer", run_video_classification), ("loop", run_video_classification_no_trainer)):
        assert script.train(make_run(videos, tmp_path / name, **options)) == 0
        assert compiled and set(compiled) == {"inductor"}, name
        compiled.clear()
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("trainer", "loop")]
    assert weights[0].keys() == weights[1].keys()
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected)


@pytest.mark.parametrize(("num_workers", "step"), [(0, 6), (2, 10)])
def test_killed_and_resumed_is_uninterrupted(num_workers, step, videos, whole, tmp_path):
    folder = tmp_path / "run"
    options = {**RANDOM, "dataloader_num_workers": num_workers}
    kill_behind(step, videos, folder, command="train-loop", **options)
    assert max(find_checkpoints(folder)) == step // 4 * 4 and not (folder / "model.safetensors").exists()
    assert train(videos, folder, resume_from_checkpoint="true", **options) == 0
    assert_same_weights(folder, whole)
    assert history(folder) == history(whole)


def test_two_processes_killed_and_resumed_equal_one_uninterrupted(videos, tmp_path):
    options = {**ONE_VIEW, "save_strategy": "steps", "save_steps": 4, "num_train_epochs": 2}
    options |= {"load_best_model_at_end": False, "optim": "sgd", "learning_rate": 0.05}
    assert train(videos, tmp_path / "one", per_device_train_batch_size=6, **options) == 0
    given = arguments(videos, tmp_path / "two", per_device_train_batch_size=3, **options)
    result = run_python(HELPERS / "tiny_runs.py", "train-loop", "5", *given, ranks=2)
    assert result.returncode != 0 and list(find_checkpoints(tmp_path / "two")) == [4], result.stderr[-3000:]
    result = run_python(SCRIPT, *given, "resume_from_checkpoint=true", ranks=2)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("Training continues after step 4 of 6.") == 1  # the first rank speaks for all
    ours, expected = history(tmp_path / "two"), history(tmp_path / "one")
    assert len(ours) == len(expected) == 6 + 2
    for entry, other in zip(ours, expected, strict=True):
        assert entry == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert_same_weights(
        find_checkpoints(tmp_path / "two")[6], find_checkpoints(tmp_path / "one")[6], rtol=1e-3, atol=1e-5
    )
    metrics = json.loads((tmp_path / "two" / "evaluation" / "metrics.json").read_text())
    assert metrics["num_scored"] == metrics["num_videos"] == 6


@pytest.mark.parametrize("uneven", [{}, UNEVEN], ids=["even", "uneven"])
def test_gradient_accumulation_equals_a_larger_batch(uneven, videos, tmp_path):
    options = {
        **uneven,
        **ONE_VIEW,
        "max_steps": 3,
        "save_strategy": "no",
        "eval_strategy": "no",
        "load_best_model_at_end": False,
    }
    options |= {"optim": "sgd", "learning_rate": 0.05}  # Adam makes steps of rounding errors where a gradient is 0
    train(videos, tmp_path / "one", per_device_train_batch_size=6, **options)
    train(videos, tmp_path / "many", per_device_train_batch_size=2, gradient_accumulation_steps=3, **options)
    losses = [[entry["loss"] for entry in history(tmp_path / name)] for name in ("one", "many")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "many", rtol=1e-3, atol=1e-5)


def with_accuracy(monkeypatch, values) -> None:
    """Make evaluations return these accuracies."""
    evaluate = run_video_classification_no_trainer.evaluate
    monkeypatch.setattr(
        run_video_classification_no_trainer,
        "evaluate",
        lambda *arguments: {**evaluate(*arguments), "eval_accuracy": next(values)},
    )


def test_best_weights_are_saved(videos, tmp_path, monkeypatch):
    """Accuracy falls after the first evaluation, whose weights are saved in the end."""
    with_accuracy(monkeypatch, iter([0.9, 0.5, 0.4]))
    assert train(videos, tmp_path / "run", save_total_limit=1, **ONE_VIEW) == 0
    checkpoints = find_checkpoints(tmp_path / "run")
    assert list(checkpoints) == [5, 15]  # the best and the newest
    assert_same_weights(tmp_path / "run", checkpoints[5])
    assert json.loads((tmp_path / "run" / "train_metrics.json").read_text())["best_accuracy"] == 0.9


UNSUPPORTED = {
    "early_stopping_patience=2": "early_stopping_patience=2",
    "save_strategy=best": "save_strategy=best",
    "lr_scheduler_type=reduce_lr_on_plateau": "lr_scheduler_type=reduce_lr_on_plateau",
    "dataloader_drop_last=true": "dataloader_drop_last=True",
    "datasets.a.data=here": "datasets",
}


@pytest.mark.parametrize(("option", "name"), UNSUPPORTED.items())
def test_unsupported_options_raise(option, name, videos, tmp_path, capsys):
    data = [] if option.startswith("datasets") else [f"data={videos}"]
    assert main(["train-loop", "preset=tiny", *data, f"output_dir={tmp_path / 'run'}", "use_cpu=true", option]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert name in line and "use `tubevit train`" in line
    assert not (tmp_path / "run").exists()


@pytest.fixture
def unfinished(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("evaluation"))
    return folder


@pytest.mark.parametrize("edit", WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_resume_with_missing_or_unexpected_weights_raises(edit, videos, unfinished):
    edit_weights(newest_checkpoint(unfinished, True, []), edit)
    with pytest.raises(ValueError, match="does not hold the weights of this model") as error:
        train(videos, unfinished, resume_from_checkpoint="true", **RANDOM)
    assert "\n" not in str(error.value)


def test_find_checkpoints_sorts_by_step_and_ignores_unfinished_ones(tmp_path):
    for name in ("step-4", "step-12", "step-8", "unfinished-checkpoint", "step-x"):
        (tmp_path / name).mkdir()
    assert list(find_checkpoints(tmp_path)) == [4, 8, 12]
    assert newest_checkpoint(tmp_path, False, []).name == "step-12"


def test_unfinished_checkpoint_of_a_killed_run_is_replaced(tmp_path):
    from accelerate import Accelerator

    (tmp_path / "unfinished-checkpoint").mkdir()
    (tmp_path / "unfinished-checkpoint" / "old").touch()
    accelerator = Accelerator(cpu=True)
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, accelerator, LoopState(step, best_step=1), None, total_limit=1)
    assert {path.name for path in tmp_path.iterdir()} == {"step-1", "step-3"}
    assert not (tmp_path / "step-1" / "old").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 1e20, "warmup_steps": 0, "max_grad_norm": 0, "logging_steps": 4}, "The loss is"),
        ({"learning_rate": 1e-9, "chance_loss_patience": 5}, "Nothing was learned in 5 steps"),
        (
            {"metric_for_best_model": "precision"},
            "metric_for_best_model must be one of accuracy, ",
        ),
        (
            {"metric_for_best_model": "top5_accuracy"},
            "must be one of accuracy, mean_class_accuracy, loss with 3 classes, got 'top5_accuracy'.",
        ),
        ({"resume_from_checkpoint": "true"}, "There is nothing to resume"),
    ],
)
def test_errors_are_one_line(options, message, videos, tmp_path, capsys):
    argv = arguments(videos, tmp_path / "run", **{**ONE_VIEW, **options})
    assert main(["train-loop", *argv]) == 2
    (*_, line) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("tubevit train-loop: error: ") and message in line
    assert not (tmp_path / "run" / "model.safetensors").exists()


def with_step(monkeypatch, change) -> None:
    """Apply `change` to the loss and the model of each step."""
    step = run_video_classification_no_trainer.train_step

    def broken(setup, args, accelerator, model, *rest):
        loss, norm = step(setup, args, accelerator, model, *rest)
        return change(loss, model), norm

    monkeypatch.setattr(run_video_classification_no_trainer, "train_step", broken)


def test_nan_loss_is_never_saved(videos, tmp_path, monkeypatch):
    with_step(monkeypatch, lambda loss, model: loss * math.nan)
    options = {"save_strategy": "steps", "save_steps": 4, "logging_steps": 9, "load_best_model_at_end": False}
    with pytest.raises(ValueError, match="The loss is nan at step 4"):
        train(videos, tmp_path / "run", **options)
    assert not find_checkpoints(tmp_path / "run")


def test_nan_weights_are_never_saved(videos, tmp_path, monkeypatch):
    def break_weights(loss, model):
        model.classifier.bias.data[0] = math.nan
        return loss

    with_step(monkeypatch, break_weights)
    for options in ({"save_strategy": "epoch"}, {"save_strategy": "no"}):
        with pytest.raises(ValueError, match=r"classifier\.bias .* at step [15]"):
            train(videos, tmp_path / options["save_strategy"], max_steps=1, load_best_model_at_end=False, **options)
        assert not list((tmp_path / options["save_strategy"]).rglob("*.safetensors"))


def test_checkpoints_of_trainer_are_not_resumed(videos, tmp_path):
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(FileNotFoundError, match="its checkpoints are from `tubevit train`"):
        newest_checkpoint(tmp_path, False, [])


def test_dry_run_writes_nothing(videos, tmp_path, capsys):
    assert main(["train-loop", *arguments(videos, tmp_path / "run"), "--dry-run"]) == 0
    assert "the loss of the first batch is" in capsys.readouterr().out and not (tmp_path / "run").exists()


def test_loop_trains_videomae_as_trainer_does(videos, tmp_path):
    from video_classifiers import save_peer

    save_peer(tmp_path / "videomae", "videomae")
    options = {"model_config": {}, "preset": None, "num_frames": None, "image_size": None, "short_side": None}
    options |= {"model_name_or_path": str(tmp_path / "videomae"), "ignore_mismatched_sizes": True, "max_steps": 4}
    # Trainer cannot load a VideoMAE that it saved.
    options |= {**ONE_VIEW, "drop_path_rate": None, "load_best_model_at_end": False}
    assert train(videos, tmp_path / "loop", **options) == 0
    assert run_video_classification.train(make_run(videos, tmp_path / "trainer", **options)) == 0
    for entry, expected in zip(history(tmp_path / "loop"), history(tmp_path / "trainer"), strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)


def test_streamed_data_set_is_trained_and_resumed(videos, tmp_path):
    import datasets

    paths = sorted((videos / "train").rglob("*.mp4"))
    features = datasets.Features(
        {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=["blue", "green", "red"])}
    )
    rows = {
        "video": [{"path": str(path), "bytes": None} for path in paths],
        "label": [path.parent.name for path in paths],
    }
    splits = {"train": datasets.Dataset.from_dict(rows, features=features)}
    datasets.DatasetDict({**splits, "validation": splits["train"].select(range(5))}).save_to_disk(tmp_path / "data")
    options = {
        "streaming": True,
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 6,
        "eval_strategy": "no",
        "load_best_model_at_end": False,
        **ONE_VIEW,
    }  # a pass has five
    scripts = {"loop": run_video_classification_no_trainer, "trainer": run_video_classification}
    for name, script in scripts.items():
        assert script.train(make_run(tmp_path / "data", tmp_path / name, **options)) == 0
    ours, theirs = history(tmp_path / "loop"), history(tmp_path / "trainer")
    assert [entry["step"] for entry in ours] == list(range(1, 9))
    assert [entry["loss"] for entry in ours] == pytest.approx([entry["loss"] for entry in theirs], rel=1e-5)
    end = shutil.ignore_patterns("evaluation", "model.safetensors", "train_metrics.json", "*-8")
    for name, script in scripts.items():
        # A stream of validation videos is scored at the end.
        assert json.loads((tmp_path / name / "evaluation" / "metrics.json").read_text())["num_scored"] == 5
        folder = shutil.copytree(tmp_path / name, tmp_path / "resumed" / name, ignore=end)
        for checkpoint in folder.glob("*-6"):
            shutil.copy(tmp_path / name / checkpoint.name / "model.safetensors", checkpoint)
        resumed = {**options, "resume_from_checkpoint": "true"}
        if name == "loop":
            with pytest.raises(ValueError, match="has dataloader_num_workers=0, not 1"):
                script.train(make_run(tmp_path / "data", folder, dataloader_num_workers=1, **resumed))
        assert script.train(make_run(tmp_path / "data", folder, **resumed)) == 0
        assert_same_weights(folder, tmp_path / name)
        assert history(folder) == history(tmp_path / name)


def test_train_loss_is_the_mean_over_all_steps_for_any_logging_steps(videos, tmp_path):
    options = {**ONE_VIEW, "max_steps": 3, "eval_strategy": "no", "save_strategy": "no"}
    means = []
    for logging_steps in (1, 2, 9):
        folder = tmp_path / str(logging_steps)
        assert train(videos, folder, logging_steps=logging_steps, **options) == 0
        means.append(json.loads((folder / "train_metrics.json").read_text())["train_loss"])
    logged = [entry["loss"] for entry in history(tmp_path / "1") if "loss" in entry]
    assert means == pytest.approx([sum(logged) / 3] * 3, rel=1e-5)


def test_seed_everything_seeds_torch():
    seed_everything(3)
    first = torch.rand(2)
    torch.rand(5)
    seed_everything(3)
    assert torch.equal(torch.rand(2), first)
