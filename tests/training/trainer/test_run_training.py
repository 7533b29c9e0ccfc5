"""`tubevit train` from videos to predictions of the saved model, for each kind of initial model."""

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from small_image_models import make_source
from tiny_runs import CLASSES, ONE_VIEW, TINY_MODEL, UNEVEN, arguments, make_run, make_videos
from transformers import AutoModelForVideoClassification, pipeline
from video_classifiers import PEERS, save_peer, save_tubevit
from warm_processes import run_python

from tubevit import TubeViTForVideoClassification
from tubevit.training import throughput
from tubevit.training.cli import main
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.models.build import load_run_config, make_model
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.models.model_options import ClipConfig, ModelConfig
from tubevit.training.run_video_classification import train
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.run_config import training_blocks


NAMES = sorted(CLASSES)
NOISE = torch.randint(0, 256, (9, 3, 30, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RAW = {"do_rescale": False, "do_normalize": False}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def trained(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    run = make_run(videos, folder, num_train_epochs=6, learning_rate=1e-2, rand_augment_layers=0, layer_decay=1)
    assert train(run) == 0
    return folder


def read_json(path: Path):
    return json.loads(path.read_text())


def state_of(folder: Path) -> dict:
    return read_json(folder / "trainer_state.json")


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in state_of(folder)["log_history"] if "loss" in entry]


def test_run_learns_and_the_saved_model_predicts(videos, trained):
    assert read_json(trained / "evaluation" / "metrics.json")["accuracy"] == 1
    classify = pipeline("video-classification", model=str(trained))
    for name in NAMES:
        assert classify(str(videos / "val" / name / "0.mp4"))[0]["label"] == name
    config = AutoModelForVideoClassification.from_pretrained(trained).config
    assert config.id2label == dict(enumerate(NAMES)) and config.problem_type == "single_label_classification"


def test_output_files_are_complete_and_correct(videos, trained):
    metrics = read_json(trained / "evaluation" / "metrics.json")
    assert (metrics["num_videos"], metrics["num_scored"], metrics["num_missing"]) == (9, 9, 0)
    assert (metrics["num_temporal_views"], metrics["num_spatial_views"]) == (2, 3)
    assert read_json(trained / "label_map.json")["id2label"] == {str(i): name for i, name in enumerate(NAMES)}
    assert read_json(trained / "dataset.json")["train"] == {"listed": 18, "cannot_be_read": 0, "used": 18}
    throughput = read_json(trained / "throughput.json")
    assert 0 < throughput["share_of_time_waiting_for_data"] <= 1
    seconds = list(throughput["slowest_files"].values())
    assert len(seconds) == 3 and seconds == sorted(seconds, reverse=True) and min(seconds) > 0
    waits = [entry["seconds_waiting_for_data"] for entry in state_of(trained)["log_history"] if "loss" in entry]
    total = throughput["share_of_time_waiting_for_data"] * throughput["seconds"]
    assert 0.5 * total < sum(waits) <= 1.001 * total
    assert read_json(trained / "environment.json")["versions"]["torch"] == version("torch")
    config = yaml.safe_load((trained / "resolved_config.yaml").read_text())
    assert list(config) == list(training_blocks()) and config["training"]["learning_rate"] == 1e-2
    card = (trained / "README.md").read_text()
    assert card.startswith("---\n") and "accuracy: 1.0000" in card and "learning_rate: 0.01" in card
    assert "| train | 18 | 0 | 18 |" in card and str(videos) not in card and str(trained.parent) not in card
    (score, *_) = ModelCard.load(trained / "README.md").data.eval_results  # what the Hub shows
    assert (score.metric_type, score.metric_value, score.dataset_name) == ("accuracy", 1.0, videos.name)
    best = state_of(trained)
    weights = load_file(trained / "model.safetensors")
    expected = load_file(trained / f"checkpoint-{best['best_global_step']}" / "model.safetensors")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_webm_files_from_the_command_line(tmp_path, capsys):
    data = make_videos(tmp_path / "videos", 2, 1, suffix=".webm")
    argv = arguments(data, tmp_path / "run", num_train_epochs=1, per_device_train_batch_size=1, **ONE_VIEW)
    assert main(["train", *argv]) == 0
    shown = capsys.readouterr().out
    for words in (
        "tokens per clip",
        "trained, 0.00 M frozen",
        "GFLOPs",
        "train videos",
        "classes",
        "effective batch",
        "data loading",
        "(forward and backward passes on one device), and the training process reads",
        "saved in",
    ):
        assert words in shown
    assert read_json(tmp_path / "run" / "evaluation" / "metrics.json")["num_scored"] == 3


@pytest.mark.parametrize("command", ["train", "train-loop"])
def test_dry_run_includes_one_save(command, videos, tmp_path, capsys, monkeypatch):
    """A model that cannot be saved stopped a run at its first checkpoint, after thousands of steps."""

    def fail(self, folder, *args, **kwargs):
        raise OSError(f"{type(self).__name__} cannot be saved")

    monkeypatch.setattr(TubeViTForVideoClassification, "save_pretrained", fail)
    assert main([command, *arguments(videos, tmp_path / "run"), "--dry-run"]) != 0
    assert "TubeViTForVideoClassification cannot be saved" in capsys.readouterr().err


def test_dry_run_writes_nothing(videos, tmp_path, capsys):
    assert main(["train", *arguments(videos, tmp_path / "a" / "run"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "loss of the first batch is" in shown
    assert re.search(r"Dry run: The model takes [\d.e+]+ clips/s .* reads [\d.e+]+ clips/s between the steps", shown)
    assert not list(tmp_path.iterdir())


def test_model_clock_leaves_out_warmup_and_waiting(monkeypatch):
    now = iter([10.0, 10.5, 30.0, 31.0, 50.0, 50.4])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(now))
    clock = throughput.ModelClock(has_accelerator=False, num_warmup=2, num_timed=3)
    rates = []
    for _ in range(7):
        with clock.measure(2):
            pass
        rates.append(clock.pop_rate())
    assert rates == [*[None] * 4, 4.0, None, None] and next(now, None) is None


def test_corrupt_videos_are_dropped_and_counted(tmp_path, capsys):
    data = make_videos(tmp_path / "videos", 3, 2)
    (data / "train" / "red" / "0.mp4").write_bytes(b"")
    (data / "val" / "blue" / "1.mp4").unlink()
    (data / "val" / "blue" / "1.mp4").write_bytes(b"no video")
    options = {"num_train_epochs": 1, "max_corrupt_fraction": 0.2, **ONE_VIEW}
    assert train(make_run(data, tmp_path / "run", **options)) == 0
    assert read_json(tmp_path / "run" / "dataset.json")["train"] == {"listed": 9, "cannot_be_read": 1, "used": 8}
    metrics = read_json(tmp_path / "run" / "evaluation" / "metrics.json")
    assert (metrics["num_videos"], metrics["num_scored"]) == (6, 5)
    assert len((tmp_path / "run" / "corrupt_videos.csv").read_text().splitlines()) == 3
    assert "1 of 9 videos of the train split cannot be read" in capsys.readouterr().out


# Splitting a batch over accumulation steps or processes changes nothing.

SPLIT = {
    "num_train_epochs": 2,
    "optim": "sgd",
    "learning_rate": 0.1,
    "eval_strategy": "no",
    "save_strategy": "no",
    **ONE_VIEW,
}


@pytest.fixture(scope="module")
def many_videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 16, 1)


@pytest.fixture(scope="module")
def whole_batches(many_videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(make_run(many_videos, folder, per_device_train_batch_size=16, **SPLIT)) == 0
    return folder


def assert_same_course(folder: Path, expected: Path):
    assert losses(folder) == pytest.approx(losses(expected), rel=1e-4)
    weights = load_file(expected / "model.safetensors")
    for name, tensor in load_file(folder / "model.safetensors").items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-5)


def test_gradient_accumulation_equals_a_larger_batch(many_videos, whole_batches, tmp_path):
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, **SPLIT}
    assert train(make_run(many_videos, tmp_path / "run", **options)) == 0
    assert_same_course(tmp_path / "run", whole_batches)


def test_two_processes_equal_one(many_videos, tmp_path):
    """With weights of classes and a sampler by class; `test_no_trainer.py` compares two processes without them."""
    assert train(make_run(many_videos, tmp_path / "one", per_device_train_batch_size=16, **SPLIT, **UNEVEN)) == 0
    given = arguments(many_videos, tmp_path / "run", per_device_train_batch_size=8, **SPLIT, **UNEVEN)
    result = run_python(
        "-m", "tubevit.training.cli", "train", "--num_processes", "2", *given
    )  # torchrun starts real ones
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same_course(tmp_path / "run", tmp_path / "one")
    assert "find_unused_parameters" not in result.stderr  # a warning of DDP where it searches and finds none
    assert "16 clips: 8 on each of 2 cpu devices, 1 batch per step" in result.stdout
    assert "slowest files" in result.stdout
    entries = [entry for entry in state_of(tmp_path / "run")["log_history"] if "loss" in entry]
    assert all(entry["slowest_rank"] in (0, 1) and entry["seconds_waiting_for_data"] > 0 for entry in entries)
    assert read_json(tmp_path / "run" / "evaluation" / "metrics.json")["num_scored"] == 3


# What training starts from

SHORT = {
    "preset": None,
    "model_config": None,
    "max_steps": 2,
    "save_strategy": "no",
    "eval_strategy": "no",
    **ONE_VIEW,
}
IMAGE_TUBES = [{"kernel_size": [4, 4, 4], "stride": [4, 8, 8]}]


def test_classifier_of_a_checkpoint_with_the_same_classes_is_kept(videos, tmp_path):
    source = save_tubevit(tmp_path / "source", ["Red", "blue", "green"])
    options = {**SHORT, "model_name_or_path": str(source), "learning_rate": 1e-12, "weight_decay": 0}
    assert train(make_run(videos, tmp_path / "run", **options)) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "run"))
    assert all(torch.allclose(before[name], after[name]) for name in before)
    assert list(read_json(tmp_path / "run" / "label_map.json")["id2label"].values()) == ["Red", "blue", "green"]


@pytest.mark.parametrize("names", [["a", "b", "c", "d"], ["a", "b", "c"]])
def test_ignore_mismatched_sizes_replaces_the_classifier(names, videos, tmp_path):
    source = save_tubevit(tmp_path / "source", names)
    options = {**SHORT, "model_name_or_path": str(source), "learning_rate": 1e-12, "weight_decay": 0}
    with pytest.raises(ValueError, match="set ignore_mismatched_sizes=true"):
        train(make_run(videos, tmp_path / "run", **options))
    assert train(make_run(videos, tmp_path / "run", ignore_mismatched_sizes=True, **options)) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "run"))
    same = {
        name for name in after if before[name].shape == after[name].shape and torch.allclose(before[name], after[name])
    }
    assert set(after) - same == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("kind", ["list", "datasets"])
def test_class_indices_follow_class_names_file(kind, videos, tmp_path):
    """The file has the order blue, green, red; the checkpoint has another."""
    import datasets

    source = save_tubevit(tmp_path / "source", ["red", "blue", "green"])
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    rows = [(str(path), NAMES.index(path.parent.name)) for path in sorted((videos / "train").rglob("*.mp4"))]
    (tmp_path / "list.txt").write_text("".join(f"{path} {index}\n" for path, index in rows))
    if kind == "datasets":
        columns = {"video": [{"path": path, "bytes": None} for path, _ in rows], "label": [index for _, index in rows]}
        columns["id"] = [path for path, _ in rows]
        types = {
            "video": datasets.Video(decode=False),
            "label": datasets.Value("int64"),
            "id": datasets.Value("string"),
        }
        features = datasets.Features(types)
        splits = {"train": datasets.Dataset.from_dict(columns, features=features)}
        datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    data = {
        "list": {"train_data": str(tmp_path / "list.txt"), "data": None},
        "datasets": {"data": str(tmp_path / "saved")},
    }
    options = {"preset": None, "model_config": None, "class_names_file": str(tmp_path / "names.txt"), **data[kind]}
    setup = build_run(make_run(videos, tmp_path / "run", model_name_or_path=str(source), **options), tmp_path)
    assert setup.data.class_names == ["red", "blue", "green"]
    for row in [*setup.data.splits["train"], *setup.data.splits["validation"]]:
        assert setup.data.class_names[row["label"]] == Path(row["video_id"]).parent.name


def test_from_an_image_model(videos, tmp_path):
    make_source("vit").save_pretrained(tmp_path / "source")
    options = {
        **SHORT,
        "model_name_or_path": str(tmp_path / "source"),
        "model_config": {"tubes": IMAGE_TUBES},
        "image_size": None,
    }
    assert train(make_run(videos, tmp_path / "run", **{**options, "short_side": None})) == 0
    assert read_json(tmp_path / "run" / "config.json")["model_type"] == "tubevit"


@pytest.mark.parametrize("name", PEERS)
def test_run_starts_from_another_video_classifier(name, videos, tmp_path):
    save_peer(tmp_path / "source", name, NAMES)
    options = {
        **SHORT,
        "model_name_or_path": str(tmp_path / "source"),
        "num_frames": None,
        "image_size": None,
        "short_side": None,
    }
    assert train(make_run(videos, tmp_path / "run", mixup_alpha=0.2, **options)) == 0
    assert read_json(tmp_path / "run" / "evaluation" / "metrics.json")["num_scored"] == 9
    saved = AutoModelForVideoClassification.from_pretrained(tmp_path / "run").config
    assert saved.model_type.startswith(name) and saved.problem_type == "single_label_classification"


def test_training_and_evaluation_read_the_same_frames(videos, tmp_path):
    for name in PEERS:
        source = str(tmp_path / name)
        save_peer(Path(source), name, NAMES)
        data = load_video_dataset(DataConfig(data=str(videos)))
        config = ModelConfig(model_name_or_path=source)
        trained = make_model(config, ClipConfig(), data, load_run_config(config)).processor
        evaluated = load_video_classifier(source, {}).processor
        clips = [each.preprocess(NOISE, return_tensors="pt", **RAW) for each in (trained, evaluated)]
        assert torch.equal(*(each.pixel_values_videos for each in clips)), name
        assert clips[0].pixel_values_videos.shape[-2:] == (16, 16), name


def test_best_model_with_renamed_keys_is_loaded(videos, tmp_path):
    save_peer(tmp_path / "source", "videomae", NAMES)
    own = {"model_name_or_path": str(tmp_path / "source"), "num_frames": None, "image_size": None, "short_side": None}
    options = {"preset": None, "model_config": None, "num_train_epochs": 2, "save_total_limit": 2}
    # Two epochs of so small steps score the same, and then the first is the best.
    assert train(make_run(videos, tmp_path / "run", learning_rate=1e-5, **options, **own, **ONE_VIEW)) == 0
    state = state_of(tmp_path / "run")
    assert state["best_global_step"] < state["global_step"]
    steps = (state["best_global_step"], state["global_step"])
    best, last = (load_file(tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors") for step in steps)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert not torch.equal(best["classifier.weight"], last["classifier.weight"])
    assert saved.keys() == best.keys() and all(torch.equal(saved[name], best[name]) for name in best)


def test_several_labels_per_video(videos, tmp_path):
    rows = [
        f"{path},{name}{';blue' if name == 'red' else ''}"
        for name in NAMES
        for path in (videos / "train" / name).iterdir()
    ]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    options = {
        "train_data": str(tmp_path / "train.csv"),
        "validation_data": str(tmp_path / "validation.csv"),
        "multi_label": True,
    }
    options |= {"num_train_epochs": 1, "label_smoothing": 0.1, **ONE_VIEW}
    run = make_run(videos, tmp_path / "run", **{**options, "data": None})
    assert train(run) == 0
    metrics = read_json(tmp_path / "run" / "evaluation" / "metrics.json")
    assert 0 < metrics["mean_average_precision"] <= 1
    assert read_json(tmp_path / "run" / "config.json")["problem_type"] == "multi_label_classification"


@pytest.mark.parametrize(("fraction", "num_train", "split"), [(0, 6, "test"), (0.5, 3, "validation")])
def test_charades_trains_on_all_training_videos_and_scores_the_test_split(
    fraction, num_train, split, videos, tmp_path, capsys
):
    """The recipe trained on 75 % of the training split, and nothing read the test split."""
    data = tmp_path / "charades"
    data.mkdir()
    clips = sorted((videos / "train").rglob("*.mp4"))[:9]
    for name, chosen in (("train", clips[:6]), ("test", clips[6:])):
        rows = [f"{name}{index},c{index % 3:03d} 0.00 1.00;c007 0.10 0.90" for index in range(len(chosen))]
        (data / f"Charades_v1_{name}.csv").write_text("\n".join(["id,actions", *rows]) + "\n")
        for index, clip in enumerate(chosen):
            (data / f"{name}{index}.mp4").write_bytes(clip.read_bytes())
    arguments = ["train", "--config", "charades-base", "--preset", "tiny", "--use_cpu", f"--data={data}"]
    arguments += [f"output_dir={tmp_path / 'run'}", f"model_config={json.dumps(TINY_MODEL)}", "mixed_precision=no"]
    sizes = ("num_frames=8", "image_size=16", "max_steps=1", "warmup_steps=0", "per_device_train_batch_size=2")
    counts = (
        "num_temporal_views=1",
        "num_spatial_views=1",
        "dataloader_num_workers=0",
        f"validation_fraction={fraction}",
    )
    assert main([*arguments, *sizes, *counts]) == 0
    shown = capsys.readouterr().out
    metrics = read_json(tmp_path / "run" / "evaluation" / "metrics.json")
    assert (metrics["split"], metrics["num_scored"]) == (split, 3)
    assert re.search(rf"train videos +{num_train}\n", shown)
    assert ("The validation split is scored, not the test split" in shown) == (split == "validation")


def test_frozen_layers_do_not_change(videos, tmp_path):
    source = save_tubevit(tmp_path / "source", NAMES)
    options = {**SHORT, "model_name_or_path": str(source), "num_frozen_layers": 1}
    assert train(make_run(videos, tmp_path / "run", **options)) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "run"))
    for name in after:
        frozen = name.startswith(("tubevit.embeddings", "tubevit.layers.0."))
        assert torch.equal(before[name], after[name]) == frozen, name


def test_ema_weights_are_evaluated(videos, tmp_path):
    """An EMA that hardly changes has the metrics of the initial weights, after any training."""
    options = {"num_train_epochs": 2, "learning_rate": 0.05, "ema_decay": 0.5, **ONE_VIEW}
    assert train(make_run(videos, tmp_path / "run", load_best_model_at_end=False, **options)) == 0
    last = max((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    average, saved = load_file(last / "ema.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    weights = load_file(last / "model.safetensors")
    assert all(torch.equal(average[name], saved[name]) for name in average)
    assert any(not torch.equal(weights[name], saved[name]) for name in average)


def test_lora_is_trained_resumed_and_merged(videos, tmp_path):
    pytest.importorskip("peft")
    options = {
        "lora_rank": 2,
        "save_strategy": "steps",
        "save_steps": 4,
        "save_total_limit": None,
        "eval_strategy": "no",
        **ONE_VIEW,
    }
    assert train(make_run(videos, tmp_path / "whole", **options)) == 0
    for name in ("config.json", "model.safetensors", "evaluation"):
        assert (tmp_path / "whole" / name).exists()
    shutil.copytree(
        tmp_path / "whole", tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "checkpoint-1?", "model.*")
    )
    assert train(make_run(videos, tmp_path / "run", resume_from_checkpoint="true", **options)) == 0
    expected, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_streamed_data_set_is_trained(videos, tmp_path):
    import datasets

    features = datasets.Features({"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=NAMES)})
    splits = {}
    for split, folder in (("train", "train"), ("validation", "val")):
        rows = [(str(path), name) for name in NAMES for path in sorted((videos / folder / name).iterdir())]
        columns = {
            "video": [{"path": path, "bytes": None} for path, _ in rows],
            "label": [NAMES.index(name) for _, name in rows],
        }
        splits[split] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    options = {"streaming": True, "save_strategy": "no", "eval_strategy": "no", **ONE_VIEW}
    with pytest.raises(ValueError, match="set max_steps"):
        train(make_run(tmp_path / "saved", tmp_path / "run", **options))
    assert train(make_run(tmp_path / "saved", tmp_path / "run", max_steps=6, **options)) == 0
    assert len(losses(tmp_path / "run")) == 6
    assert read_json(tmp_path / "run" / "evaluation" / "metrics.json")["num_scored"] == 9
