"""Groups of labels with a softmax of their own ("multi-task heads"): the loss, the average of views, and the config of every family."""

import pytest
import torch
from tiny_models import TINY_TUBES
from torch.nn.functional import cross_entropy

import tubevit
from tubevit import FactorizedViViTConfig, TubeViTConfig, UniFormerV2Config
from tubevit.classification import average_views, classification_loss, label_groups_of


GROUPS = [["noun", 3], ["verb", 2]]
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "image_size": 16,
}
FAMILIES = {
    "TubeViT": (TubeViTConfig, {"tubes": TINY_TUBES, "num_frames": 8}),
    "UniFormerV2": (UniFormerV2Config, {"patch_size": 8, "num_frames": 4}),
    "FactorizedViViT": (FactorizedViViTConfig, {"tubelet_size": [2, 8, 8], "num_frames": 4}),
}


def config(**overrides) -> UniFormerV2Config:
    return UniFormerV2Config(**{"label_groups": GROUPS, **overrides})


def random_case(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `(batch, 5)` and class indices `(batch, 2)`, counted over both groups."""
    generator = torch.Generator().manual_seed(5)
    nouns, verbs = (torch.randint(0, size, (batch,), generator=generator) for _, size in GROUPS)
    return torch.randn(batch, 5, generator=generator, dtype=torch.float64), torch.stack([nouns, verbs + 3], dim=1)


def to_soft(labels: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(labels), 5, dtype=torch.float64).scatter_(1, labels, 1.0)


def test_the_loss_is_the_mean_of_the_losses_of_the_groups():
    logits, labels = random_case()
    expected = (cross_entropy(logits[:, :3], labels[:, 0]) + cross_entropy(logits[:, 3:], labels[:, 1] - 3)) / 2
    torch.testing.assert_close(classification_loss(labels, logits, config()), expected)
    torch.testing.assert_close(classification_loss(to_soft(labels), logits, config()), expected)
    mixed = 0.3 * to_soft(labels) + 0.7 * to_soft(labels).roll(1, 0)
    expected = (cross_entropy(logits[:, :3], mixed[:, :3]) + cross_entropy(logits[:, 3:], mixed[:, 3:])) / 2
    torch.testing.assert_close(classification_loss(mixed, logits, config()), expected)


@pytest.mark.parametrize("is_soft", [False, True])
def test_losses_of_micro_batches_sum_to_the_loss_of_the_batch(is_soft):
    """`num_items_in_batch` is counted as Trainer counts it: label elements that are not -100. Sample 2 has no labels."""
    logits, labels = random_case()
    labels = to_soft(labels) if is_soft else labels
    labels[2] = -100
    num_items = labels.ne(-100).sum()
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    losses = [classification_loss(labels[p], logits[p], config(), num_items_in_batch=num_items) for p in parts]
    torch.testing.assert_close(sum(losses), classification_loss(labels, logits, config()))
    known = [0, 1, 3, 4, 5]
    torch.testing.assert_close(sum(losses), classification_loss(labels[known], logits[known], config()))


def test_soft_labels_of_some_groups_are_refused_where_trainer_counts_labels():
    """The three nouns of sample 0 count as three elements of `num_items_in_batch`, and its two verbs as none."""
    logits, labels = random_case(2)
    soft = to_soft(labels)
    soft[0, 3:] = -100
    parts = (cross_entropy(logits[:, :3], soft[:, :3], reduction="sum"), cross_entropy(logits[1:, 3:], soft[1:, 3:]))
    torch.testing.assert_close(classification_loss(soft, logits, config()), sum(parts) / 3)
    with pytest.raises(ValueError, match="soft labels of some label groups and -100 in others"):
        classification_loss(soft, logits, config(), num_items_in_batch=soft.ne(-100).sum())


def test_an_unknown_label_of_one_group_is_ignored():
    logits, labels = random_case(2)
    labels[0, 1] = -100
    parts = (
        cross_entropy(logits[:, :3], labels[:, 0], reduction="sum"),
        cross_entropy(logits[1:, 3:], labels[1:, 1] - 3),
    )
    torch.testing.assert_close(classification_loss(labels, logits, config()), sum(parts) / 3)


@pytest.mark.parametrize(
    ("labels", "range_"), [([0, 200], "300 to 396"), ([300, 301], "0 to 299"), ([0, 397], "300 to 396")]
)
def test_a_label_of_another_group_is_named(labels, range_):
    """Verb 200 of a group that starts at 300 was ignored, because 200 - 300 is the ignored value."""
    cfg = config(label_groups=[["noun", 300], ["verb", 97]])
    with pytest.raises(ValueError, match=f"is not a class index of this model: labels are from {range_}"):
        classification_loss(torch.tensor([[0, 300], labels]), torch.randn(2, 397), cfg)


def test_labels_of_another_shape_raise():
    logits, labels = random_case()
    with pytest.raises(ValueError, match="each of the 6 samples and 2 label groups, got shape"):
        classification_loss(labels[:, 0], logits, config())
    with pytest.raises(ValueError, match="rows sum to 1"):
        classification_loss(torch.full((6, 5), 0.2), logits, config())  # a distribution over both groups together


def test_views_average_to_the_mean_of_the_probabilities_of_each_group():
    logits = torch.randn(3, 4, 5, dtype=torch.float64) * 4
    averaged = average_views(logits, None, {"noun": 3, "verb": 2})
    for group in (slice(0, 3), slice(3, 5)):
        torch.testing.assert_close(averaged[:, group].softmax(-1), logits[..., group].softmax(-1).mean(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_scores_and_saves_label_groups(family, tmp_path):
    config_class, sizes = FAMILIES[family]
    torch.manual_seed(0)
    own = config_class(**SMALL, **sizes, label_groups=dict(GROUPS))
    assert own.label_groups == GROUPS and own.id2label[3] == "verb: 0" and own.label2id["noun: 2"] == 2
    model = getattr(tubevit, f"{family}ForVideoClassification")(own).eval()
    torch.nn.init.normal_(model.classifier.weight)
    views = torch.randn(2, 3, own.num_frames, 3, 16, 16)
    labels = torch.tensor([[0, 4], [2, 3]])
    output = model(views, labels=labels)
    single = torch.stack([model(views[:, view]).logits for view in range(3)], dim=1)
    torch.testing.assert_close(output.logits, average_views(single, None, dict(GROUPS)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.loss, classification_loss(labels, output.logits, own))
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert label_groups_of(loaded.config) == {"noun": 3, "verb": 2} and loaded.config.id2label == own.id2label
    torch.testing.assert_close(loaded(views).logits, output.logits)
    # Another number of labels is another classifier, whose groups are not known.
    assert config_class.from_pretrained(tmp_path, num_labels=7).label_groups is None
    renamed = {index: f"verb {index}" for index in range(5)}
    assert config_class.from_pretrained(tmp_path, id2label=renamed).label_groups == GROUPS


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"num_labels": 4}, "num_labels=4, but id2label names 5"),
        ({"id2label": {0: "a", 1: "b"}}, "has 5 labels, but id2label names 2"),
        ({"label_groups": [["noun", 3]]}, "two or more groups"),
        ({"label_groups": [["noun", 3], ["noun", 2]]}, "two or more groups with different names"),
        ({"label_groups": [["noun", 3], ["action", 2]]}, "other than 'action'"),
        ({"label_groups": [["noun", 3], ["verb", 0]]}, "pairs of a name and a number of labels"),
        ({"label_groups": ["noun", "verb"]}, "pairs of a name and a number of labels"),
        ({"problem_type": "multi_label_classification"}, "needs problem_type='single_label_classification'"),
        ({"label_group": GROUPS}, "did you mean 'label_groups'"),
    ],
)
def test_label_groups_that_do_not_fit_raise_one_line(overrides, words):
    with pytest.raises(ValueError) as caught:
        config(**overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_label_groups_of_a_changed_config_are_checked_when_the_model_is_built():
    own = UniFormerV2Config(**SMALL, patch_size=8, num_frames=4, num_labels=5)
    own.label_groups = [["noun", 3], ["verb", 3]]
    with pytest.raises(ValueError, match="has 6 labels, but id2label names 5"):
        tubevit.UniFormerV2ForVideoClassification(own)
    with pytest.raises(ValueError, match="heads and label_groups exclude each other"):
        TubeViTConfig(label_groups=GROUPS, heads={"k": {"modality": "video", "num_labels": 5}})
