"""Losses and view averages: equal to their definitions, and independent of how a batch is split."""

import math

import pytest
import torch
from tiny_models import make_model, tiny_clips
from torch import nn

from tubevit import TubeViTConfig, TubeViTForVideoClassification
from tubevit.classification import average_views, classification_loss


def config(problem_type=None, num_labels=5) -> TubeViTConfig:
    return TubeViTConfig(problem_type=problem_type, num_labels=num_labels)


def random_case(kind: str, batch: int = 6, num_labels: int = 5):
    """Logits, labels and config of one kind of label."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(batch, num_labels, generator=generator, dtype=torch.float64)
    if kind == "hard":
        labels = torch.randint(0, num_labels, (batch,), generator=generator)
        return logits, labels, config("single_label_classification")
    if kind == "soft":
        labels = torch.rand(batch, num_labels, generator=generator, dtype=torch.float64).softmax(-1)
        return logits, labels, config("single_label_classification")
    if kind == "multi-hot":
        labels = torch.randint(0, 2, (batch, num_labels), generator=generator).double()
        return logits, labels, config("multi_label_classification")
    return logits, torch.randn(batch, num_labels, generator=generator, dtype=torch.float64), config("regression")


KINDS = ["hard", "soft", "multi-hot", "regression"]
REFERENCES = {
    "hard": nn.functional.cross_entropy,
    "soft": nn.functional.cross_entropy,
    "multi-hot": nn.functional.binary_cross_entropy_with_logits,
    "regression": nn.functional.mse_loss,
}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_equal_torch_losses(kind):
    logits, labels, cfg = random_case(kind)
    torch.testing.assert_close(classification_loss(labels, logits, cfg), REFERENCES[kind](logits, labels))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_micro_batches_sum_to_the_loss_of_the_batch(kind):
    """`num_items_in_batch` is counted as Trainer counts it: label elements that are not -100, over all parts."""
    logits, labels, cfg = random_case(kind)
    num_items = labels.ne(-100).sum()
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    shares = [classification_loss(labels[p], logits[p], cfg, num_items_in_batch=num_items) for p in parts]
    torch.testing.assert_close(sum(shares), classification_loss(labels, logits, cfg))


def test_loss_does_not_change_problem_type():
    for kind in KINDS[:2]:
        logits, labels, _ = random_case(kind)
        cfg = config()
        torch.testing.assert_close(classification_loss(labels, logits, cfg), REFERENCES[kind](logits, labels))
        assert cfg.problem_type is None
    cfg = config(num_labels=1)
    assert classification_loss(torch.tensor([1.0, 2.0]), torch.tensor([[1.0], [4.0]]), cfg).item() == 2.0
    assert cfg.problem_type is None


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.uint16])
@pytest.mark.parametrize("kind", ["hard", "multi-hot"])
def test_integer_labels_of_any_type_give_the_same_loss(kind, dtype):
    logits, labels, cfg = random_case(kind)
    torch.testing.assert_close(classification_loss(labels.to(dtype), logits, cfg), REFERENCES[kind](logits, labels))


@pytest.mark.parametrize("num_labels", [1, 3])
def test_the_saved_problem_type_is_that_of_the_loss(num_labels, tmp_path):
    model = make_model(TubeViTForVideoClassification, num_labels=num_labels)
    model.save_pretrained(tmp_path)
    saved = TubeViTConfig.from_pretrained(tmp_path).problem_type
    assert saved == ("regression" if num_labels == 1 else None)
    clips, labels = tiny_clips(batch=2), torch.tensor([[0.3], [2.0]])
    if num_labels == 1:  # a pipeline returns the output for regression, and its softmax, always 1, for classification
        outputs = model(clips, labels=labels)
        torch.testing.assert_close(outputs.loss, nn.functional.mse_loss(outputs.logits, labels))
        multi_label = make_model(
            TubeViTForVideoClassification, num_labels=1, problem_type="multi_label_classification"
        )
        assert multi_label.config.problem_type == "multi_label_classification"


def test_ignored_labels_do_not_count():
    logits, labels, cfg = random_case("hard")
    labels[2] = -100
    torch.testing.assert_close(classification_loss(labels, logits, cfg), nn.functional.cross_entropy(logits, labels))
    logits, labels, cfg = random_case("multi-hot")
    full = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    labels[0, 1] = -100
    expected = (full.sum() - full[0, 1]) / (full.numel() - 1)
    torch.testing.assert_close(classification_loss(labels, logits, cfg), expected)


def test_integer_multi_hot_labels():
    logits, labels, cfg = random_case("multi-hot")
    torch.testing.assert_close(
        classification_loss(labels.long(), logits, cfg), classification_loss(labels, logits, cfg)
    )


def test_multi_hot_labels_without_a_problem_type_are_refused():
    logits, _, _ = random_case("multi-hot")
    labels = torch.ones_like(logits)
    with pytest.raises(ValueError, match="multi_label_classification"):
        classification_loss(labels, logits, config())


def test_integer_labels_need_one_per_sample():
    logits = torch.zeros(4, 5)
    with pytest.raises(ValueError, match="Integer labels are class indices, one for each of the 4 samples"):
        classification_loss(torch.ones(4, 5, dtype=torch.long), logits, TubeViTConfig(num_labels=5))


@pytest.mark.parametrize("wrong", [5, -1, -101, 999])
def test_a_label_outside_of_the_classes_is_named(wrong):
    """torch raises an IndexError that names neither the classes nor the ignored value."""
    labels, logits = torch.tensor([0, wrong, -100]), torch.randn(3, 5)
    with pytest.raises(ValueError, match=rf"Label {wrong} is not .* from 0 to 4 \(num_labels=5\)"):
        classification_loss(labels, logits, config())
    with pytest.raises(ValueError, match=f"Label {wrong} is not"):
        make_model(TubeViTForVideoClassification)(tiny_clips(3), labels=labels)


def test_label_check_leaves_compiled_graphs_and_function_transforms_alone():
    logits, labels, cfg = random_case("hard")
    expected = classification_loss(labels, logits, cfg)
    compiled = torch.compile(
        lambda labels, logits: classification_loss(labels, logits, cfg), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(labels, logits), expected)
    each = torch.func.vmap(lambda label, row: classification_loss(label[None], row[None], cfg))(labels, logits)
    torch.testing.assert_close(each.mean(), expected)


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_labels_of_another_shape_are_refused(problem_type):
    logits = torch.zeros(4, 5)
    with pytest.raises(ValueError, match=r"shape \(4, 5\), got \(4,\)"):
        classification_loss(torch.zeros(4), logits, config(problem_type))


def test_loss_of_half_precision_logits_is_computed_in_float32():
    logits, labels, cfg = random_case("hard")
    half = logits.to(torch.bfloat16)
    loss = classification_loss(labels, half, cfg)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nn.functional.cross_entropy(half.float(), labels))


@pytest.mark.parametrize(
    ("problem_type", "to_probabilities"),
    [
        (None, lambda logits: logits.softmax(-1)),
        ("single_label_classification", lambda logits: logits.softmax(-1)),
        ("multi_label_classification", torch.sigmoid),
        ("regression", lambda logits: logits),
    ],
)
def test_views_average_to_the_mean_of_their_probabilities(problem_type, to_probabilities):
    logits = torch.randn(3, 12, 5, dtype=torch.float64) * 4
    averaged = to_probabilities(average_views(logits, problem_type))
    torch.testing.assert_close(averaged, to_probabilities(logits).mean(1), rtol=1e-12, atol=1e-12)


def test_average_of_confident_views_is_finite():
    logits = torch.tensor([[[300.0, -300.0], [-300.0, 300.0]]])
    torch.testing.assert_close(average_views(logits, None).softmax(-1), torch.full((1, 2), 0.5))
    for problem_type in (None, "multi_label_classification"):
        assert average_views(logits, problem_type).isfinite().all()


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
def test_classifier_returns_one_prediction_per_video(problem_type):
    model = make_model(TubeViTForVideoClassification, problem_type=problem_type)
    views = torch.stack([tiny_clips(seed=seed) for seed in range(3)], dim=1)  # (2, 3, 8, 3, 16, 16)
    activation = torch.sigmoid if problem_type else (lambda logits: logits.softmax(-1))
    single = torch.stack([activation(model(views[:, view]).logits) for view in range(3)])
    output = model(views, output_hidden_states=True)
    assert output.logits.shape == (2, 5)
    torch.testing.assert_close(activation(output.logits), single.mean(0), rtol=1e-5, atol=1e-6)
    assert output.hidden_states[0].shape[0] == 6
    one_view = model(views[:, :1]).logits
    torch.testing.assert_close(activation(one_view), single[0], rtol=1e-5, atol=1e-6)


def test_loss_of_views_uses_their_mean_probability():
    model = make_model(TubeViTForVideoClassification)
    views = torch.stack([tiny_clips(seed=seed) for seed in range(3)], dim=1)
    output = model(views, labels=torch.tensor([1, 4]))
    probabilities = output.logits.softmax(-1)
    expected = -(probabilities[0, 1].log() + probabilities[1, 4].log()) / 2
    assert math.isclose(output.loss.item(), expected.item(), rel_tol=1e-5)


def test_views_of_a_regression_with_one_label_are_averaged():
    logits = torch.tensor([[[1.0], [4.0]]])
    assert average_views(logits, None).item() == 2.5
