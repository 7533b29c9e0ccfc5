"""`tubevit train` on videos and images together, and on images only, from files to predictions."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from repository import HELPERS, ROOT
from safetensors.torch import load_file
from small_image_models import make_source
from tiny_runs import (
    CLASSES,
    ONE_VIEW,
    OPTIONS,
    RANDOM,
    SHADES,
    arguments,
    make_images,
    make_run,
    make_videos,
)
from transformers import AutoConfig, pipeline
from video_classifiers import save_peer, save_tubevit
from warm_processes import run_python

from tubevit import TubeViTForJointClassification
from tubevit.training.cli import main
from tubevit.training.run_video_classification import train
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.run_config import JointRun


NAMES = {"clips": sorted(CLASSES), "pictures": sorted(SHADES)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {"clips": make_videos(folder / "clips", 6, 2), "pictures": make_images(folder / "pictures", 6, 2)}


def joint_options(data: dict[str, Path], output: Path, /, own: dict | None = None, **options) -> dict:
    """own: options per data set."""
    own = own or {}
    datasets = {name: {"data": str(folder), **own.get(name, {})} for name, folder in data.items()}
    return {**OPTIONS, "datasets": datasets, "output_dir": str(output), **options}


def joint_arguments(data: dict[str, Path], output: Path, /, **options) -> list[str]:
    return [f"{name}={value}" for name, value in joint_options(data, output, **options).items()]


def read_json(path: Path):
    return json.loads(path.read_text())


def history(folder: Path) -> list[dict]:
    """The log entries of training."""
    return [entry for entry in read_json(folder / "trainer_state.json")["log_history"] if "loss" in entry]


def assert_same_weights(folder: Path, expected: Path) -> None:
    ours, theirs = load_file(folder / "model.safetensors"), load_file(expected / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    own = {"clips": {"weight": 2}, "pictures": {"kind": "image", "per_device_train_batch_size": 6}}
    options = {"num_train_epochs": 5, "learning_rate": 1e-2, "rand_augment_layers": 0, "layer_decay": 1}
    assert train(JointRun.of(**joint_options(data, folder, own=own, **options))) == 0
    return folder


def test_both_data_sets_are_learned_and_each_classifier_predicts(data, trained):
    for name in data:
        assert read_json(trained / name / "evaluation" / "metrics.json")["accuracy"] == 1, name
    classify = pipeline("video-classification", model=str(trained / "clips"))
    for label in CLASSES:
        assert classify(str(data["clips"] / "val" / label / "0.mp4"))[0]["label"] == label
    classify = pipeline("image-classification", model=str(trained / "pictures"))
    for label in SHADES:
        assert classify(str(data["pictures"] / "val" / label / "0.png"))[0]["label"] == label


def test_classifiers_have_the_weights_of_the_joint_model(trained):
    joint = TubeViTForJointClassification.from_pretrained(trained)
    for name, labels in NAMES.items():
        assert list(joint.config.heads[name]["id2label"].values()) == labels
        weights = load_file(trained / name / "model.safetensors")
        for key, each in joint.to_classifier(name).state_dict().items():
            assert torch.equal(each, weights[key])


def test_counts_logs_and_card_cover_each_data_set(trained):
    counts = {"listed": 18, "cannot_be_read": 0, "used": 18}
    assert read_json(trained / "dataset.json")["clips"]["train"] == counts
    for name, labels in NAMES.items():
        expected = {str(index): label for index, label in enumerate(labels)}
        assert read_json(trained / "label_map.json")[name]["id2label"] == expected
    views = [read_json(trained / name / "evaluation" / "metrics.json")["num_temporal_views"] for name in NAMES]
    assert views == [2, 1]
    for entry in history(trained):  # one batch between two lines of the log
        (name,) = [name for name in NAMES if f"{name}/loss" in entry]
        assert entry[f"{name}/loss"] == pytest.approx(entry["loss"], rel=1e-5) and 0 <= entry[f"{name}/accuracy"] <= 1
    evaluated = [
        entry for entry in read_json(trained / "trainer_state.json")["log_history"] if "eval_mean_score" in entry
    ]
    assert len(evaluated) == 5
    for entry in evaluated:
        assert entry["eval_mean_score"] == (entry["eval_clips_accuracy"] + entry["eval_pictures_accuracy"]) / 2
    card = (trained / "README.md").read_text()
    assert "| clips | videos | 3 | 66.7 % | train | 18 | 0 | 18 |" in card and "clips.weight: 2" in card
    assert "image-classification" in (trained / "pictures" / "README.md").read_text()
    for readme in trained.glob("**/README.md"):
        assert str(trained.parent) not in readme.read_text()


def test_best_checkpoint_follows_metric_for_best_model_and_notes_are_printed_once(data, tmp_path, capsys):
    data = {"clips": data["clips"] / "train", "pictures": data["pictures"]}  # without a validation split
    options = {"metric_for_best_model": "pictures_loss", "num_train_epochs": 2, "save_total_limit": None, **ONE_VIEW}
    assert train(JointRun.of(**joint_options(data, tmp_path / "run", **options))) == 0
    assert capsys.readouterr().out.count("samples are held out") == 1
    state = read_json(tmp_path / "run" / "trainer_state.json")
    scores = {each["step"]: each["eval_pictures_loss"] for each in state["log_history"] if "eval_mean_score" in each}
    assert state["best_metric"] == min(scores.values()) and scores[state["best_global_step"]] == state["best_metric"]
    assert_same_weights(tmp_path / "run", tmp_path / "run" / f"checkpoint-{state['best_global_step']}")


def test_export_writes_one_classifier_and_eval_refuses_a_joint_model(data, trained, tmp_path, capsys):
    assert main(["export", str(trained), str(tmp_path / "clips"), "--dataset", "clips"]) == 0
    assert_same_weights(tmp_path / "clips", trained / "clips")
    assert 'AutoModelForVideoClassification.from_pretrained("' in capsys.readouterr().out
    assert main(["export", str(trained), str(tmp_path / "out"), "--dataset", "clip"]) == 2
    assert "there is no data set 'clip'; there are clips, pictures" in capsys.readouterr().err
    assert main(["export", str(trained / "clips"), str(tmp_path / "out"), "--dataset", "clips"]) == 2
    assert "--dataset is for joint models" in capsys.readouterr().err
    options = [f"model_name_or_path={trained}", f"data={data['clips']}", f"output_dir={tmp_path / 'out'}"]
    assert main(["eval", *options]) == 2
    assert "is a joint model, with heads for clips, pictures" in capsys.readouterr().err


# Killed, resumed, and split over processes

JOINT_RANDOM = {**RANDOM, "num_train_epochs": 2, "gradient_accumulation_steps": 2}
OWN_RANDOM = {"clips": {"weight": 2}, "pictures": {"mixup_alpha": 0, "per_device_train_batch_size": 3}}


def test_each_data_set_of_a_run_has_a_row_in_the_results(data, trained, tmp_path):
    runs = [str(trained / name) for name in NAMES]
    assert main(["experiments", "results", str(tmp_path / "results"), "--add", *runs, "--title", "Colours"]) == 0
    files = sorted((tmp_path / "results").glob("**/*.json"))
    clips, pictures = (read_json(path) for path in files)
    score = {"accuracy": 1.0, "correct": 6, "number": 6, "listed": 6, "chance": 1 / 3}
    assert clips["scores"]["validation"] == score and clips["views"] == "2 x 3" and pictures["views"] == "1 x 1"
    config = AutoConfig.from_pretrained(trained / "pictures")
    assert pictures["tokens"] == config.num_image_tokens() and pictures["tokens"] != clips["tokens"]
    own = clips["settings"]["datasets"]["clips"]
    assert (own["data"], own["weight"]) == (data["clips"].name, 2)
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    assert "**Data set clips of a joint run**" in text and text.count("| 100.0 |") == 2
    assert not any(str(tmp_path.parent) in path.read_text() for path in files)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(JointRun.of(**joint_options(data, folder, own=OWN_RANDOM, **JOINT_RANDOM))) == 0
    return folder


def test_killed_and_resumed_is_uninterrupted(data, whole, tmp_path):
    steps = [entry["step"] for entry in history(whole)]
    assert steps == list(range(1, 11))  # two epochs of nine batches: checkpoints are in the midst of both
    options = {"own": OWN_RANDOM, "dataloader_num_workers": 2, **JOINT_RANDOM}
    folder = tmp_path / "run"
    result = run_python(HELPERS / "tiny_runs.py", "train", "9", *joint_arguments(data, folder, **options))
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    assert not (folder / "model.safetensors").exists()
    assert train(JointRun.of(**joint_options(data, folder, resume_from_checkpoint="true", **options))) == 0
    assert_same_weights(folder, whole)
    scores = ("loss", *(f"{name}/{score}" for name in NAMES for score in ("loss", "accuracy")))
    for resumed, expected in zip(history(folder), history(whole), strict=True):
        assert {name: resumed.get(name) for name in scores} == {name: expected.get(name) for name in scores}


def test_resume_with_other_weights_of_data_sets_raises(data, whole, tmp_path):
    own = {**OWN_RANDOM, "clips": {"weight": 3}}
    with pytest.raises(ValueError, match=r"has datasets=.*, not .*resume it with its own options"):
        train(JointRun.of(**joint_options(data, whole, own=own, resume_from_checkpoint="true", **JOINT_RANDOM)))


SPLIT = {
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2,
    "optim": "sgd",
    "learning_rate": 0.1,
    "save_strategy": "no",
    "eval_strategy": "no",
    **ONE_VIEW,
}


def test_two_processes_equal_one(data, tmp_path):
    """Each accumulated batch leaves other parameters unused, and activations are recomputed."""
    expected = tmp_path / "one"
    options = {"per_device_train_batch_size": 6, **SPLIT}
    assert train(JointRun.of(**joint_options(data, expected, **options))) == 0
    mixed = [entry for entry in history(expected) if all(f"{name}/loss" in entry for name in NAMES)]
    assert 0 < len(mixed) < len(history(expected))
    script = ROOT / "training" / "run_video_classification.py"
    options = {"per_device_train_batch_size": 3, "activation_checkpointing": True, **SPLIT}
    result = run_python(script, *joint_arguments(data, tmp_path / "two", **options), ranks=2)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "3 of clips or 3 of pictures on each of 2 cpu devices, 2 batches per step" in result.stdout
    for ours, theirs in zip(history(tmp_path / "two"), history(expected), strict=True):
        names = [name for name in theirs if name.endswith(("loss", "accuracy"))]
        assert {name: ours.get(name) for name in names} == pytest.approx(
            {name: theirs[name] for name in names}, rel=1e-4
        )
    weights = load_file(expected / "model.safetensors")
    for name, tensor in load_file(tmp_path / "two" / "model.safetensors").items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-5)
    for name in NAMES:
        assert read_json(tmp_path / "two" / name / "evaluation" / "metrics.json")["is_complete"]


# From the command line


def test_dry_run_trains_on_a_batch_of_each_data_set_and_writes_nothing(data, tmp_path, capsys):
    assert (
        main(["train", *joint_arguments(data, tmp_path / "a" / "run", own={"clips": {"weight": 3}}), "--dry-run"]) == 0
    )
    shown = capsys.readouterr().out
    for words in (
        "clips, train          18 videos",
        "videos, 3 classes, sampling weight 3 (75 % of the batches), 20 tokens",
        "images, 2 classes, sampling weight 1 (25 % of the batches), 4 tokens",
        "loss of the first batch of clips is",
        "loss of the first batch of pictures is",
    ):
        assert words in shown, shown
    assert not list(tmp_path.iterdir())


def one_class(folder: Path) -> Path:
    path = make_images(folder / "one", 2, 1)
    for split in ("train", "val"):
        (path / split / "light").rename(folder / split)
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"own": {"pictures": {"kind": "video"}}}, ("datasets.pictures: kind=video, but the data are images",)),
        ({"own": {"clips": {"data": "/nothing/there"}}}, ("datasets.clips: ", "/nothing/there")),
        (
            {"own": {"clips": {"num_classes": 4}}},
            ("datasets.clips: The annotations hold 3 classes, expected 4",),
        ),
        ({"own": {"clips": {"streaming": True}}}, ("datasets.clips: streaming",)),
        ({"metric_for_best_model": "accuracy"}, ("mean_score, clips_accuracy", "got 'accuracy'")),
        ({"preset": "null", "model_name_or_path": "PEER", "model_config": "null"}, ("VideoMAE", "TubeViT")),
        (
            {"model_config": {**OPTIONS["model_config"], "tubes": [{"kernel_size": [4, 4, 4], "stride": [4, 8, 8]}]}},
            ("takes no images",),
        ),
    ],
)
def test_wrong_options_print_one_line(options, words, data, tmp_path, capsys):
    if options.get("model_name_or_path") == "PEER":
        save_peer(tmp_path / "peer", "videomae")
        options = {**options, "model_name_or_path": tmp_path / "peer"}
    assert main(["train", *joint_arguments(data, tmp_path / "run", **options)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("tubevit train: error: ") and all(word in line for word in words), line
    assert not (tmp_path / "run" / "resolved_config.yaml").exists()


def test_data_set_with_one_class_raises(data, tmp_path):
    with pytest.raises(ValueError, match=r"^datasets\.pictures: .*one class only .*training needs two"):
        train(JointRun.of(**joint_options({**data, "pictures": one_class(tmp_path)}, tmp_path / "run")))


def test_train_loop_refuses_several_data_sets(data, tmp_path, capsys):
    assert main(["train-loop", *joint_arguments(data, tmp_path / "run")]) == 2
    assert "use `tubevit train` for datasets" in capsys.readouterr().err


def test_corrupt_files_are_dropped_from_their_data_set(data, tmp_path):
    clips = make_videos(tmp_path / "clips", 3, 1)
    (clips / "train" / "red" / "0.mp4").write_bytes(b"")
    options = {"max_steps": 2, "save_strategy": "no", "eval_strategy": "no", "max_corrupt_fraction": 0.2, **ONE_VIEW}
    run = JointRun.of(**joint_options({**data, "clips": clips}, tmp_path / "run", **options))
    assert train(run) == 0
    assert read_json(tmp_path / "run" / "dataset.json")["clips"]["train"]["cannot_be_read"] == 1
    assert "0.mp4" in (tmp_path / "run" / "corrupt_videos_clips.csv").read_text()


# What a joint model starts from

SHORT = {"preset": None, "model_config": None}


def setup_from(data, source: Path, folder: Path, **options):
    return build_run(
        JointRun.of(**joint_options(data, folder, **{**SHORT, "model_name_or_path": str(source), **options})), folder
    )


def test_heads_of_a_joint_checkpoint_are_kept(data, trained, tmp_path):
    other = {"clips": data["clips"], "shades": data["pictures"]}
    setup = setup_from(other, trained, tmp_path)
    weights, before = setup.model.model.state_dict(), load_file(trained / "model.safetensors")
    assert torch.equal(weights["classifiers.clips.weight"], before["classifiers.clips.weight"])
    assert all(torch.equal(each, before[name]) for name, each in weights.items() if name.startswith("tubevit."))
    assert list(setup.model.model.config.heads) == ["clips", "shades"] and "kept: clips" in " ".join(setup.messages)
    with pytest.raises(ValueError, match=r"^datasets\.pictures: .* has a head of this name for 2 classes"):
        setup_from({"pictures": data["clips"]}, trained, tmp_path)
    replaced = setup_from({"pictures": data["clips"]}, trained, tmp_path, ignore_mismatched_sizes=True)
    assert replaced.model.model.classifiers["pictures"].out_features == 3


def test_backbone_of_a_video_classifier_is_kept(data, tmp_path):
    source = save_tubevit(tmp_path / "source", NAMES["clips"])
    weights = setup_from(data, source, tmp_path).model.model.state_dict()
    before = load_file(source / "model.safetensors")
    assert all(torch.equal(each, before[name]) for name, each in weights.items() if name.startswith("tubevit."))
    assert not torch.equal(weights["classifiers.clips.weight"], before["classifier.weight"])


def test_from_an_image_model(data, tmp_path):
    make_source("vit").save_pretrained(tmp_path / "source")
    own = {"model_config": {"tubes": [{"kernel_size": [4, 4, 4], "stride": [4, 8, 8]}]}}
    own |= {"image_size": None, "short_side": None}
    model = setup_from(data, tmp_path / "source", tmp_path, **own).model.model
    assert isinstance(model, TubeViTForJointClassification) and set(model.classifiers) == set(data)


def test_run_on_one_data_set_starts_from_a_joint_checkpoint(data, trained, tmp_path):
    options = {**SHORT, "max_steps": 1, "save_strategy": "no", "eval_strategy": "no", "num_frames": None, **ONE_VIEW}
    assert train(make_run(data["clips"], tmp_path / "run", model_name_or_path=str(trained), **options)) == 0
    assert read_json(tmp_path / "run" / "config.json").get("heads") is None


# Images alone


@pytest.fixture(scope="module")
def image_run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "run"
    options = {"num_train_epochs": 5, "learning_rate": 1e-2, "rand_augment_layers": 0, "layer_decay": 1}
    assert train(make_run(data["pictures"], folder, **options)) == 0
    return folder


def test_run_on_images_saves_an_image_classifier(data, image_run):
    metrics = read_json(image_run / "evaluation" / "metrics.json")
    assert (metrics["accuracy"], metrics["num_scored"], metrics["num_temporal_views"]) == (1, 4, 1)
    classify = pipeline("image-classification", model=str(image_run))
    for label in SHADES:
        assert classify(str(data["pictures"] / "val" / label / "1.png"))[0]["label"] == label
    assert "An image classifier with 2 classes" in (image_run / "README.md").read_text()


def test_image_classifier_is_evaluated_on_images_only(data, image_run, tmp_path, capsys):
    options = [f"model_name_or_path={image_run}", f"output_dir={tmp_path / 'out'}", "use_cpu=true"]
    for split in ("train", "val"):
        for label in SHADES:
            clip = tmp_path / "clips" / split / label / "0.mp4"
            clip.parent.mkdir(parents=True)
            shutil.copy(data["clips"] / "val" / "red" / "0.mp4", clip)
    assert main(["eval", *options, f"data={tmp_path / 'clips'}"]) == 2
    assert "a classifier of images is evaluated on images" in capsys.readouterr().err
    assert main(["eval", *options, f"data={data['pictures']}"]) == 0
    assert "4 of 4 images scored" in capsys.readouterr().out


def test_run_on_videos_starts_from_an_image_classifier(data, image_run, tmp_path):
    """Images first, then videos: the alternative to joint training in table 5."""
    options = {**SHORT, "max_steps": 1, "save_strategy": "no", "eval_strategy": "no", "num_frames": None, **ONE_VIEW}
    options |= {"model_name_or_path": str(image_run), "learning_rate": 1e-12, "weight_decay": 0}
    assert train(make_run(data["clips"], tmp_path / "run", **options)) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (image_run, tmp_path / "run"))
    backbone = [name for name in after if name.startswith("tubevit.")]
    assert backbone and all(torch.allclose(before[name], after[name]) for name in backbone)
    assert after["classifier.weight"].shape[0] == 3


def test_train_loop_trains_on_images(data, tmp_path):
    options = {"num_train_epochs": 1, **ONE_VIEW}
    assert main(["train-loop", *arguments(data["pictures"], tmp_path / "run", **options)]) == 0
    assert read_json(tmp_path / "run" / "evaluation" / "metrics.json")["num_scored"] == 4


def test_video_models_refuse_images(data, tmp_path):
    save_peer(tmp_path / "source", "videomae", NAMES["pictures"])
    own = {"model_name_or_path": str(tmp_path / "source"), "num_frames": None, "image_size": None, "short_side": None}
    with pytest.raises(ValueError, match="The data are images: "):
        train(make_run(data["pictures"], tmp_path / "run", **SHORT, **own))
