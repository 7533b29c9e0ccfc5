"""`tubevit experiments ablations`: every row of every table is an experiment, and the report states its order truly."""

import itertools

import pytest
from tiny_experiments import invented_record

from tubevit import TubeViTConfig, TubeViTForVideoClassification
from tubevit.training.cli import find_command, main
from tubevit.training.experiments.ablation_tables import SIZES, TABLES, shrink_tubes
from tubevit.training.experiments.records import Row, collect_rows, describe_order, exceeds_spread, rank_agreement


SMALL = {"num_hidden_layers": 1}


def rows_with(**scores):
    """Rows by title: the paper's number, then our scores."""
    return [Row(title, tuple(ours), 25.0, paper) for title, (paper, *ours) in scores.items()]


def runs_of(table, size="cpu", seed=0):
    return TABLES[table].make_runs(SIZES[size], seed)


def configs_of(runs):
    """The configs of the rows that start from random weights."""
    options = [each.experiment.options for each in runs if each.experiment.initial is None]
    sides = [{name: each[name] for name in ("num_frames", "image_size")} for each in options]
    return [TubeViTConfig(**each["model_config"] | SMALL | side) for each, side in zip(options, sides, strict=True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("table", TABLES)
def test_every_row_differs_from_the_others_and_has_the_papers_number(table, size):
    runs = runs_of(table, size)
    assert len({each.name for each in runs}) == len(runs)
    settings = [each.experiment.settings() for each in runs]
    assert all(one != other for one, other in itertools.combinations(settings, 2))
    rows = [row for each in runs for row in each.rows]
    papers = [row["paper"] for row in rows if row["paper"] is not None]
    assert len(papers) >= 2 and all(70 < paper < 93 for paper in papers)
    for each in runs:
        assert {row["score"] for row in each.rows} <= {*each.experiment.kinds, *each.experiment.evaluations}


@pytest.mark.parametrize("table", TABLES)
def test_rows_of_a_table_differ_in_model_steps_and_start_alone(table):
    runs = runs_of(table)
    assert len({each.experiment.data for each in runs}) == 1
    same = [
        {
            name: value
            for name, value in each.experiment.options.items()
            if name not in ("model_config", "preset", "max_steps")
        }
        for each in runs
    ]
    assert all(each == same[0] for each in same)
    other = runs_of(table, seed=1)
    assert {each.experiment.seed for each in other} == {1}
    starts = [start for each in other for start in each.experiment.prerequisites()]
    assert {start.seed for start in starts} <= {1}


@pytest.mark.parametrize("size", SIZES)
def test_every_model_can_be_built(size):
    for table in TABLES:
        for config in configs_of(runs_of(table, size)):
            assert 0 < config.num_tokens() < 600
    for each in runs_of("7d", size):
        model = TubeViTForVideoClassification(configs_of([each])[0])
        for evaluation in each.experiment.evaluations.values():
            model.set_tubes(evaluation["tubes"])


def test_both_sizes_have_the_same_tokens_row_by_row():
    for table in ("7a", "7b", "7c", "7e", "14"):
        cpu, gpu = ([config.num_tokens() for config in configs_of(runs_of(table, size))] for size in ("cpu", "gpu"))
        assert cpu == gpu


def test_main_tubes_keep_the_papers_proportions():
    config = configs_of(runs_of("7a"))[0]
    tokens = [tube.num_tokens((32, 64, 64)) for tube in config.get_tubes()]
    paper = [98, 147, 98, 196]
    assert [round(ours / 176, 2) for ours in tokens] == [round(theirs / 539, 2) for theirs in paper]


def test_pixels_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match="stride"):
        shrink_tubes([{"kernel_size": [8, 8, 8], "stride": [16, 33, 32]}], 2)


def test_the_papers_order_is_reported_as_such():
    rows = rows_with(a=(80, 50, 52), b=(81, 60, 62), c=(82, 61, 71))
    assert rank_agreement(rows) == 1
    (sentence,) = describe_order(rows)
    assert "3 of 3 pairs" in sentence and "2 of them beyond the spread" in sentence and "+1.00" in sentence


def test_every_pair_in_another_order_is_named():
    rows = rows_with(low=(80, 70, 71), middle=(81, 60, 61), high=(82, 60.5, 61.5), ours=(None, 90, 91))
    summary, first, second = describe_order(rows)
    assert "1 of 3 pairs" in summary and "-0.33" in summary
    assert "beyond the spread: middle (60.5) is below low (70.5)" in first
    assert "beyond the spread: high (61.0) is below low (70.5)" in second
    close = rows_with(low=(80, 70, 75), high=(82, 60, 71))
    assert describe_order(close)[1:] == ["Not in the paper's order, but within the spread: high / low."]


def test_ties_are_no_order():
    assert rank_agreement(rows_with(a=(80, 50), b=(81, 50))) is None
    (summary, within) = describe_order(rows_with(a=(80, 50), b=(81, 50)))
    assert "0 of 1 pairs" in summary and "b / a" in within
    assert describe_order(rows_with(a=(80, 50), b=(80, 60))) == []


def test_one_seed_has_no_spread():
    one, other = rows_with(a=(80, 10), b=(81, 90))
    assert not exceeds_spread(one, other) and one.deviation is None
    assert describe_order(rows_with(a=(80, 90), b=(81, 10)))[1:] == [
        "Not in the paper's order, of one seed, which has no spread: b / a."
    ]


def test_rows_are_gathered_over_seeds_and_panels():
    records = [invented_record(name=name, seed=seed, accuracy=a) for seed, name, a in
               [(0, "x", 0.5), (0, "y", 0.7), (1, "x", 0.6), (1, "y", 0.7)]]  # fmt: skip
    records += [invented_record(name="z", accuracy=0.2, row={"panel": "images"})]
    panels = collect_rows(records)
    assert list(panels) == ["", "images"]
    assert [row.title for row in panels[""]] == ["row x", "row y"]
    assert panels[""][0].scores == (50, 60) and panels[""][0].deviation == pytest.approx(50**0.5)


def test_the_command_trains_a_table_and_prints_its_order(tmp_path, capsys):
    """A small version of table 7a, from synthetic files to the report."""
    argv = [
        "experiments",
        "ablations",
        "7a",
        "--train",
        "--steps",
        "1",
        "--seeds",
        "1",
        "--num-train",
        "16",
        "--num-validation",
        "8",
    ]
    assert main([*argv, "--threads", "1", "--task", "direction", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Table 7a" in printed and "84.5" in printed and "pairs of rows" in printed
    files = sorted(path.name for path in tmp_path.glob("cpu/table_7a/*.json"))
    assert len(files) == 5 and {"learned-seed0.json", "relative-seed0.json"} <= set(files)


@pytest.mark.parametrize(
    "argv",
    [["99"], ["7a", "--task", "sleeping"], ["7a", "--level", "9"], ["7a", "--seeds", "0"], ["7a", "--preset", "tiny"]],
)
def test_bad_arguments_are_one_line(argv, tmp_path, capsys):
    try:
        code = main(["experiments", "ablations", *argv, "--train", "--steps", "1", "--output", str(tmp_path)])
    except SystemExit as error:
        code = error.code
    assert code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("old", [["sweep"], ["experiments", "sweep"]])
def test_the_old_command_trains_as_before(old, capsys):
    assert find_command([*old, "7a"]) == ("experiments ablations", ["--train", "7a"])
    assert "is now `tubevit experiments ablations --train`" in capsys.readouterr().err


def test_options_of_training_are_refused_without_train(capsys):
    assert main(["experiments", "ablations", "7a", "--steps", "5"]) == 2
    assert "--steps 5 has no effect on a list of the tables: add --train" in capsys.readouterr().err
