"""`tubevit experiments budgets`: equal data and steps, evaluations at each budget, and a report that states the spread."""

import argparse
import json
import re

import pytest
from tiny_experiments import invented_record

from tubevit import TubeViTConfig
from tubevit.training.cli import main
from tubevit.training.experiments.ablation_tables import SIZES
from tubevit.training.experiments.budgets import (
    budgets_label,
    budgets_runs,
    from_random_weights,
    parse_budgets,
    peers_runs,
    row_of,
    rows_of,
    speed_models,
    steps_of_range,
)
from tubevit.training.experiments.budgets_report import (
    ALONE,
    DISTILLED,
    FULL,
    OTHERS,
    RANGE,
    budgets_cells,
    describe_budgets,
    draw_budgets,
    speed_cells,
)
from tubevit.training.experiments.comparison import build
from tubevit.training.experiments.records import write_record
from tubevit.training.experiments.results import make_report
from tubevit.training.trainer.token_budgets import levels_of


SIZE = SIZES["cpu"]
ARGUMENTS = {"size": "cpu", "seeds": 2, "steps": 7, "distillation": 0.5, "against": "vivit", "budgets": None}
ARGUMENTS |= dict.fromkeys(
    ("model", "learning_rate", "data", "validation_data", "task", "level", "num_train", "num_validation")
)


def test_models_differ_in_their_tokens_alone():
    setup = from_random_weights(SIZE, SIZE.data, 7)
    label = budgets_label(setup, argparse.Namespace(**ARGUMENTS), [176, 88, 44])
    runs = budgets_runs(setup, [176, 88, 44], 0.5, 2, label)
    names = [FULL, RANGE, DISTILLED, f"{ALONE}_88", f"{ALONE}_44"]
    assert [(run.label.name, run.experiment.seed) for run in runs] == [
        (name, seed) for seed in (0, 1) for name in names
    ]
    options = {run.label.name: dict(run.experiment.options) for run in runs}
    own = {name: [each.pop(key, None) for key in ("token_budget_range", "budget_distillation", "model_config")] for name, each in options.items()}  # fmt: skip
    steps = {name: each.pop("max_steps") for name, each in options.items()}
    assert all(each == options[FULL] for each in options.values()) and len({run.experiment.data for run in runs}) == 1
    assert steps[FULL] == steps[f"{ALONE}_88"] == steps[f"{ALONE}_44"] == 7
    assert own[FULL][:2] == [None, None] and own[RANGE][:2] == [[44, 176], None] and own[DISTILLED][1] == 0.5
    for name, (_, _, model) in own.items():
        config = TubeViTConfig(num_frames=32, image_size=64, **model)
        assert config.num_tokens() == (int(name.removeprefix(f"{ALONE}_")) if name.startswith(ALONE) else 176)
    evaluated = {run.label.name: run.experiment.evaluations for run in runs}
    assert evaluated[FULL] == evaluated[RANGE] == evaluated[DISTILLED] and not evaluated[f"{ALONE}_44"]
    assert evaluated[FULL]["tokens_44"] == {"token_budget": 44} and evaluated[FULL]["random_44"] == {
        "random_tokens": 44
    }
    assert label["command"] == "tubevit experiments budgets --size cpu --seeds 2 --against vivit --steps 7"
    assert label["group"] == "budgets_motion_all_level1"
    assert (
        f"tokens, {steps[RANGE]:,} steps ({steps[DISTILLED]:,} with budget_distillation=0.5, whose" in label["about"]
    )
    alone = budgets_label(setup, argparse.Namespace(**ARGUMENTS | {"distillation": 0.0}), [176, 88, 44])
    assert f"tokens, {steps[RANGE]:,} steps, of which" in alone["about"]
    (peer,) = peers_runs(setup, ["vivit"], 1, label)
    assert peer.label.name == "vivit" and peer.experiment.options["max_steps"] < SIZE.steps
    assert DISTILLED not in [run.label.name for run in budgets_runs(setup, [176, 44], 0.0, 1, label)]


def test_a_model_of_the_range_has_the_training_flops_of_one_with_all_tokens():
    setup, budgets = from_random_weights(SIZE, SIZE.data, 1000), [176, 88, 44]
    levels = levels_of(setup.config, 44, 176)
    full = 1000 * 3 * levels[-1].gflops
    for distillation, teacher in ((0.0, 0.0), (0.5, levels[-1].gflops)):
        each = [3 * level.gflops + (0.0 if level is levels[-1] else teacher) for level in levels]
        steps = steps_of_range(setup, budgets, distillation)
        assert steps * sum(each) / len(each) == pytest.approx(full, rel=1e-3) and steps > 1000


def test_budgets_are_numbers_of_tokens_that_a_clip_can_have():
    assert parse_budgets(None, from_random_weights(SIZE, SIZE.data, 7).config) == [176, 88, 44, 22]
    assert parse_budgets("44, 100", from_random_weights(SIZE, SIZE.data, 7).config) == [176, 100, 44]


def test_the_timed_models_have_their_tokens():
    models = speed_models(from_random_weights(SIZE, SIZE.data, 7), [176, 44], [])
    assert list(models) == ["tokens_176", "tokens_44", "random_44"]
    embeddings = {name: build(model).get_input_embeddings() for name, model in models.items()}
    numbers = {name: sum(each.num_tokens_per_tube((32, 64, 64))) for name, each in embeddings.items()}
    assert numbers == {"tokens_176": 176, "tokens_44": 44, "random_44": 176}  # random tokens are dropped later
    assert embeddings["random_44"]._forward_hooks and not embeddings["tokens_44"]._forward_hooks


BUDGETS = [176, 88]
# Accuracy of seed 0; seed 1 has 1 point more.
SCORES = {
    FULL: {"video": 0.80, "tokens_88": 0.40, "random_88": 0.30},
    RANGE: {"video": 0.79, "tokens_88": 0.78, "random_88": 0.50},
    f"{ALONE}_88": {"video": 0.785},
}


def records():
    found = []
    for seed in (0, 1):
        for position, (name, scores) in enumerate(SCORES.items()):
            rows = [row_of(ALONE, 88, "video")] if name.startswith(ALONE) else rows_of(name, BUDGETS)
            about = {"number": 100, "chance": 0.25, "correct": 0}
            found.append(
                invented_record("budgets_motion", name, seed, position=position, title="Token budgets on the set")
                | {
                    "rows": rows,
                    "tokens": 88 if name.startswith(ALONE) else 176,
                    "scores": {
                        score: {**about, "accuracy": accuracy + 0.01 * seed}
                        | ({} if score == "video" else {"tokens": 88, "gflops": 0.1})
                        for score, accuracy in scores.items()
                    },
                }
            )
        row = {"title": "ViViT", "panel": OTHERS}
        found.append(invented_record("budgets_motion", "vivit", seed, 0.3, row=row, position=109) | {"tokens": 1025})
    return found


def test_the_tables_have_a_row_for_each_way_to_have_fewer_tokens():
    columns, cells = budgets_cells(records())
    rows = {line[0]: dict(zip(columns, line, strict=True)) for line in cells}
    assert columns[1:] == ["176 tokens", "88 tokens"]
    assert next(iter(rows)) == "One checkpoint, trained for the range"
    assert rows["One checkpoint, trained for the range"]["88 tokens"] == "78.5 (0.7)"
    assert rows["One checkpoint, trained for the range; random tokens"] == {
        columns[0]: "One checkpoint, trained for the range; random tokens",
        "176 tokens": "",
        "88 tokens": "50.5 (0.7)",
    }
    assert rows["A checkpoint for each budget"]["176 tokens"] == "80.5 (0.7)"  # the one trained with all tokens
    speed = {"speed": {"tokens_88": {"clips_per_second": 321.0}, "random_88": {"clips_per_second": 123.0}}}
    columns, cells = speed_cells(records(), speed)
    assert [line[0] for line in cells][-1] == "ViViT" and cells[-1][2] == "1,025"
    assert {line[0]: line[-1] for line in cells}["TubeViT, 88 tokens"] == "321"
    assert columns[-1] == "clips/s" and speed_cells(records(), None)[0][-1] == "GFLOP"


def test_sentences_say_what_a_budget_costs():
    first, second = describe_budgets(records())
    assert "with all 176 tokens 1.0 points below a checkpoint of them alone, within the spread" in first
    assert "88 tokens (50 %) cost 1.0 points; 0.5 points below a checkpoint of that budget alone, within the" in second
    assert "28.0 points above random tokens, beyond the spread" in second
    assert "38.0 points above a checkpoint trained with all tokens, beyond the spread" in second


def test_the_page_has_tables_and_picture(tmp_path):
    for number, record in enumerate(records()):
        write_record(tmp_path / "cpu" / "budgets_motion" / f"{number}.json", record)
    speed = {name: {"clips_per_second": 50.0 * place} for place, name in enumerate(("tokens_176", "tokens_88", "random_88", "vivit"), 1)}  # fmt: skip
    settings = {"device": "cpu", "threads": 1, "batch_size": 8}
    picture = tmp_path / "cpu" / "budgets_motion" / "budgets.png"
    for measured in (None, {"speed": speed, "settings": settings}):
        draw_budgets(picture, records(), measured, "Token budgets on the set")
        assert picture.stat().st_size > 10_000
    page = make_report(tmp_path, tmp_path)
    assert "## Token budgets on the set (cpu)" in page and "![Accuracy against tokens and speed](cpu/budgets" in page
    assert "| One checkpoint, trained for the range | 79.5 (0.7) | 78.5 (0.7) |" in page
    assert "28.0 points above random tokens" in page and "`tubevit experiments budgets`" not in page


def test_the_command_trains_evaluates_and_times(tmp_path, capsys):
    argv = ["experiments", "budgets", "--against", "", "--steps", "2", "--seeds", "1", "--budgets", "30"]
    argv += ["--num-train", "16", "--num-validation", "8", "--task", "direction", "--distillation", "0"]
    assert main([*argv, "--rounds", "1", "--threads", "1", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"accuracy on 8 clips; always the most frequent class: \d+\.\d %", printed)
    assert "30 tokens (17 %) cost" in printed and "TubeViT, random, 30 tokens" in printed
    folder = tmp_path / "cpu" / "budgets_motion_direction_level1"
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert (
        set(found) == {"full-seed0", "range-seed0", "alone_30-seed0", "speed"} and (folder / "budgets.png").is_file()
    )
    scores = found["range-seed0"]["scores"]
    assert scores["tokens_30"]["tokens"] == scores["random_30"]["tokens"] == found["alone_30-seed0"]["tokens"] == 30
    assert scores["tokens_30"]["gflops"] == found["alone_30-seed0"]["gflops"] < scores["random_30"]["gflops"]
    assert scores["random_30"]["gflops"] < found["full-seed0"]["gflops"] / 4
    assert set(found["speed"]["speed"]) == {"tokens_176", "tokens_30", "random_30"}
    (run,) = (path for path in (tmp_path / "runs").glob("*.log") if "token budgets" in path.read_text())
    assert "each step 30, " in run.read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--budgets", "200"], "--budgets 200: a clip has 176 tube tokens"),
        (["--budgets", "3"], "smallest possible budget of its 4 tubes is 4"),
        (["--budgets", "half"], "--budgets must be whole numbers, separated by commas, got 'half'"),
        (["--budgets", "176"], "give at least one number below all 176 tokens"),
        (["--distillation", "1.5"], "--distillation must be from 0 to 1, got 1.5"),
        (["--against", "resnet"], "--against resnet: no such model"),
    ],
)
def test_bad_arguments_are_one_line(argv, message, tmp_path, capsys):
    assert main(["experiments", "budgets", *argv, "--seeds", "1", "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
