"""`tubevit compare`: equal arithmetic, the same data, and a report that tells the spread."""

import json

import pytest
import torch
from tiny_experiments import TINY_DATA, TINY_ENCODER, TINY_RECIPE, TINY_TUBEVIT, made_result
from video_files import moving_frames, write_video

from tubevit.training.cli import main
from tubevit.training.experiments import compare_speed
from tubevit.training.experiments.compare import equal_recipes, find_speed, race_label, race_runs
from tubevit.training.experiments.compare_speed import build, measure_speed
from tubevit.training.experiments.comparison_picture import draw_race
from tubevit.training.experiments.comparison_report import describe_race, race_cells, training_tflops
from tubevit.training.experiments.models import count_gflops
from tubevit.training.experiments.sweep_report import Row


PEERS = ("videomae", "vivit", "timesformer", "vjepa2")
MODELS = {"tubevit": TINY_TUBEVIT} | {name: {"kind": name, "patch_size": 8, **TINY_ENCODER} for name in PEERS}
LABEL = race_label(TINY_DATA, "tiny", "tubevit compare", "flops")


def test_every_model_keeps_the_budget_within_a_step():
    recipe = type(TINY_RECIPE)(steps=100, batch_size=4)
    recipes = equal_recipes(MODELS, TINY_DATA, recipe)
    per_step = {name: 3 * 4 * count_gflops(build(each, TINY_DATA), TINY_DATA) for name, each in MODELS.items()}
    budget = 100 * per_step["tubevit"]
    assert recipes["tubevit"].steps == 100
    for name, each in recipes.items():
        assert abs(each.steps * per_step[name] - budget) <= per_step[name] / 2
        assert (each.batch_size, each.learning_rate) == (4, recipe.learning_rate)
    assert recipes["vjepa2"].steps < recipes["videomae"].steps < 100


def test_a_budget_below_a_step_is_refused():
    with pytest.raises(ValueError, match="less than a step"):
        equal_recipes(MODELS, TINY_DATA, TINY_RECIPE.__class__(steps=1, batch_size=4))


def test_models_of_a_seed_see_the_same_data_in_the_same_order():
    recipe = TINY_RECIPE.__class__(steps=100, batch_size=4)
    runs = race_runs(MODELS, TINY_DATA, recipe, 2, "steps", LABEL)
    assert [run.label.name for run in runs] == list(MODELS) * 2
    assert [run.experiment.seed for run in runs] == [0] * 5 + [1] * 5
    assert len({run.experiment.data for run in runs}) == 1
    assert {run.experiment.recipe.steps for run in runs} == {100}
    fair = race_runs(MODELS, TINY_DATA, recipe, 1, "flops", LABEL)
    assert len({run.experiment.recipe.steps for run in fair}) > 1


def test_speed_and_memory_are_measured():
    speed = measure_speed({"videomae": MODELS["videomae"]}, TINY_DATA, 2, "cpu", rounds=1)
    assert list(speed) == ["videomae"]
    values = speed["videomae"]
    assert min(values["clips_per_second"], values["training_clips_per_second"]) > 0
    assert values["peak_mib"] is None or values["peak_mib"] >= 0  # above what a process has anyway; this model is tiny


def test_speed_is_measured_once_per_machine_setting(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(compare_speed, "measure_speed", lambda *args: calls.append(args) or {})
    for rounds in (1, 1, 2):
        find_speed(LABEL, MODELS, TINY_DATA, tmp_path, "cpu", rounds)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        find_speed(LABEL, MODELS, TINY_DATA, tmp_path, "cpu", 2)
    finally:
        torch.set_num_threads(threads)
    assert len(calls) == 3


def race_results():
    return [
        made_result("race_motion", name, seed, accuracy, gflops=gflops, title="The race", position=position,
                    row={"title": title})
        for seed in (0, 1)
        for position, (name, title, accuracy, gflops) in enumerate(
            [("tubevit", "TubeViT", 0.8 - 0.02 * seed, 0.2), ("vivit", "ViViT", 0.5 + 0.3 * seed, 2.0)]
        )
    ]  # fmt: skip


def test_the_table_has_a_row_per_model():
    speed = {"speed": {"tubevit": {"clips_per_second": 123.4, "training_clips_per_second": 45.6, "peak_mib": None}}}
    columns, cells = race_cells(race_results(), speed)
    rows = {line[0]: dict(zip(columns, line, strict=True)) for line in cells}
    assert rows["TubeViT"]["accuracy, %"] == "79.0" and rows["ViViT"]["range"] == "50.0 - 80.0"
    assert rows["TubeViT"]["clips/s"] == "123" and rows["TubeViT"]["training clips/s"] == "45.6"
    assert rows["ViViT"]["clips/s"] == "" and rows["TubeViT"]["peak MiB"] == ""
    # 10 steps of 4 clips, forward and twice that backward.
    assert training_tflops(race_results()[0]) == pytest.approx(3 * 0.2 * 4 * 10 / 1e3)


def test_sentences_say_who_is_above_and_by_how_much():
    ours, near, far = Row("A", (70, 72), 25), Row("B", (60, 71), 25), Row("C", (80, 90), 25)
    near_sentence, far_sentence = describe_race([ours, near, far])
    assert near_sentence == "A is 5.5 points above B, within the spread over seeds."
    assert far_sentence == "A is 14.0 points below C, beyond the spread over seeds."
    (single,) = describe_race([Row("A", (70,), 25), Row("B", (60,), 25)])
    assert single == "A is 10.0 points above B, of one seed, which has no spread."


def test_the_picture_is_drawn(tmp_path):
    from PIL import Image

    draw_race(tmp_path / "race.png", race_results(), "The race")
    picture = Image.open(tmp_path / "race.png").convert("RGB")
    assert picture.width > 1000 and len(picture.resize((100, 50)).getcolors(5000)) > 10


def test_the_command_races_on_the_made_set(tmp_path, capsys):
    argv = [
        "compare",
        "--against",
        "videomae",
        "--steps",
        "4",
        "--seeds",
        "1",
        "--num-train",
        "16",
        "--num-validation",
        "8",
    ]
    argv += ["--task", "direction", "--rounds", "0", "--threads", "1", "--output", str(tmp_path)]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "VideoMAE" in printed and "TubeViT is" in printed and len(list(tmp_path.glob("cpu/*/race.png"))) == 1
    results = [json.loads(path.read_text()) for path in tmp_path.glob("cpu/race_motion_direction_level1/*.json")]
    assert "TubeViT, mean pooling" in printed
    poolings = {each["name"]: each["settings"]["model"].get("pooling") for each in results}
    assert poolings == {"tubevit": None, "tubevit_mean": "mean", "videomae": None}
    steps = {each["name"]: each["steps"] for each in results}
    assert steps == {"tubevit": 4, "tubevit_mean": 4, "videomae": 1}
    assert all("--num-train 16" in each["command"] and "--output" not in each["command"] for each in results)


def test_the_command_races_on_class_folders(tmp_path, capsys):
    for split in ("train", "val"):
        for label in ("left", "right"):
            folder = tmp_path / "clips" / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                write_video(folder / f"{number}.mp4", moving_frames(12, seed=number))
    argv = ["compare", "--against", "", "--data", str(tmp_path / "clips"), "--steps", "1", "--seeds", "1"]
    assert main([*argv, "--rounds", "0", "--threads", "1", "--output", str(tmp_path / "out")]) == 0
    assert "The race on clips" in capsys.readouterr().out
    assert (tmp_path / "out" / "cpu" / "race_clips" / "tubevit-seed0.json").is_file()


@pytest.mark.parametrize(
    "argv",
    [
        ["--against", "resnet"],
        ["--data", "no/such/folder"],
        ["--data", ".", "--level", "2"],
        ["--validation-data", "."],
    ],
)
def test_bad_arguments_are_one_line(argv, tmp_path, capsys):
    rest = ["--rounds", "0", "--steps", "1", "--seeds", "1", "--output", str(tmp_path)]
    assert main(["experiments", "compare", *argv, *rest]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "error:" in error
