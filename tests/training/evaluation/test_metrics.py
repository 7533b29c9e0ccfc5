"""Metrics equal plain loops, in one process and two; the aggregation of views equals that of the model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_models import make_model, tiny_clips
from warm_processes import run_python

from tubevit import TubeViTForVideoClassification
from tubevit.training.evaluation.metrics import (
    ClassificationMetrics,
    MeanAveragePrecision,
    MeanClassAccuracy,
    TopKAccuracy,
    aggregate_views,
    average_precision,
    chance_warning,
    confusion_matrix,
    group_accuracies,
    mean_average_precision,
    mean_class_accuracy,
    per_class_accuracy,
    per_class_average_precision,
    ranks_of_labels,
    top_k_accuracy,
    trivial_score,
)


def samples(num_videos=40, num_classes=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_videos, num_classes)), rng.integers(0, num_classes, num_videos)


def brute_rank(scores, label):
    """Index of `label` in the classes sorted by score; of equal scores the smaller index comes first."""
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return order.index(label)


def brute_average_precision(scores, positives):
    """Precision at each threshold times the recall gained there, by counting."""
    total, recall_before, area = sum(positives), 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [positive for score, positive in zip(scores, positives, strict=True) if score >= threshold]
        recall = sum(chosen) / total
        area += (recall - recall_before) * sum(chosen) / len(chosen)
        recall_before = recall
    return area


few_values = st.sampled_from([0.0, 0.25, 0.5, 1.0])  # so that there are ties


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(float, (6, 4), elements=few_values), arrays.arrays(int, 6, elements=st.integers(0, 3)))
def test_ranks_are_places_in_a_sorted_list(scores, labels):
    expected = [brute_rank(row, label) for row, label in zip(scores, labels, strict=True)]
    assert ranks_of_labels(scores, labels).tolist() == expected
    assert top_k_accuracy(scores, labels) == (scores.argmax(axis=1) == labels).mean()
    assert top_k_accuracy(scores, labels, 4) == 1


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(float, 8, elements=few_values), arrays.arrays(bool, 8))
def test_average_precision_is_the_sum_over_thresholds(scores, positives):
    if positives.any():
        expected = brute_average_precision(scores.tolist(), positives.tolist())
        assert average_precision(scores, positives) == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(average_precision(scores, positives))


def test_per_class_accuracy_and_confusion_count_videos():
    scores, labels = samples()
    matrix = confusion_matrix(scores, labels)
    accuracies, counts = per_class_accuracy(scores, labels)
    assert matrix.sum() == len(labels)
    for row in range(7):
        assert counts[row] == (labels == row).sum() == matrix[row].sum()
        for column in range(7):
            assert matrix[row, column] == ((labels == row) & (scores.argmax(axis=1) == column)).sum()
        assert accuracies[row] == matrix[row, row] / counts[row]
    assert mean_class_accuracy(scores, labels) == pytest.approx(np.mean(accuracies))


def test_classes_without_videos_or_positives_are_left_out():
    scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    assert mean_class_accuracy(scores, np.array([0, 1])) == 0.5  # and not a third
    assert math.isnan(per_class_accuracy(scores, np.array([0, 1]))[0][2])
    precisions, positives = per_class_average_precision(scores, np.array([[1, 0, 0], [0, 1, 0]]))
    assert positives.tolist() == [1, 1, 0]
    assert mean_average_precision(scores, np.array([[1, 0, 0], [0, 1, 0]])) == np.mean(precisions[:2])


def test_unknown_labels_are_ignored():
    scores, labels = samples()
    with_unknown = np.concatenate([labels, [-100, -100]])
    more = np.concatenate([scores, scores[:2]])
    assert top_k_accuracy(more, with_unknown, 2) == top_k_accuracy(scores, labels, 2)
    assert (confusion_matrix(more, with_unknown) == confusion_matrix(scores, labels)).all()
    multi_hot = (np.random.default_rng(1).random(scores.shape) < 0.3).astype(float)
    unknown = np.concatenate([multi_hot, np.full((2, 7), -100.0)])
    assert mean_average_precision(more, unknown) == mean_average_precision(scores, multi_hot)
    assert math.isnan(top_k_accuracy(scores, np.full(40, -100)))


def test_nan_scores_are_never_correct():
    scores = np.array([[math.nan, 1.0], [1.0, 0.0]])
    for label in (0, 1):
        assert top_k_accuracy(scores, np.array([label, 0]), 2) == 0.5
    with pytest.raises(ValueError, match=r"1 of 2 videos have scores that are NaN"):
        confusion_matrix(scores, np.array([0, 0]))
    assert average_precision(np.array([math.nan, 0.5]), np.array([True, False])) == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_k_accuracy(np.zeros((2, 3)), np.array([0, 3])), "label 3 is out of range: there are 3 classes"),
        (lambda: top_k_accuracy(np.zeros((2, 3)), np.array([0, -1])), "label -1 is out of range"),
        (
            lambda: top_k_accuracy(np.zeros((2, 3)), np.array([0, 1]), 4),
            "k must be from 1 to the number of classes, 3",
        ),
        (lambda: top_k_accuracy(np.zeros((2, 3)), np.array([0])), r"got \(2, 3\) and \(1,\)"),
        (lambda: mean_average_precision(np.zeros((2, 3)), np.zeros((2, 2))), r"\(2, 3\); got \(2, 2\)"),
        (lambda: aggregate_views(np.zeros((2, 3)), "mean"), "must be one of probs, logits, max, got 'mean'"),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("multi_label", [False, True])
def test_views_are_aggregated_by_the_definitions(multi_label):
    logits = np.random.default_rng(0).normal(size=(5, 4, 3)) * 3
    tensor = torch.from_numpy(logits)
    probabilities = tensor.sigmoid() if multi_label else tensor.softmax(-1)
    mean_logits = tensor.mean(1)
    expected = {
        "probs": probabilities.mean(1),
        "max": probabilities.amax(1),
        "logits": mean_logits.sigmoid() if multi_label else mean_logits.softmax(-1),
    }
    for aggregation, values in expected.items():
        np.testing.assert_allclose(aggregate_views(logits, aggregation, multi_label), values.numpy(), atol=1e-12)
    assert np.isfinite(aggregate_views(np.array([[-1e4, 1e4]]), "probs", multi_label)).all()


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_mean_probabilities_equal_those_of_the_model(problem_type):
    model = make_model(TubeViTForVideoClassification, problem_type=problem_type).double()
    views = tiny_clips(6, dtype=torch.float64)
    with torch.no_grad():
        of_model = model(views.unflatten(0, (2, 3))).logits
        by_view = model(views).logits.unflatten(0, (2, 3))
    multi_label = problem_type == "multi_label_classification"
    expected = of_model.sigmoid() if multi_label else of_model.softmax(-1)
    np.testing.assert_allclose(aggregate_views(by_view.numpy(), "probs", multi_label), expected.numpy(), atol=1e-12)


def test_evaluate_metrics_agree_with_the_functions_for_any_batches():
    scores, labels = samples()
    metric = TopKAccuracy(keep_in_memory=True)
    for part in np.array_split(np.arange(40), 3):
        metric.add_batch(predictions=scores[part], references=labels[part])
    assert metric.compute(k=(1, 3)) == {
        "accuracy": top_k_accuracy(scores, labels),
        "top3_accuracy": top_k_accuracy(scores, labels, 3),
    }
    mean = MeanClassAccuracy(keep_in_memory=True).compute(predictions=scores, references=labels)
    assert mean == {"mean_class_accuracy": mean_class_accuracy(scores, labels)}
    multi_hot = (np.random.default_rng(1).random(scores.shape) < 0.3).astype(np.float32)
    found = MeanAveragePrecision(keep_in_memory=True).compute(predictions=scores, references=multi_hot)
    assert found == {"mean_average_precision": mean_average_precision(scores, multi_hot)}


def test_k_from_the_number_of_classes_on_is_left_out():
    scores, labels = samples(num_classes=5)
    assert set(TopKAccuracy(keep_in_memory=True).compute(predictions=scores, references=labels)) == {"accuracy"}
    assert set(TopKAccuracy(keep_in_memory=True).compute(predictions=scores, references=labels, k=2)) == {
        "top2_accuracy"
    }


def test_trainer_gets_all_metrics_in_repeated_evaluations():
    scores, labels = samples()
    metrics = ClassificationMetrics()
    prediction = type("EvalPrediction", (), {"predictions": (scores, "hidden states"), "label_ids": labels})()
    names = {"accuracy", "top5_accuracy", "mean_class_accuracy", "majority_class_rate"}
    assert set(metrics(prediction)) == names
    assert metrics(prediction) == metrics.compute(scores, labels)
    assert metrics.best_metric in metrics.compute(scores, labels)
    multi = ClassificationMetrics(multi_label=True)
    names = {multi.best_metric, "mean_prevalence"}
    assert set(multi.compute(scores, np.eye(7)[labels])) == names == {"mean_average_precision", "mean_prevalence"}


def test_trivial_score_is_that_of_a_classifier_that_sees_nothing():
    _, labels = samples()
    labels[:3] = -100
    constant = [top_k_accuracy(np.tile(np.eye(7)[each], (len(labels), 1)), labels) for each in range(7)]
    assert trivial_score(labels, multi_label=False) == {"majority_class_rate": pytest.approx(max(constant))}
    multi_hot = (np.random.default_rng(1).random((50, 4)) < [0.1, 0.5, 0.9, 0.0]).astype(float)
    multi_hot[:5, 1] = -100
    expected = mean_average_precision(np.zeros((50, 4)), multi_hot)
    assert trivial_score(multi_hot, multi_label=True) == {"mean_prevalence": pytest.approx(expected)}
    assert trivial_score(np.full(3, -100), False) == trivial_score(np.zeros((3, 2)), True) == {}


@pytest.mark.parametrize(
    ("score", "chance", "num_videos", "is_at_chance"),
    [
        (0.163, 0.184, 49, True),  # UT-Interaction, one class
        (0.22, 0.184, 49, True),  # within a standard error of 5.5 %
        (0.41, 0.184, 49, False),
        (0.22, 0.184, 4900, False),
        (1.0, 1.0, 5, False),  # all videos have one class
        (0.5, 0.5, 10_000, True),
        (0.5, 0.5, 6, False),  # a model with 75 % could have this score
        (1 / 3, 1 / 3, 3, False),
        (0.0, 1 / 12, 6, True),
    ],
)
@pytest.mark.parametrize(
    ("name", "trivial"), [("accuracy", "majority_class_rate"), ("mean_average_precision", "mean_prevalence")]
)
def test_warning_at_chance_level(name, trivial, score, chance, num_videos, is_at_chance):
    warning = chance_warning({name: score, trivial: chance, "loss": 1.0}, num_videos)
    assert (warning is not None) == is_at_chance
    if is_at_chance:
        assert warning.startswith(f"WARNING: the {name.replace('_', ' ')}, {100 * score:.1f} %, is at chance level")
        assert f"{100 * chance:.1f} %" in warning and "\n" not in warning
    assert chance_warning({name: score}, num_videos) is None  # no labels


PART = """
import os, sys
import numpy as np
from tubevit.training.evaluation.metrics import TopKAccuracy
rank, folder = int(os.environ["RANK"]), sys.argv[1]
rng = np.random.default_rng(0)
scores, labels = rng.normal(size=(41, 7)), rng.integers(0, 7, 41)
metric = TopKAccuracy(num_process=2, process_id=rank, experiment_id="both", cache_dir=folder)
metric.add_batch(predictions=scores[rank::2], references=labels[rank::2])
print(metric.compute(k=1))
"""


def test_two_processes_compute_one_result(tmp_path):
    done = run_python("-c", PART, tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    scores, labels = samples(41)
    assert done.stdout.splitlines() == [str({"accuracy": top_k_accuracy(scores, labels)}), "None"]


GROUPS = {"noun": 7, "verb": 6, "adverb": 3}


def random_groups(rng, num_videos: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties `(videos, classes)`, and class indices of each group `(videos, groups)`, counted over all of them."""
    firsts = np.cumsum([0, *GROUPS.values()])
    labels = [first + rng.integers(0, size, num_videos) for first, size in zip(firsts, GROUPS.values(), strict=False)]
    return rng.normal(size=(num_videos, sum(GROUPS.values()))).round(1), np.stack(labels, axis=1)


def test_accuracies_of_label_groups_equal_those_of_all_actions():
    """An action is a class of its own: the sum of the scores of its classes ranks it among all 126 actions."""
    scores, labels = random_groups(np.random.default_rng(0))
    sizes = tuple(GROUPS.values())
    firsts = np.cumsum([0, *sizes])[:-1]
    parts = [scores[:, first : first + size] for first, size in zip(firsts, sizes, strict=True)]
    actions = (parts[0][:, :, None, None] + parts[1][:, None, :, None] + parts[2][:, None, None]).reshape(
        len(scores), -1
    )
    action_labels = np.ravel_multi_index((labels - firsts).T, sizes)
    found = ClassificationMetrics(label_groups=GROUPS).compute(scores, labels)
    assert found["action_accuracy"] == top_k_accuracy(actions, action_labels)
    assert found["action_top5_accuracy"] == top_k_accuracy(actions, action_labels, 5) > found["action_accuracy"]
    for index, (name, part) in enumerate(zip(GROUPS, parts, strict=True)):
        assert found[f"{name}_accuracy"] == top_k_accuracy(part, labels[:, index] - firsts[index])
    assert "noun_top5_accuracy" in found and "adverb_top5_accuracy" not in found
    assert found["majority_action_rate"] == np.bincount(action_labels).max() / len(labels)
    # A video counts for the groups whose labels are known.
    labels[:50, 1] = -100
    known = ClassificationMetrics(label_groups=GROUPS).compute(scores, labels)
    assert known["noun_accuracy"] == found["noun_accuracy"]
    assert known["action_accuracy"] == top_k_accuracy(actions[50:], action_labels[50:])


@pytest.mark.parametrize("aggregation", ["probs", "logits"])
def test_views_of_label_groups_have_a_softmax_for_each_group(aggregation):
    logits = np.random.default_rng(1).normal(size=(4, 3, 16)) * 3
    scores = aggregate_views(logits, aggregation, label_groups=GROUPS)
    first = 0
    for size in GROUPS.values():
        alone = aggregate_views(logits[..., first : first + size], aggregation)
        np.testing.assert_allclose(scores[:, first : first + size], alone, atol=1e-12)
        first += size


def test_the_score_of_an_action_is_the_product_of_its_probabilities():
    """By their sum, the seven actions of 0.7 and 0.1 would rank before the one of 0.3 and 0.3."""
    from tubevit.training.evaluation.multi_view import VideoPrediction
    from tubevit.training.evaluation.results import ScoredVideos

    groups = {"noun": 2, "verb": 8}
    probabilities = np.array([0.7, 0.3, 0.3, *[0.1] * 7])
    label = [1, 2]  # the second noun and the first verb
    videos = [VideoPrediction(0, "a", "a.mp4", label, np.log(probabilities)[None].astype(np.float32))]
    names = [f"{group}: {index}" for group, size in groups.items() for index in range(size)]
    scored = ScoredVideos.of(videos, names, "probs", False, groups)
    metrics = scored.metrics()
    assert (metrics["action_accuracy"], metrics["action_top5_accuracy"]) == (0.0, 1.0)
    sums = group_accuracies(scored.scores, scored.labels, groups)
    assert sums["action_top5_accuracy"] == 0.0
