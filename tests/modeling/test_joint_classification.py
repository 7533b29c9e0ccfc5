"""One backbone with a head per data set: the loss of a batch is the loss of the classifier of its data set."""

import re

import pytest
import torch
from tiny_models import make_model, tiny_clips, tiny_config
from transformers import AutoModelForVideoClassification, Trainer, TrainingArguments, pipeline

from tubevit import (
    TubeViTForImageClassification,
    TubeViTForJointClassification,
    TubeViTForVideoClassification,
    TubeViTVideoProcessor,
)


HEADS = {
    "actions": {"modality": "video", "id2label": {0: "run", 1: "jump", 2: "fall"}},
    "charades": {
        "modality": "video",
        "num_labels": 4,
        "problem_type": "multi_label_classification",
        "loss_weight": 0.5,
    },
    "objects": {"modality": "image", "num_labels": 6, "loss_weight": 2},
}


@pytest.fixture
def model():
    return make_model(TubeViTForJointClassification, heads=HEADS)


def images(batch: int = 3) -> torch.Tensor:
    return tiny_clips(batch, seed=1)[:, 0]


def test_each_head_equals_its_to_classifier(model, tmp_path):
    clips = tiny_clips()
    for name, labels in (("actions", torch.tensor([2, 0])), ("charades", torch.rand(2, 4).round())):
        plain = model.to_classifier(name)
        assert isinstance(plain, TubeViTForVideoClassification)
        ours = model(pixel_values_videos=clips, labels=labels, head=name)
        theirs = plain(pixel_values_videos=clips, labels=labels)
        assert torch.equal(ours.logits, theirs.logits)
        torch.testing.assert_close(ours.loss, theirs.loss * HEADS[name].get("loss_weight", 1.0))
    plain = model.to_classifier("objects")
    assert isinstance(plain, TubeViTForImageClassification)
    ours, theirs = (
        model(pixel_values=images(), labels=torch.tensor([5, 0, 1])),
        plain(images(), torch.tensor([5, 0, 1])),
    )
    assert torch.equal(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.loss, 2 * theirs.loss)


def test_to_classifier_saves_an_ordinary_checkpoint(model, tmp_path):
    model.to_classifier("actions").save_pretrained(tmp_path)
    loaded, info = TubeViTForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.config.id2label == {0: "run", 1: "jump", 2: "fall"} and loaded.config.heads is None
    clips = tiny_clips()
    assert torch.equal(loaded(clips).logits, model(clips, head="actions").logits)
    with torch.no_grad():  # a copy: training one does not change the other
        loaded.classifier.weight.zero_()
    assert model.classifiers["actions"].weight.abs().sum() > 0


@pytest.mark.parametrize("has_sub_folders", [False, True])
def test_a_joint_checkpoint_is_no_classifier(model, tmp_path, has_sub_folders):
    model.save_pretrained(tmp_path)
    TubeViTVideoProcessor(num_frames=8, size=16, crop_size=16).save_pretrained(tmp_path)
    clips = next(name for name, head in model.config.heads.items() if head["modality"] == "video")
    hint = re.escape(f"to_classifier({clips!r})")
    if has_sub_folders:
        model.to_classifier(clips).save_pretrained(tmp_path / clips)
        hint = re.escape(f"its sub-folder {tmp_path / clips}.")
    with pytest.raises(ValueError, match=hint):
        AutoModelForVideoClassification.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="with heads for .*" + hint):
        pipeline("video-classification", model=str(tmp_path))
    with pytest.raises(ValueError, match="not a TubeViTForImageClassification"):
        TubeViTForImageClassification.from_pretrained(tmp_path)


def test_one_forward_of_images_and_videos_equals_two(model):
    clips, labels, image_labels = tiny_clips(), torch.tensor([1, 2]), torch.tensor([0, 3, 5])
    both = model(clips, images(), labels, image_labels, head="actions")
    video, image = model(clips, labels=labels, head="actions"), model(pixel_values=images(), labels=image_labels)
    assert torch.equal(both.logits, video.logits) and torch.equal(both.image_logits, image.logits)
    torch.testing.assert_close(both.loss, video.loss + image.loss)


def test_all_heads_together_give_every_parameter_a_gradient(model):
    model.train()
    labels, multi_hot = torch.tensor([1, 2]), torch.rand(2, 4).round()
    loss = model(tiny_clips(), images(), labels, torch.tensor([0, 3, 5]), head="actions").loss
    (loss + model(tiny_clips(), labels=multi_hot, head="charades").loss).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_head_is_required_if_several_have_the_modality(model):
    assert model(pixel_values=images()).logits.shape == (3, 6)
    with pytest.raises(ValueError, match="head must be a data set of videos, one of actions, charades, got None"):
        model(tiny_clips())
    with pytest.raises(ValueError, match=r"head must be a data set of videos.*got 'objects'"):
        model(tiny_clips(), head="objects")
    with pytest.raises(ValueError, match="there is no data set 'object'; there are actions, charades, objects"):
        model(pixel_values=images(), head="object")
    with pytest.raises(ValueError, match="image_targets and image_head need pixel_values_videos too"):
        model(pixel_values=images(), image_targets=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="there is no data set 'x'"):
        model.to_classifier("x")


def test_views_are_averaged_by_the_problem_type_of_the_head(model):
    views = torch.stack([tiny_clips(seed=seed) for seed in range(3)], dim=1)
    for name, squash in (("actions", lambda x: x.softmax(-1)), ("charades", torch.sigmoid)):
        single = torch.stack([squash(model(views[:, i], head=name).logits) for i in range(3)])
        torch.testing.assert_close(squash(model(views, head=name).logits), single.mean(0))


def test_trainer_accumulates_over_heads_and_evaluates(model, tmp_path):
    rows = [
        {"pixel_values_videos": tiny_clips(1, seed=seed)[0], "labels": torch.tensor(seed % 3), "head": "actions"}
        for seed in range(4)
    ]

    def collate(samples):
        batch = {key: torch.stack([row[key] for row in samples]) for key in ("pixel_values_videos", "labels")}
        return batch | {"head": samples[0]["head"]}

    weights = []
    for batch_size, steps in ((4, 1), (2, 2)):
        copied = TubeViTForJointClassification(model.config)
        copied.load_state_dict(model.state_dict())
        arguments = TrainingArguments(
            str(tmp_path / str(steps)), per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps,
            max_steps=1, learning_rate=0.1, optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0,
            remove_unused_columns=False, use_cpu=True, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            copied, arguments, data_collator=collate, train_dataset=rows, eval_dataset=rows,
            compute_metrics=lambda result: {"top1": (result.predictions.argmax(-1) == result.label_ids).mean()},
        )  # fmt: skip
        trainer.train()
        weights.append(copied.classifiers["actions"].weight)
        assert {"eval_loss", "eval_top1"} <= set(trainer.evaluate())
    torch.testing.assert_close(*weights)


def test_save_and_load(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = TubeViTForJointClassification.from_pretrained(tmp_path)
    assert loaded.config.heads == model.config.heads
    assert torch.equal(loaded(pixel_values=images()).logits, model(pixel_values=images()).logits)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, "at least one data set"),
        ({"a": {"num_labels": 3}}, r"heads\['a'\] needs modality as 'video' or 'image', got None"),
        ({"a": {"modality": "video"}}, r"heads\['a'\] needs id2label, or num_labels"),
        ({"a": {"modality": "video", "num_labels": 0}}, "num_labels of at least 1, got 0"),
        ({"a": {"modality": "video", "num_labels": 3, "id2label": {0: "x"}}}, "num_labels=3, but id2label names 1"),
        ({"a": {"modality": "video", "id2label": {1: "x"}}}, "without a gap"),
        ({"a": {"modality": "video", "labels": 3}}, "unknown key 'labels'"),
        ({"a.b": {"modality": "video", "num_labels": 3}}, "cannot name a data set"),
        (
            {"a": {"modality": "video", "num_labels": 3, "loss_weight": -1}},
            "loss_weight must be a number of at least 0, got -1",
        ),
        ({"a": {"modality": "video", "num_labels": 3, "problem_type": "regression"}}, "problem_type must be one of"),
        ({"a": 3}, "must be a dict with the keys"),
    ],
)
def test_invalid_heads_raise(heads, message):
    with pytest.raises(ValueError, match=message) as error:
        tiny_config(heads=heads)
    assert "\n" not in str(error.value)


def test_model_without_heads_raises():
    with pytest.raises(ValueError, match="needs heads in the config"):
        TubeViTForJointClassification(tiny_config())


def test_head_names_reserved_by_torch_raise():
    heads = {"keys": {"modality": "video", "num_labels": 3}}
    with pytest.raises(ValueError, match="'keys' cannot name a data set"):
        TubeViTForJointClassification(tiny_config(heads=heads))


def test_forward_without_pixels_raises(model):
    with pytest.raises(ValueError, match="Give pixel_values_videos"):
        model()
