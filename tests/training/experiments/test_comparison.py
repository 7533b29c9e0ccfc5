"""`tubevit experiments compare`: equal training FLOPs, the same data, and a report that states the spread."""

import json

import pytest
import torch
from tiny_experiments import TINY_DATA, TINY_ENCODER, TINY_TUBEVIT, invented_record
from video_files import moving_frames, write_video

from tubevit.training.cli import main
from tubevit.training.experiments import comparison
from tubevit.training.experiments.ablation_tables import SIZES
from tubevit.training.experiments.comparison import (
    comparison_label,
    comparison_models,
    comparison_runs,
    equal_steps,
    find_speed,
    make_config,
    measure_speed,
)
from tubevit.training.experiments.comparison_report import (
    comparison_cells,
    describe_comparison,
    draw_comparison,
    training_tflops,
)
from tubevit.training.experiments.records import Row
from tubevit.training.experiments.run_records import measure_classifier


PEERS = ("videomae", "vivit", "timesformer", "vjepa2")
SIZES_OF_PEERS = {"num_frames": 8, "image_size": 16, "patch_size": 8, **TINY_ENCODER}
STATISTICS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
MODELS = {"tubevit": {"model_config": {"num_frames": 8, "image_size": 16, **TINY_TUBEVIT}}} | {
    name: {"initial": {"kind": "random", "name": name, **SIZES_OF_PEERS, **STATISTICS}} for name in PEERS
}
LABEL = comparison_label(TINY_DATA, "tiny", "tubevit experiments compare", "flops")


def test_every_model_has_the_same_training_flops_to_within_a_step():
    steps = equal_steps(MODELS, 100)
    gflops = {name: measure_classifier(make_config(model), "video")["gflops"] for name, model in MODELS.items()}
    assert steps["tubevit"] == 100
    for name, number in steps.items():
        assert abs(number * gflops[name] - 100 * gflops["tubevit"]) <= gflops[name] / 2
    assert steps["vjepa2"] < steps["videomae"] < 100


def test_fewer_flops_than_a_step_are_refused():
    with pytest.raises(ValueError, match="fewer FLOPs than one step"):
        equal_steps(MODELS, 1)


def test_models_of_a_seed_have_the_same_data_and_recipe():
    models = comparison_models(SIZES["cpu"], PEERS)
    runs = comparison_runs(SIZES["cpu"], models, SIZES["cpu"].data, 1600, 2, "flops", LABEL)
    assert [run.label.name for run in runs] == list(models) * 2
    assert [run.experiment.seed for run in runs] == [0] * 6 + [1] * 6
    assert len({run.experiment.data for run in runs}) == 1
    own = ("model_config", "preset", "num_frames", "image_size", "max_steps")
    recipes = [{k: v for k, v in run.experiment.options.items() if k not in own} for run in runs]
    assert all(each == recipes[0] for each in recipes) and recipes[0]["learning_rate"] == 2e-3
    assert len({run.experiment.options["max_steps"] for run in runs}) > 3
    same = comparison_runs(SIZES["cpu"], models, SIZES["cpu"].data, 100, 1, "steps", LABEL)
    assert {run.experiment.options["max_steps"] for run in same} == {100}
    assert {run.experiment.options["model_config"].get("pooling") for run in same[:2]} == {None, "mean"}


def test_a_learning_rate_replaces_that_of_the_recipe_for_all_models():
    runs = comparison_runs(SIZES["cpu"], MODELS, SIZES["cpu"].data, 100, 1, "steps", LABEL, {"learning_rate": 1e-3})
    assert {run.experiment.options["learning_rate"] for run in runs} == {1e-3}


def test_speed_and_memory_are_measured():
    speed = measure_speed({"videomae": MODELS["videomae"]}, 2, "cpu", rounds=1)
    assert list(speed) == ["videomae"]
    values = speed["videomae"]
    assert min(values["clips_per_second"], values["training_clips_per_second"]) > 0
    assert values["peak_mib"] is None or values["peak_mib"] >= 0  # above what a process has anyway; this model is tiny


def test_speed_is_measured_once_per_machine_setting(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(comparison, "measure_speed", lambda *args: calls.append(args) or {})
    for rounds in (1, 1, 2):
        find_speed(LABEL, MODELS, tmp_path, "cpu", rounds)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        find_speed(LABEL, MODELS, tmp_path, "cpu", 2)
    finally:
        torch.set_num_threads(threads)
    assert len(calls) == 3


def comparison_records():
    return [
        invented_record("comparison_motion", name, seed, accuracy, gflops=gflops, title="The comparison", position=position,
                    row={"title": title})
        for seed in (0, 1)
        for position, (name, title, accuracy, gflops) in enumerate(
            [("tubevit", "TubeViT", 0.8 - 0.02 * seed, 0.2), ("vivit", "ViViT", 0.5 + 0.3 * seed, 2.0)]
        )
    ]  # fmt: skip


def test_the_table_has_a_row_per_model():
    speed = {"speed": {"tubevit": {"clips_per_second": 123.4, "training_clips_per_second": 45.6, "peak_mib": None}}}
    columns, cells = comparison_cells(comparison_records(), speed)
    rows = {line[0]: dict(zip(columns, line, strict=True)) for line in cells}
    assert rows["TubeViT"]["accuracy, %"] == "79.0" and rows["ViViT"]["range"] == "50.0 - 80.0"
    assert rows["TubeViT"]["clips/s"] == "123" and rows["TubeViT"]["training clips/s"] == "45.6"
    assert rows["ViViT"]["clips/s"] == "" and rows["TubeViT"]["peak MiB"] == ""
    # 10 steps of 4 clips, forward and twice that backward; records of the loop before VideoTrainer are read as well.
    old = invented_record(gflops=0.2, is_old=True)
    assert training_tflops(comparison_records()[0]) == training_tflops(old) == pytest.approx(3 * 0.2 * 4 * 10 / 1e3)


def test_sentences_say_who_is_above_and_by_how_much():
    ours, near, far = Row("A", (70, 72), 25), Row("B", (60, 71), 25), Row("C", (80, 90), 25)
    near_sentence, far_sentence = describe_comparison([ours, near, far])
    assert near_sentence == "A is 5.5 points above B, within the spread over seeds."
    assert far_sentence == "A is 14.0 points below C, beyond the spread over seeds."
    (single,) = describe_comparison([Row("A", (70,), 25), Row("B", (60,), 25)])
    assert single == "A is 10.0 points above B, of one seed, which has no spread."


def test_the_picture_is_drawn(tmp_path):
    from PIL import Image

    draw_comparison(tmp_path / "comparison.png", comparison_records(), "The comparison")
    draw_comparison(
        tmp_path / "old.png",
        [each | invented_record(is_old=True, row={"title": "x"}) for each in comparison_records()[:1]],
        "Old",
    )
    picture = Image.open(tmp_path / "comparison.png").convert("RGB")
    assert picture.width > 1000 and len(picture.resize((100, 50)).getcolors(5000)) > 10


def test_the_command_compares_on_synthetic_clips(tmp_path, capsys):
    """A small version of the comparison, from synthetic files to table, picture and speed."""
    argv = [
        "compare",
        "--against",
        "videomae,uniformerv2_full",
        "--steps",
        "8",
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
    assert "VideoMAE" in printed and "TubeViT is" in printed and "TubeViT, mean pooling" in printed
    assert len(list(tmp_path.glob("cpu/*/comparison.png"))) == 1
    records = [json.loads(path.read_text()) for path in tmp_path.glob("cpu/comparison_motion_direction_level1/*.json")]
    steps = {each["name"]: each["steps"] for each in records}
    assert steps == {"tubevit": 8, "tubevit_mean": 8, "videomae": 2, "uniformerv2_full": 2}
    order = [each["name"] for each in sorted(records, key=lambda record: record["position"])]
    assert order == ["tubevit", "tubevit_mean", "videomae", "uniformerv2_full"]
    assert "UniFormerV2 (full) 16" in records[0]["about"] and "without its dropout" in records[0]["about"]
    assert all("--num-train 16" in each["command"] and "--output" not in each["command"] for each in records)


def test_the_command_compares_on_class_folders(tmp_path, capsys):
    for split in ("train", "val"):
        for label in ("left", "right"):
            folder = tmp_path / "clips" / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                write_video(folder / f"{number}.mp4", moving_frames(12, seed=number))
    argv = [
        "experiments",
        "compare",
        "--against",
        "",
        "--data",
        str(tmp_path / "clips"),
        "--steps",
        "1",
        "--seeds",
        "1",
    ]
    assert main([*argv, "--rounds", "0", "--threads", "1", "--output", str(tmp_path / "out")]) == 0
    assert "comparison on clips" in capsys.readouterr().out
    assert (tmp_path / "out" / "cpu" / "comparison_clips" / "tubevit-seed0.json").is_file()


@pytest.mark.parametrize(
    "argv",
    [
        ["--against", "resnet"],
        ["--against", ","],
        ["--against", "vivit_fe,vivit_fe"],
        ["--data", "no/such/folder"],
        ["--data", ".", "--level", "2"],
        ["--validation-data", "."],
        ["--learning-rate", "0"],
        ["--learning-rate", "nan"],
    ],
)
def test_bad_arguments_are_one_line(argv, tmp_path, capsys):
    rest = ["--rounds", "0", "--steps", "1", "--seeds", "1", "--output", str(tmp_path)]
    assert main(["experiments", "compare", *argv, *rest]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "error:" in error
