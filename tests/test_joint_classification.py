"""One backbone with a head per data set: each batch's loss is that of its data set's own classifier."""

import pytest
import torch
from tiny_models import make_model, tiny_clips, tiny_config

from tubevit import TubeViTForImageClassification, TubeViTForJointClassification, TubeViTForVideoClassification


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


def test_each_head_is_the_classifier_that_it_can_be_split_into(model, tmp_path):
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


def test_a_split_classifier_is_an_ordinary_checkpoint(model, tmp_path):
    model.to_classifier("actions").save_pretrained(tmp_path)
    loaded, info = TubeViTForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.config.id2label == {0: "run", 1: "jump", 2: "fall"} and loaded.config.heads is None
    clips = tiny_clips()
    assert torch.equal(loaded(clips).logits, model(clips, head="actions").logits)
    with torch.no_grad():  # a copy: training one does not change the other
        loaded.classifier.weight.zero_()
    assert model.classifiers["actions"].weight.abs().sum() > 0


def test_images_and_videos_in_one_forward_are_those_of_separate_ones(model):
    clips, labels, image_labels = tiny_clips(), torch.tensor([1, 2]), torch.tensor([0, 3, 5])
    both = model(clips, images(), labels, image_labels, head="actions")
    video, image = model(clips, labels=labels, head="actions"), model(pixel_values=images(), labels=image_labels)
    assert torch.equal(both.logits, video.logits) and torch.equal(both.image_logits, image.logits)
    torch.testing.assert_close(both.loss, video.loss + image.loss)


def test_every_parameter_gets_a_gradient_from_the_heads_together(model):
    model.train()
    labels, multi_hot = torch.tensor([1, 2]), torch.rand(2, 4).round()
    loss = model(tiny_clips(), images(), labels, torch.tensor([0, 3, 5]), head="actions").loss
    (loss + model(tiny_clips(), labels=multi_hot, head="charades").loss).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_head_is_found_where_there_is_one_of_its_kind_and_asked_for_otherwise(model):
    assert model(pixel_values=images()).logits.shape == (3, 6)
    with pytest.raises(
        ValueError, match="head must name a data set of videos, of which there are actions, charades, got None"
    ):
        model(tiny_clips())
    with pytest.raises(ValueError, match=r"head must name a data set of videos.*got 'objects'"):
        model(tiny_clips(), head="objects")
    with pytest.raises(ValueError, match="there is no data set 'object'; there are actions, charades, objects"):
        model(pixel_values=images(), head="object")
    with pytest.raises(ValueError, match="image_labels and image_head are for images beside videos"):
        model(pixel_values=images(), image_labels=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="there is no data set 'x'"):
        model.to_classifier("x")


def test_views_are_averaged_by_the_heads_problem(model):
    views = torch.stack([tiny_clips(seed=seed) for seed in range(3)], dim=1)
    for name, squash in (("actions", lambda x: x.softmax(-1)), ("charades", torch.sigmoid)):
        single = torch.stack([squash(model(views[:, i], head=name).logits) for i in range(3)])
        torch.testing.assert_close(squash(model(views, head=name).logits), single.mean(0))


def test_counted_items_make_accumulated_losses_add_up(model):
    clips, labels, image_labels = tiny_clips(4), torch.tensor([1, 2, 0, 0]), torch.tensor([0, 3, 5, 1])
    whole = model(clips, images(4), labels, image_labels, head="actions", num_items_in_batch=4).loss
    halves = [
        model(clips[i], images(4)[i], labels[i], image_labels[i], head="actions", num_items_in_batch=4).loss
        for i in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(sum(halves), whole)


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
def test_heads_that_make_no_model_are_refused(heads, message):
    with pytest.raises(ValueError, match=message) as error:
        tiny_config(heads=heads)
    assert "\n" not in str(error.value)


def test_a_model_without_heads_is_refused():
    with pytest.raises(ValueError, match="needs heads in the config"):
        TubeViTForJointClassification(tiny_config())
