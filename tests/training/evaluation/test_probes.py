"""Probes of embeddings: nothing leaks from the scored examples, and folds keep groups together."""

import csv
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tubevit.training.cli import main
from tubevit.training.evaluation import probes
from tubevit.training.evaluation.embeddings import as_lists
from tubevit.training.evaluation.probes import PENALTIES, attentive_probe, fit_ridge, nearest_neighbors, ridge_probe


@pytest.mark.parametrize("part", [6, 8192])
@pytest.mark.parametrize("width", [40, 8], ids=["wide", "narrow"])
@pytest.mark.parametrize("groups", [None, np.arange(25) // 4, np.arange(25) % 3], ids=["examples", "fours", "thirds"])
def test_the_penalty_is_the_one_that_leaving_out_each_group_chooses(groups, width, part, monkeypatch):
    """In parts of any size."""
    monkeypatch.setattr(probes, "PART", part)
    rng = np.random.default_rng(0)
    examples, labels, others = rng.normal(size=(25, width)), rng.integers(3, size=25), rng.normal(size=(60, width))
    examples += 0.7 * labels[:, None]
    targets = np.eye(3)[labels]

    def predict(examples, targets, others, penalty):
        mean, offset = examples.mean(0), targets.mean(0)
        centered = examples - mean
        weights = np.linalg.solve(centered.T @ centered + penalty * np.eye(width), centered.T @ (targets - offset))
        return (others - mean) @ weights + offset

    scale = np.mean(np.sum((examples - examples.mean(0)) ** 2, axis=1))
    errors, left_out_by, codes = {}, {}, np.arange(25) if groups is None else groups
    for penalty in PENALTIES:
        left_out = np.empty_like(targets)
        for code in set(codes):
            inside = codes == code
            left_out[inside] = predict(examples[~inside], targets[~inside], examples[inside], penalty * scale)
        errors[penalty], left_out_by[penalty] = np.mean((targets - left_out) ** 2), left_out
    fit = fit_ridge(examples, labels, 4, groups)
    parts = [rows for rows, _ in probes._parts_of_groups(25, groups)]
    assert sorted(np.concatenate(parts)) == list(range(25)) and (len(parts) > 1) == (part == 6)
    np.testing.assert_allclose(fit.left_out[:, :3], left_out_by[fit.penalty], atol=1e-6)
    assert not fit.predict(others)[:, 3].any()  # a class without examples
    result = ridge_probe(examples, labels, others, groups)
    assert result.penalty == min(errors, key=errors.get)
    expected = predict(examples, targets, others, result.penalty * scale).argmax(1)
    assert np.array_equal(result.predicted, expected)


def test_ridge_regression_of_many_examples_does_not_copy_their_features(monkeypatch):
    """A run on 240,000 clips at 8 token budgets has 6 GB of them in float32; all targets and copies in float64 took several times that."""
    monkeypatch.setattr(probes, "PART", 256)
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(20_000, 64)).astype(np.float32), rng.integers(10, size=20_000)
    films = np.arange(20_000) % 5_000
    tracemalloc.start()
    try:
        fit = fit_ridge(features, labels, 10, films)
        assert tracemalloc.get_traced_memory()[1] < features.nbytes + fit.left_out.nbytes
    finally:
        tracemalloc.stop()
    wide = fit_ridge(features.astype(np.float64), labels, 10, films)
    assert fit.penalty == wide.penalty and fit.left_out.dtype == np.float32
    np.testing.assert_allclose(fit.weight, wide.weight, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.left_out, wide.left_out, atol=1e-6)


def test_features_that_never_change_leave_the_commonest_class():
    assert set(ridge_probe(np.ones((5, 3)), np.array([0, 1, 1, 1, 0]), np.ones((4, 3))).predicted) == {1}


def test_groups_keep_the_penalty_from_trusting_the_scene():
    """Features name the scene exactly and the class weakly: leaving out examples trusts the scene, leaving out groups does not."""
    rng = np.random.default_rng(1)
    scenes, labels = np.repeat(np.arange(20), 6), np.repeat(np.arange(20) % 2, 6)
    features = np.hstack([5 * rng.normal(size=(20, 30))[scenes], labels[:, None] + rng.normal(size=(120, 1))])
    alone, together = (ridge_probe(features, labels, features, groups).penalty for groups in (None, scenes))
    assert together > alone


def test_neighbors_vote_by_cosine_similarity(monkeypatch):
    rng = np.random.default_rng(2)
    features, others, labels = rng.normal(size=(30, 5)), rng.normal(size=(11, 5)), rng.integers(4, size=30)
    monkeypatch.setattr(probes, "NEIGHBOR_CHUNK", 4)
    for number in (1, 5, 100):
        expected = []
        for other in others:
            similarity = features @ other / np.linalg.norm(features, axis=1) / np.linalg.norm(other)
            votes = np.zeros(4)
            for index in np.argsort(-similarity)[:number]:
                votes[labels[index]] += np.exp(similarity[index] / 0.07)
            expected.append(votes.argmax())
        assert nearest_neighbors(features, labels, others * 3, number).tolist() == expected


def test_attentive_probe_finds_the_token_that_tells():
    """The class is the sign of a token that a marker names, at any place; the means of all classes are equal."""
    rng = np.random.default_rng(0)
    labels, places = rng.integers(2, size=160), rng.integers(6, size=160)
    tokens = rng.normal(size=(160, 6, 8)).astype(np.float32)
    tokens[..., 0], tokens[np.arange(160), places, 0] = 0, 4
    tokens[np.arange(160), places, 1] = np.where(labels, 2.5, -2.5)
    train, scored = slice(0, 120), slice(120, 160)
    predicted = attentive_probe(tokens[train], labels[train], tokens[scored], epochs=40, learning_rate=5e-3)
    assert np.mean(predicted == labels[scored]) > 0.9
    again = attentive_probe(tokens[train], labels[train], tokens[scored], epochs=40, learning_rate=5e-3)
    assert np.array_equal(predicted, again)


def write_table(path, vectors, **columns):
    pq.write_table(pa.table({**columns, "embedding": as_lists(np.asarray(vectors, np.float32))}), path)
    return path


@pytest.fixture
def files(tmp_path):
    """40 videos of 2 classes in 10 groups, with the splits train and validation; a vector each, and 3 vectors each."""
    rng = np.random.default_rng(0)
    labels = [["run", "walk"][index % 2] for index in range(40)]
    vectors = rng.normal(size=(40, 6)) + np.array([2.0 * (label == "run") for label in labels])[:, None]
    columns = {
        "video_id": [f"g{index // 4}_{index}.mp4" for index in range(40)],
        "label": labels,
        "scene": [f"s{index // 4}" for index in range(40)],
        "split": ["train" if index < 24 else "validation" for index in range(40)],
    }
    frames = vectors[:, None] + rng.normal(size=(40, 3, 6))
    return {
        "one": write_table(tmp_path / "one.parquet", vectors, **columns),
        "three": write_table(tmp_path / "three.parquet", frames, **columns),
        "unsplit": write_table(tmp_path / "unsplit.parquet", vectors, **{**columns, "split": ["train"] * 40}),
    }


def probe(*argv, json_file=None):
    code = main(["probe", *map(str, argv), *([f"--json={json_file}"] if json_file else [])])
    assert code == 0
    return json.loads(json_file.read_text()) if json_file else None


def test_scores_of_folds_by_group(files, tmp_path, capsys):
    found = probe(
        files["one"], "--folds=5", "--group-column=scene", f"--csv={tmp_path / 'a.csv'}", json_file=tmp_path / "a.json"
    )
    output = capsys.readouterr().out
    assert "10 groups of 40 videos; videos of one group stay together." in output
    assert "40 videos of 2 classes: 5 folds, 3 seeds." in output
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["accuracy"] for row in rows] == [str(row["accuracy"]) for row in found["scores"]]
    assert len(rows) == 3 * 5 * 2 and {row["probe"] for row in rows} == {"ridge", "knn"}
    assert all(row["num_scored"] == 8 and row["num_train"] == 32 for row in found["scores"])
    for name in ("ridge", "knn"):
        scores = [row["accuracy"] for row in found["scores"] if row["probe"] == name]
        summary = found["summary"][name]
        assert summary["accuracy"] == pytest.approx(np.mean(scores), abs=1e-6)
        assert summary["std_over_folds"] == pytest.approx(np.std(scores, ddof=1), abs=1e-6)
        of_seeds = np.reshape(scores, (3, 5)).mean(1)
        assert summary["std_over_seeds"] == pytest.approx(np.std(of_seeds, ddof=1), abs=1e-6)
        assert f"{100 * summary['accuracy']:.1f}" in output and summary["accuracy"] > 0.8
    assert found["summary"]["majority"]["accuracy"] == 0.5
    by_pattern = probe(files["one"], "--folds=5", r"--group-pattern=^(g\d+)_", json_file=tmp_path / "b.json")
    assert [row["num_scored"] for row in by_pattern["scores"]] == [8] * 30


def test_the_labels_of_scored_videos_change_no_prediction(files, tmp_path):
    """Swapping all labels of the validation split turns each accuracy into its complement, so nothing was fitted to them."""
    table = pq.read_table(files["three"])
    labels = [
        label if split == "train" else {"run": "walk", "walk": "run"}[label]
        for label, split in zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True)
    ]
    swapped = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    pq.write_table(swapped, tmp_path / "swapped.parquet")
    options = ("--seeds=2", "--epochs=5")
    own = probe(files["three"], *options, json_file=tmp_path / "own.json")["scores"]
    other = probe(tmp_path / "swapped.parquet", *options, json_file=tmp_path / "other.json")["scores"]
    assert [row["probe"] for row in own] == ["ridge", "knn", "attentive", "attentive"]
    for first, second in zip(own, other, strict=True):
        assert first["penalty"] == second["penalty"] and first["fold"] == "validation"
        assert first["accuracy"] == pytest.approx(1 - second["accuracy"], abs=2e-6)


def test_means_and_differences_of_frames(tmp_path):
    """Frames that move differ from frames that do not in their differences only."""
    rng = np.random.default_rng(0)
    moves = np.arange(40) % 2
    signs = np.array([1, -1, 1, -1])[None, :, None] * moves[:, None, None]
    start = rng.normal(size=(40, 1, 3))
    file = write_table(tmp_path / "a.parquet", start + signs, label=moves.tolist(), video_id=list(map(str, range(40))))
    accuracy = {
        pooling: probe(file, f"--pooling={pooling}", "--probe=ridge", json_file=tmp_path / f"{pooling}.json")[
            "summary"
        ]["ridge"]["accuracy"]
        for pooling in ("mean", "mean_difference")
    }
    assert accuracy["mean"] < 0.8 and accuracy["mean_difference"] == 1


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        (
            "one",
            ["--group-column=person"],
            "has no column 'person' (group_column); it has: video_id, label, scene, split.",
        ),
        ("one", ["--label-column=verb"], "has no column 'verb' (label_column)"),
        ("one", ["--probe", "attentive"], "--probe attentive needs several vectors per video"),
        ("one", ["--pooling=concatenate"], "--pooling concatenate needs several vectors per video"),
        (
            "unsplit",
            ["--folds=11", "--group-column=scene"],
            "10 groups do not fill 11 folds: set folds to 10 or less.",
        ),
        ("one", ["--group-column=scene", r"--group-pattern=(g\d+)"], "Give group_column or group_pattern, not both."),
        ("one", ["--csv=nowhere/a.csv"], "there is no folder nowhere"),
        ("none", [], "There is no file"),
    ],
)
def test_wrong_input_is_one_line(file, options, message, files, tmp_path, capsys):
    assert main(["probe", str(files.get(file, tmp_path / "none.parquet")), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_empty_group_column_several_labels_and_existing_results(files, tmp_path, capsys):
    file = write_table(
        tmp_path / "b.parquet", np.ones((4, 2)), label=list("abab"), group=pa.array([None] * 4, pa.string())
    )
    assert main(["probe", str(file), "--group-column=group"]) == 2
    assert "The column 'group' of" in (error := capsys.readouterr().err) and "is empty: give group_column" in error
    file = write_table(tmp_path / "c.parquet", np.ones((2, 2)), label=[["a"], ["b", "c"]])
    assert main(["probe", str(file)]) == 2 and "has several labels per video" in capsys.readouterr().err
    (tmp_path / "old.json").write_text("{}")
    assert main(["probe", str(files["one"]), f"--json={tmp_path / 'old.json'}"]) == 2
    assert "exists: name another file" in capsys.readouterr().err and (tmp_path / "old.json").read_text() == "{}"


def write_npy(folder, vectors, content=None):
    file = folder / "a.npy"
    file.write_bytes(vectors) if isinstance(vectors, bytes) else np.save(file, vectors)
    rows = [{"video_id": str(i), "split": "all", "label": "ab"[i % 2], "group": None, "path": ""} for i in range(4)]
    content = {"settings": {}, "rows": rows} if content is None else content
    file.with_suffix(".json").write_text(content if isinstance(content, str) else json.dumps(content))
    return file


FINITE = np.ones((4, 2), np.float32)
OTHER_JSON = "does not hold the settings and rows that tubevit embed writes."


@pytest.mark.parametrize(
    ("vectors", "content", "message"),
    [
        (b"", None, "a.npy cannot be read: it is damaged, or not of this format"),
        (b"no array", None, "a.npy cannot be read"),
        (FINITE, "{", "a.json cannot be read"),
        (FINITE, [], OTHER_JSON),
        (FINITE, {"settings": {}}, OTHER_JSON),
        (FINITE, {"settings": {}, "rows": [{}] * 4}, OTHER_JSON),
        (FINITE, {"settings": None, "rows": []}, OTHER_JSON),
        (np.float32(1), None, "the two files do not belong together"),
        (np.array(list("abcd")), None, "have the type <U1; real numbers are needed"),
        (np.ones((4, 2), complex), None, "have the type complex128; real numbers are needed"),
        (np.ones((4, 0), np.float32), None, "holds no numbers: its embeddings have the shape (4, 0)"),
        (
            np.array([[1, 1], [1, np.nan], [1, 1], [np.inf, 1]]),
            None,
            "NaN or inf in 2 of 4 embeddings; the first is that of row 1",
        ),
    ],
)
def test_arrays_that_hold_no_embeddings_are_refused_in_one_line(vectors, content, message, tmp_path, capsys):
    assert main(["probe", str(write_npy(tmp_path, vectors, content))]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ([["a", "b"]] * 4, "has the type list<element: string>; lists of real numbers are needed"),
        (["a"] * 4, "has the type string; lists of real numbers are needed"),
        ([[]] * 4, "lists of real numbers are needed"),
        ([[1.0, None]] + [[1.0, 1.0]] * 3, "NaN or inf in 1 of 4 embeddings; the first is that of row 0"),
        (pa.array([], pa.list_(pa.float32())), "holds no numbers"),
    ],
)
def test_tables_that_hold_no_embeddings_are_refused_in_one_line(embedding, message, tmp_path, capsys):
    pq.write_table(pa.table({"label": list("abab")[: len(embedding)], "embedding": embedding}), tmp_path / "a.parquet")
    assert main(["probe", str(tmp_path / "a.parquet")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"PAR1 and no table", b"no table at all"])
def test_a_damaged_table_is_refused_in_one_line(content, tmp_path, capsys):
    (tmp_path / "a.parquet").write_bytes(content)
    assert main(["probe", str(tmp_path / "a.parquet")]) == 2
    error = capsys.readouterr().err
    assert "a.parquet cannot be read: it is damaged, or not of this format" in error and error.count("\n") == 1


def test_columns_of_other_programs(tmp_path, capsys):
    """Unknown labels and groups are NaN in a column of floats; identifiers may be numbers; a group has one name."""
    vectors, nan = np.random.default_rng(0).normal(size=(12, 3)), float("nan")
    labels, groups = [0.0, 1.0] * 5 + [nan] * 2, [1.0] * 4 + [2.0] * 4 + [nan] * 4
    file = write_table(tmp_path / "a.parquet", vectors, label=labels, group=groups, video_id=list(range(100, 112)))
    assert main(["probe", str(file), "--folds=2"]) == 0
    output = capsys.readouterr().out
    assert "2 of 12 videos have no label and are left out." in output and "10 videos of 2 classes" in output
    assert "6 groups of 12 videos; videos of one group stay together." in output
    assert main(["probe", str(file), "--folds=2", "--group-pattern=^10(.)"]) == 0
    assert "group_pattern does not match 2 of 12 names (110, 111)" in capsys.readouterr().out
    file = write_table(tmp_path / "b.parquet", vectors, label=labels, group=[nan] * 12)
    assert main(["probe", str(file), "--group-column=group"]) == 2 and "is empty: give" in capsys.readouterr().err
    file = write_table(tmp_path / "c.parquet", vectors, label=labels, group=[["a"]] * 12)
    assert main(["probe", str(file)]) == 2
    assert "has values such as ['a']; a group needs one name." in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_scores_that_no_probe_can_get_right_are_counted(tmp_path, capsys):
    """A class of one group has no training video where it is scored."""
    vectors = np.random.default_rng(0).normal(size=(12, 3))
    groups = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    file = write_table(tmp_path / "a.parquet", vectors, label=list("abababababcc"), group=groups)
    assert main(["probe", str(file), "--folds=3", "--seeds=2"]) == 0
    lacking = "scores count as errors, because the training videos of their round lack the class: "
    assert f"4 of 24 {lacking}c." in capsys.readouterr().out
    file = write_table(
        tmp_path / "b.parquet", vectors, label=list("aabbaabbabcc"), split=["train"] * 8 + ["validation"] * 4
    )
    assert main(["probe", str(file)]) == 0
    assert f"2 of 4 {lacking}c." in capsys.readouterr().out
    file = write_table(tmp_path / "c.parquet", vectors, label=list("ab" * 6), group=groups)
    assert main(["probe", str(file), "--folds=3"]) == 0 and lacking not in capsys.readouterr().out
    file = write_table(tmp_path / "d.parquet", vectors, label=list("ab" * 6), group=["g"] * 12)
    assert main(["probe", str(file)]) == 2
    assert "All 12 videos are of one group, and folds need two or more." in capsys.readouterr().err
