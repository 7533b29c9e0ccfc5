"""Parts of model cards: evaluations, license, installation, and no path of the machine."""

import re
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from packaging.requirements import Requirement
from video_classifiers import save_tubevit

from tubevit.training.models.families import TUBEVIT, get_family
from tubevit.training.trainer.model_card import _evaluations, _license, _results, license_of, usage, without_paths


def history(number: int) -> list[dict]:
    scores = [0.1 * (index % 7) for index in range(number)]
    entries = [{"loss": 1.0, "epoch": 0.5, "step": 1}]
    for index, score in enumerate(scores, 1):
        at = {"epoch": index, "step": 10 * index}
        entries.append({"eval_accuracy": score, "eval_top5_accuracy": 0.9, "eval_majority_class_rate": 0.3, **at})
    return entries


@pytest.mark.parametrize("number", [1, 2, 9, 10, 11, 20, 60])
def test_an_evaluation_has_one_row_and_a_run_at_most_ten(number):
    text = _evaluations(history(number), "video")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["epoch", "step", "accuracy", "top5 accuracy"]
    assert len(rows) - 1 == number if number <= 10 else 9 <= len(rows) - 1 <= 10
    assert rows[1][0] == "1" and rows[-1][0] == str(number)
    assert max(float(row[2]) for row in rows[1:]) == pytest.approx(0.1 * min(6, number - 1))
    assert (f"({len(rows) - 1} of {number} evaluations)" in text) == (number > 10)
    assert _evaluations(history(0), "video") == ""


@pytest.mark.parametrize(("score", "warns"), [(0.9, False), (0.5, True)])
def test_score_stands_beside_that_of_the_most_frequent_class(score, warns):
    metrics = {"accuracy": score, "majority_class_rate": 0.5, "num_scored": 40, "num_videos": 40}
    views = {"num_temporal_views": 1, "num_spatial_views": 1, "view_aggregation": "probs", "split": "validation"}
    text = _results([], {**metrics, **views, "num_without_label": 0}, "video")
    assert f"- accuracy: {score:.4f}\n- accuracy of always predicting the most frequent class: 0.5000" in text
    assert ("is at chance level" in text) == warns


def make_run(base, hub_license=None):
    return SimpleNamespace(
        model=SimpleNamespace(model_name_or_path=base, preset="tiny"),
        training=SimpleNamespace(hub_license=hub_license),
    )


def test_license_is_the_given_one_or_that_of_the_checkpoint(tmp_path, capsys):
    base = save_tubevit(tmp_path / "base")
    assert license_of(make_run(str(base)), "me/mine") is None and license_of(make_run(None), "me/mine") is None
    ModelCard("---\nlicense: cc-by-nc-4.0\n---\n\nBase\n").save(base / "README.md")
    assert license_of(make_run(str(base)), None) == "cc-by-nc-4.0"
    assert license_of(make_run(str(base), "mit"), None) == "mit"
    assert _license(make_run(str(base)), "cc-by-nc-4.0").startswith("License: cc-by-nc-4.0, that of `base`.")
    assert _license(make_run(None), None).startswith("No license is stated.")
    (base / "README.md").write_text("---\nlicense: [\n---\n")
    for _ in range(2):  # a run writes several cards
        assert license_of(make_run(str(base)), None) is None
    assert capsys.readouterr().out.count("The license of") == 1


@pytest.mark.parametrize("repository", [None, "me/mine"])
@pytest.mark.parametrize(
    ("family", "media"), [(TUBEVIT, "video"), (TUBEVIT, "image"), (get_family("videomae"), "video")]
)
def test_card_says_how_to_install_what_it_imports(family, media, repository):
    text = usage(family, media, "mine", repository)
    (install,) = re.findall(r"^pip install (.*)$", text, re.MULTILINE)
    names = {Requirement(each.strip('"')).name for each in install.split()}
    assert {"torch", "torchvision", "transformers", "av"} <= names and ("torchcodec" in names) == (family != TUBEVIT)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(code, "card", "exec")
    assert ("trust_remote_code=True" in code) == (family == TUBEVIT and repository is not None)
    assert ("import tubevit" in code) == (family == TUBEVIT and repository is None)


def test_paths_are_reduced_to_names(tmp_path):
    value = {
        "deepspeed": str(tmp_path / "zero.json"),
        "list": ["../data/x.csv", "google/vit-base", "a/b"],
        "number": 3,
    }
    expected = {"deepspeed": "zero.json", "list": ["x.csv", "google/vit-base", "a/b"], "number": 3}
    assert without_paths(value) == expected
