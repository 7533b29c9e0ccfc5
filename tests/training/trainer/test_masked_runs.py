"""`tubevit train --task masked`: runs without labels, exact resumes, and fine-tuning from them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import make_model, tiny_config
from tiny_runs import OPTIONS, arguments, make_images, make_run, make_videos

from tubevit import TubeViTForPreTraining, TubeViTForVideoClassification, TubeViTVideoProcessor
from tubevit.training.cli import main
from tubevit.training.data.data_config import DataConfig
from tubevit.training.data.unlabeled import load_unlabeled
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.masked_run import MaskedTrainer, build_masked_run
from tubevit.training.trainer.run_config import JointRun
from tubevit.training.trainer.run_steps import make_trainer, train_run


MASKED = {"task": "masked", "num_temporal_views": 1, "num_spatial_views": 1, "max_steps": 6, "num_train_epochs": 30.0}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos") / "labeled", 4, 2)


@pytest.fixture(scope="module")
def flat(videos):
    folder = videos.parent / "flat"
    folder.mkdir()
    for index, path in enumerate(sorted(videos.rglob("*.mp4"))):
        shutil.copy(path, folder / f"{index:02}.mp4")
    return folder


@pytest.fixture(scope="module")
def pretrained(flat):
    """A run with checkpoints after steps 3 and 6, dropout and augmentation."""
    options = {
        **MASKED,
        "save_strategy": "steps",
        "save_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_total_limit": None,
    }
    options |= {
        "model_config": json.dumps({**OPTIONS["model_config"], "hidden_dropout_prob": 0.1, "mask_ratio": 0.6}),
        "random_erasing_prob": 0.3,
    }
    folder = flat.parent / "pretrained"
    assert main(["train", *arguments(flat, folder, load_best_model_at_end=False, ema_decay=0.9, **options)]) == 0
    return folder


def test_a_run_writes_a_model_its_loss_and_a_card(pretrained, capsys):
    model = TubeViTForPreTraining.from_pretrained(pretrained)
    assert model.config.architectures == ["TubeViTForPreTraining"] and model.config.mask_ratio == 0.6
    metrics = json.loads((pretrained / "train_metrics.json").read_text())
    history = json.loads((pretrained / "trainer_state.json").read_text())["log_history"]
    assert metrics["validation_loss"] == pytest.approx(
        [each["eval_loss"] for each in history if "eval_loss" in each][-1]
    )
    card = (pretrained / "README.md").read_text()
    assert "pretrained on videos without labels" in card and "12 of 20, in columns of 8x8 pixels" in card
    assert f"{metrics['validation_loss']:.4f}" in card and str(pretrained) not in card
    assert not (pretrained / "evaluation").exists()


def test_a_resumed_run_ends_with_the_same_weights(pretrained, flat, tmp_path):
    shutil.copytree(
        pretrained,
        tmp_path / "run",
        ignore=shutil.ignore_patterns("checkpoint-6", "*.safetensors", "train_metrics.json"),
    )
    shutil.copytree(pretrained / "checkpoint-3", tmp_path / "run" / "checkpoint-3", dirs_exist_ok=True)
    config = str(pretrained / "resolved_config.yaml")
    assert main(["train", "--config", config, f"output_dir={tmp_path / 'run'}", "resume_from_checkpoint=true"]) == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", pretrained))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    start = load_file(pretrained / "checkpoint-3" / "model.safetensors")
    assert not all(torch.equal(start[key], theirs[key]) for key in start)


def test_fine_tuning_starts_from_its_backbone(pretrained, videos, tmp_path):
    setup = build_run(
        make_run(videos, tmp_path / "run", preset=None, model_config={}, model_name_or_path=str(pretrained)), tmp_path
    )
    assert type(setup.model.model) is TubeViTForVideoClassification
    saved = load_file(pretrained / "model.safetensors")
    weights = setup.model.model.state_dict()
    assert all(torch.equal(weights[key], saved[key]) for key in saved if key.startswith("tubevit."))
    assert f"{pretrained} has no classifier: it gets a new one; its decoder is left out." in setup.messages


def test_masks_and_targets_of_a_setup(flat, tmp_path):
    setup = build_masked_run(make_run(flat, tmp_path / "run", **MASKED), tmp_path)
    clips = [setup.train_clips[index] for index in range(3)]
    batch, again = (setup.collator(augments=True)(clips) for _ in range(2))
    assert sorted(batch) == ["bool_masked_pos", "labels", "pixel_values_videos"] and batch["labels"].tolist() == [
        0,
        0,
        0,
    ]
    assert torch.equal(batch["bool_masked_pos"], again["bool_masked_pos"])
    on_device = setup.augment(setup.collator(augments=False)(clips))
    assert torch.equal(batch["bool_masked_pos"], on_device["bool_masked_pos"])
    alone = setup.collator(augments=True)(clips[1:2])
    assert torch.equal(alone["bool_masked_pos"][0], batch["bool_masked_pos"][1])
    setup.train_clips.set_epoch(1)
    later = setup.collator(augments=True)([setup.train_clips[index] for index in range(3)])
    assert not torch.equal(batch["bool_masked_pos"], later["bool_masked_pos"])
    scored = setup.evaluation_collator()([setup.validation_clips[0]])
    assert sorted(scored) == sorted(batch) and not torch.equal(scored["bool_masked_pos"], batch["bool_masked_pos"][:1])
    assert setup.describe_task()["masked tokens"].startswith("16 of 20, in columns of 8x8 pixels")


def test_clips_that_cannot_be_read_do_not_count():
    outputs, labels = {"clip_losses": torch.tensor([1.0, 7.0, 3.0])}, torch.tensor([0, -100, 0])
    assert MaskedTrainer.loss(None, outputs, labels).item() == 2
    assert MaskedTrainer.loss(None, outputs, labels, torch.tensor(8)).item() == 0.5  # of all accumulated batches
    assert MaskedTrainer.loss(None, outputs, torch.full((3,), -100)).item() == 0


def test_features_are_those_of_the_start(flat, tmp_path):
    start = make_model(TubeViTForVideoClassification, tiny_config(use_cls_token=True))
    start.save_pretrained(tmp_path / "start")
    TubeViTVideoProcessor(
        num_frames=8, size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(tmp_path / "start")
    options = {
        **MASKED,
        "preset": None,
        "model_config": {"mask_target": "features"},
        "model_name_or_path": str(tmp_path / "start"),
        "max_steps": 2,
    }
    setup = build_masked_run(make_run(flat, tmp_path / "run", **options), tmp_path)
    number = len(list(setup.model.model.decoder.parameters()))
    assert f"{tmp_path / 'start'}: {number} weights of the decoder are new." in setup.messages
    batch = setup.collator(augments=True)([setup.train_clips[0]])
    features = start.tubevit(batch["pixel_values_videos"]).last_hidden_state[:, 1:]
    expected = setup.model.model.eval()(
        **{k: v for k, v in batch.items() if k != "labels"}, target_features=features
    ).loss

    trainer = make_trainer(setup, setup.run.training.for_trainer(True, "loss"))
    torch.testing.assert_close(trainer.compute_loss(setup.model.model, dict(batch)), expected)
    trained = train_run(make_run(flat, tmp_path / "run", **options))
    assert trained.steps == 2 and 0 < trained.metrics["validation_loss"] < 10


def test_layouts_without_and_with_labels(videos, flat, tmp_path):
    data = load_unlabeled(DataConfig(data=str(flat), validation_fraction=0.5))
    assert {split: len(rows) for split, rows in data.splits.items()} == {
        "train": 9,
        "validation": 9,
    } and data.class_names == []
    assert any("Videos are read without labels: train 18." in each for each in data.messages)
    for split, names in (("train", ["a", "b"]), ("val", ["c"])):
        (tmp_path / "splits" / split).mkdir(parents=True)
        for name in names:
            shutil.copy(flat / "00.mp4", tmp_path / "splits" / split / f"{name}.mp4")
    data = load_unlabeled(DataConfig(data=str(tmp_path / "splits")))
    assert {split: rows["video_id"] for split, rows in data.splits.items()} == {
        "train": ["train/a.mp4", "train/b.mp4"],
        "validation": ["val/c.mp4"],
    }
    alone = load_unlabeled(DataConfig(train_data=str(flat), validation_data=str(tmp_path / "splits" / "val")))
    assert {split: len(rows) for split, rows in alone.splits.items()} == {"train": 18, "validation": 1}
    data = load_unlabeled(DataConfig(data=str(videos)))
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 12, "validation": 6}
    assert "The labels (3 classes) are ignored: task=masked trains without labels." in data.messages
    # Class folders that are of no use to a classifier are folders of videos; an annotation file is read or refused.
    for split, name in (("train", "monday"), ("train", "tuesday"), ("val", "friday")):
        shutil.copytree(next((videos / split).iterdir()), tmp_path / "uploads" / split / name)
    data = load_unlabeled(DataConfig(data=str(tmp_path / "uploads")))
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 8, "validation": 2}
    assert any("Videos are read without labels: train 8, validation 2." in each for each in data.messages)
    (tmp_path / "splits" / "labels.csv").write_text("file_name,colour\na.mp4,red\nb.mp4,red\n")
    with pytest.raises(
        ValueError, match=r"labels\.csv names videos of the folder, but not in a format that can be read"
    ):
        load_unlabeled(DataConfig(data=str(tmp_path / "splits")))
    with pytest.raises(ValueError, match="task=masked needs videos, and the data are images"):
        load_unlabeled(DataConfig(data=str(make_images(tmp_path / "images", 2, 1))))
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load_unlabeled(DataConfig(data=str(tmp_path / "nowhere")))


REFUSED = {
    "mixup_alpha=0.3 is for classifiers": {"mixup_alpha": 0.3},
    "sampler=balanced is for classifiers": {"sampler": "balanced"},
    "lora_rank=2 is for classifiers": {"lora_rank": 2},
    "token_budget_range=[8, 20] is for classifiers": {"token_budget_range": [8, 20]},
    "flip=swap_labels changes labels": {"flip": "swap_labels"},
    "push_to_hub uploads classifiers": {"push_to_hub": True},
    "mask_target=features predicts the features of the checkpoint": {"model_config": {"mask_target": "features"}},
    "group_column=person needs annotations, and there are none: ": {"group_column": "person"},
    "video_root=elsewhere needs annotations, and there are none: ": {"video_root": "elsewhere"},
    "metric_for_best_model must be one of loss": {"metric_for_best_model": "accuracy"},
    "task=masked is for TubeViT": {"preset": "vivit-b16x2", "model_config": {"num_hidden_layers": 1, "hidden_size": 24}},
    "mask_ratio must be above 0 and below 1": {"model_config": {**OPTIONS["model_config"], "mask_ratio": 1.5}},
    "leaves 1.0 % of the masked tokens as targets": {
        "model_config": {**OPTIONS["model_config"], "tubes": [{"kernel_size": [4, 16, 8], "stride": [1, 1, 8]}]}, "image_size": 32, "short_side": 32,
    },
}  # fmt: skip


@pytest.mark.parametrize(("message", "options"), REFUSED.items())
def test_refusals(message, options, flat, tmp_path):
    with pytest.raises(ValueError) as error:
        build_masked_run(make_run(flat, tmp_path / "run", **{**MASKED, **options}), tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_other_commands_refuse_in_one_line(pretrained, videos, tmp_path, capsys):
    joint = {"preset": "tiny", "task": "masked", "datasets": {"a": {"data": str(videos)}}}
    with pytest.raises(ValueError, match="task=masked trains on one data set"):
        JointRun.of(**joint)
    commands = {
        "fine-tune it by `tubevit train model=": ["export", str(pretrained), str(tmp_path / "code")],
        "fine-tune it with this class first": [
            "predict",
            "--model",
            str(pretrained),
            str(videos / "val" / "red" / "0.mp4"),
        ],
        "use `tubevit train` for task=masked": ["train-loop", *arguments(videos, tmp_path / "loop", **MASKED)],
    }
    for message, command in commands.items():
        assert main(command) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "code").exists()
