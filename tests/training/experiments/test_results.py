"""`tubevit results`: RESULTS.md follows from records alone."""

import pytest
from repository import ROOT
from tiny_experiments import invented_record

from tubevit.training.cli import main
from tubevit.training.experiments.ablation_tables import TABLES
from tubevit.training.experiments.records import Label, write_numbers, write_record
from tubevit.training.experiments.results import make_report


def write_all(folder, results):
    for result in results:
        name = f"{result['name']}-seed{result['settings'].get('seed', 0)}.json"
        write_record(folder / result["size"] / result["group"] / name, result)


def some_records():
    results = [
        invented_record(name=name, seed=seed, accuracy=accuracy + 0.01 * seed, position=position, row={"paper": paper})
        for seed in (0, 1)
        for position, (name, accuracy, paper) in enumerate([("low", 0.5, 80.0), ("high", 0.4, 82.0)])
    ]
    results += [
        invented_record(
            "table_14",
            "only",
            title="Table 14: shapes",
            size="gpu",
            command="tubevit experiments ablations 14 --train",
        )
    ]
    results += [
        invented_record("comparison_motion", "tubevit", title="The comparison", command="tubevit experiments compare")
    ]
    speed = {"tubevit": {"clips_per_second": 50.0, "training_clips_per_second": 20.0, "peak_mib": 10.0}}
    return [
        *results,
        invented_record("comparison_motion", "speed", rows=[], scores={}, speed=speed, title="The comparison"),
    ]


def test_the_report_holds_what_the_files_say(tmp_path):
    write_all(tmp_path, some_records())
    (tmp_path / "notes.yaml").write_text("- {title: Warm restarts., text: They made no difference.}\n")
    text = make_report(tmp_path, tmp_path)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## The comparison (cpu)", "## Table 7a: positions (cpu)", "## Table 14: shapes (gpu)", "## What did not work",
    ]  # fmt: skip
    assert "| row low | 80 | 50.5 | 0.7 | 50.0 - 51.0 | 2 |" in text
    assert text.index("row low") < text.index("row high")  # by position, not by name
    assert "beyond the spread: row high (40.5) is below row low (50.5)" in text
    assert (
        "    tubevit experiments ablations 7a --train\n" in text
        and "Some CPU, 2 cores" in text
        and "Commit 0123456789." in text
    )
    assert "Seeds 0, 1." in text and "4 minutes of computing" in text
    assert "- **Warm restarts.** They made no difference." in text


def test_tables_of_the_loop_before_video_trainer_say_so(tmp_path):
    write_all(tmp_path, [invented_record(is_old=True), invented_record("table_7b", title="Table 7b")])
    old, new = make_report(tmp_path, tmp_path).split("## ")[1:]
    assert "training loop for experiments that was removed" in old and "removed" not in new


def test_the_same_files_make_the_same_text_in_any_order(tmp_path):
    results = some_records()
    write_all(tmp_path / "a", results)
    write_all(tmp_path / "b", results[::-1])
    assert make_report(tmp_path / "a", tmp_path) == make_report(tmp_path / "b", tmp_path)


def test_tables_of_other_commands_are_shown_as_they_are(tmp_path):
    label = Label("baselines", "Linear classifiers", "cpu", "made", [], "tubevit experiments baselines --synthetic", 0)
    table = {"columns": ["", "one frame"], "rows": [["order", "49.0"]]}
    write_numbers(label, tmp_path, "cpu", settings={"seeds": [0, 1, 2]}, seconds=3.0, table=table)
    text = make_report(tmp_path, tmp_path)
    assert "## Linear classifiers (cpu)" in text and "| order | 49.0 |" in text and "Seeds 0, 1, 2." in text


def test_tables_of_the_same_columns_are_one(tmp_path):
    for position, name in enumerate(["later", "earlier"]):
        label = Label(
            "baselines", "Linear classifiers", "cpu", name, [], "tubevit experiments baselines --synthetic", -position
        )
        table = {"columns": ["", "one frame"], "rows": [[name, "49.0"]]}
        write_numbers(label, tmp_path, "cpu", settings={}, seconds=0, table=table)
    text = make_report(tmp_path, tmp_path)
    assert "| ---: |\n| earlier | 49.0 |\n| later | 49.0 |\n" in text and "(not recorded of 2 of 2 results)" in text


def test_experiments_without_results_are_named(tmp_path):
    write_all(tmp_path, some_records())
    (line,) = (line for line in make_report(tmp_path, tmp_path).splitlines() if line.startswith("No records yet, "))
    assert (
        "Table 5: " in line
        and "experiments ablations 7b --train" in line
        and "experiments baselines" in line
        and "--add RUN" in line
    )
    assert "Table 7a" not in line and "Table 14" not in line and "tubevit experiments compare" not in line
    for name in TABLES:
        write_all(tmp_path, [invented_record(f"table_{name}", "one")])
    for group in ("baselines", "train_clips", "transfer_clips", "budgets_clips"):
        label = Label(group, group, "cpu", group, [], "tubevit", 0)
        write_numbers(label, tmp_path, "cpu", settings={}, seconds=0)
    assert "No records yet" not in make_report(tmp_path, tmp_path)


def test_changed_sources_and_several_commits_are_said(tmp_path):
    write_all(tmp_path, [invented_record(dirty=True), invented_record(seed=1, commit="fedcba9876543210")])
    assert "Commit 0123456789 with changes, fedcba9876." in make_report(tmp_path, tmp_path)


def test_every_panel_has_its_own_chance_and_number(tmp_path):
    image = {"accuracy": 0.5, "correct": 20, "number": 40, "chance": 0.125, "tokens": 64, "gflops": 0.05}
    both = invented_record(settings={"seed": 0, "init_from": {"weights": {"seed": 0}}})
    both["scores"]["image"] = image
    both["rows"] = [row | {"panel": kind, "score": kind} for kind in ("video", "image") for row in both["rows"]]
    write_all(tmp_path, [both])
    text = make_report(tmp_path, tmp_path)
    assert "Chance (always the most frequent class): 25.0 %. 100 validation examples." in text
    assert "Chance (always the most frequent class): 12.5 %. 40 validation examples." in text
    assert "| row one | 50.0 | 1 | 64 | 0.05 |" in text and "| row one | 50.0 | 1 | 176 | 0.2 |" in text
    assert "without the runs that these start from" in text


def test_a_picture_beside_the_results_is_linked(tmp_path):
    write_all(tmp_path / "results", [invented_record("comparison_motion", "tubevit", title="The comparison")])
    (tmp_path / "results" / "cpu" / "comparison_motion" / "comparison.png").write_bytes(b"")
    assert "](results/cpu/comparison_motion/comparison.png)" in make_report(tmp_path / "results", tmp_path)


def test_runs_of_one_row_with_other_settings_are_refused(tmp_path):
    other = invented_record(seed=1)
    other["settings"]["options"]["max_steps"] = 11
    write_all(tmp_path, [invented_record(), other])
    with pytest.raises(ValueError, match="different settings") as error:
        make_report(tmp_path, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_file_that_is_no_result_is_refused(text, tmp_path, capsys):
    write_all(tmp_path, [invented_record()])
    (tmp_path / "odd.json").write_text(text)
    assert main(["experiments", "results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "odd.json" in error
    assert not (tmp_path / "RESULTS.md").exists()


@pytest.mark.parametrize("text", ["- 1", "- {title: a}", "a: [", "title: a\ntext: b"])
def test_notes_that_are_none_are_refused(text, tmp_path):
    write_all(tmp_path, [invented_record()])
    (tmp_path / "notes.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"notes\.yaml"):
        make_report(tmp_path, tmp_path)


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert main(["experiments", "results", str(tmp_path)]) == 2
    assert main(["experiments", "results", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_the_command_writes_the_report(tmp_path, capsys):
    write_all(tmp_path / "results", some_records())
    assert main(["experiments", "results", str(tmp_path / "results"), "--output", str(tmp_path / "R.md")]) == 0
    assert (tmp_path / "R.md").read_text() == make_report(tmp_path / "results", tmp_path)


def test_the_report_of_this_repository_is_that_of_its_result_files():
    folder = ROOT / "training" / "experiments" / "results"
    assert (ROOT / "RESULTS.md").read_text(encoding="utf-8") == make_report(folder, ROOT)
