"""`tubevit experiments transfer`: folds by group, rows with equal training FLOPs, exact conversions, and a report from records."""

import argparse
import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from tiny_experiments import invented_record
from transformers import AutoModelForVideoClassification, Dinov2Config, Dinov2Model, ViTImageProcessor
from transformers.utils.logging import enable_progress_bar
from video_files import moving_frames, write_video

from tubevit.presets import preset_config
from tubevit.training.cli import main
from tubevit.training.experiments import budgets, transfer, transfer_rows
from tubevit.training.experiments.clip_frames import with_frames
from tubevit.training.experiments.comparison import make_config
from tubevit.training.experiments.folds import Fold, read_groups
from tubevit.training.experiments.image_vit import as_vit_model, plain_vit
from tubevit.training.experiments.initialization import build_converted
from tubevit.training.experiments.records import collect_rows, read_record
from tubevit.training.experiments.results import make_report
from tubevit.training.experiments.transfer_rows import ROWS_FOLDER, Transfer, TransferRow, find_rows, load_row
from tubevit.training.trainer.token_budgets import levels_of


SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
RECIPE = {
    "model_name_or_path": "unused",
    **{"num_frozen_layers": 1, "drop_path_rate": 0},
    "model_config": {"tubes": [{"kernel_size": [4, 8, 8], "stride": [4, 8, 8]}], "pooling": "mean"},
    **{"num_frames": 8, "image_size": 16, "short_side": 16, "num_train_epochs": 1, "per_device_train_batch_size": 4},
    **{"eval_strategy": "no", "load_best_model_at_end": False, "save_strategy": "no", "chance_loss_patience": 0},
    **{"num_temporal_views": 1, "num_spatial_views": 1, "logging_steps": 1, "mixed_precision": "no"},
}
LABEL = {"group": "g", "title": "t", "size": "cpu", "command": "c", "about": "a"}
JOINT_ROWS = ("joint_video", "joint_video_twice", "joint_sequential", "joint", "joint_images")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A DINOv2 with LayerScale factors that differ from 1, as trained ones do."""
    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2)).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.rand_like(value) + 0.5 if "lambda1" in name else torch.randn_like(value) * 0.3)
    folder = tmp_path_factory.mktemp("vit")
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """12 clips of two classes; each group has clips of both classes, and the last two have none."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for index in range(12):
        label = ("left", "right")[index % 2]
        path = folder / "train" / label / f"{index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(8, height=16, width=16, seed=index))
        rows.append((path.relative_to(folder).as_posix(), label, "train", f"film {index // 2}" if index < 10 else ""))
    with open(folder / "MANIFEST.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "split", "source"), *rows])
    return folder


@pytest.fixture
def tiny_recipe(monkeypatch):
    def with_tiny_recipe(recipe, **options):
        merged = {**RECIPE, **{k: {**RECIPE[k], **v} if isinstance(v, dict) else v for k, v in options.items()}}
        return {name: value for name, value in merged.items() if value is not None}

    monkeypatch.setattr(transfer_rows, "with_recipe", with_tiny_recipe)
    transfer_rows.recipe_options.cache_clear()
    yield
    transfer_rows.recipe_options.cache_clear()


def test_a_group_is_in_one_fold_and_clips_without_a_group_are_never_scored(clips, tmp_path):
    found = read_groups(str(clips), "source", 3, 0)
    assert set(found.folds) == {0, 1, 2, None} and found.folds[10:] == (None, None)
    assert all(found.folds[index] == found.folds[index + 1] for index in range(0, 10, 2))
    scored = []
    for fold in range(3):
        data = Fold(str(clips), "source", 3, fold)
        data.write("video", tmp_path)
        options = data.options("video", tmp_path)
        sides = []
        for name in ("train_data", "validation_data"):
            with open(options[name], newline="") as file:
                sides.append([row["path"] for row in csv.DictReader(file)])
        assert not set(sides[0]) & set(sides[1]) and len(sides[0]) + len(sides[1]) == 12
        assert {found.paths[10], found.paths[11]} <= set(sides[0])
        scored += sides[1]
    assert sorted(scored) == sorted(found.paths[:10])


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def build(vit, folder, name, **changes):
    sizes = {**SIZES, "intermediate_size": 48, "num_frames": 2, "image_size": 16, **changes}
    build_converted(folder, {}, str(vit), name, 3, **sizes, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return AutoModelForVideoClassification.from_pretrained(folder).eval()


@torch.no_grad()
def test_a_plain_vit_has_the_tokens_of_its_source(vit, image):
    folder, source = vit
    plain = as_vit_model(*plain_vit(str(folder), (16, 16), SIZES["num_hidden_layers"]), (16, 16))
    expected = source(image).last_hidden_state
    torch.testing.assert_close(plain(image).last_hidden_state, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "frames"), [("vivit", 2), ("timesformer", 1), ("vivit_fe", 2)])
@torch.no_grad()
def test_a_clip_of_one_token_in_time_has_the_tokens_of_the_image_vit(vit, image, tmp_path, name, frames):
    folder, source = vit
    model = build(folder, tmp_path, name, num_frames=frames)
    assert model.config.num_labels == 3
    clip, expected = image[:, None].expand(-1, frames, -1, -1, -1), source(image).last_hidden_state
    if (
        name == "vivit_fe"
    ):  # the class token of Model 2 is new, and changes the other tokens: without it, each frame is the ViT's
        state = {key: value for key, value in model.state_dict().items() if ".spatial_layers." in key}
        plain = as_vit_model(*plain_vit(str(folder), (16, 16), SIZES["num_hidden_layers"]), (16, 16)).state_dict()
        assert len(state) == sum(key.startswith("layers.") for key in plain)
        for key, value in state.items():
            torch.testing.assert_close(value, plain["layers." + key.partition(".spatial_layers.")[2]])
        return
    output = model.base_model(clip).last_hidden_state
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_videomae_differs_from_the_image_vit_in_positions_and_class_token_only(vit, image, tmp_path):
    folder, _ = vit
    model = build(folder, tmp_path, "videomae")
    weights, fields = plain_vit(str(folder), (16, 16), SIZES["num_hidden_layers"])
    model.videomae.embeddings.position_embeddings = weights["positions"]
    plain = as_vit_model(weights, fields, (16, 16))
    tokens = plain.embeddings(image)[:, 1:]
    for layer in plain.layers:
        tokens = layer(tokens)
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    output = model.videomae(image[:, None].expand(-1, 2, -1, -1, -1)).last_hidden_state
    torch.testing.assert_close(output, tokens, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.fc_norm.weight, plain.layernorm.weight)


def test_every_trained_row_has_the_training_flops_of_the_recipe_to_within_half_a_step(vit, tiny_recipe):
    setup = Transfer(str(vit[0]), 2, 400, 10)
    rows = [TransferRow("tubevit", "base", 0), TransferRow("random", "random", 1, weights="random")]
    rows += [TransferRow(name, name, 2, model=name) for name in ("videomae", "timesformer")]
    budget = setup.base_steps * setup.training_gflops(rows[0])
    assert setup.steps(rows[0]) == {"video": setup.base_steps, "image": 0} and setup.base_steps == 1000
    for row in rows:
        assert abs(setup.steps(row)["video"] * setup.training_gflops(row) - budget) <= setup.training_gflops(row) / 2
    # One of two layers is frozen: a forward pass, and half of the backward pass.
    assert setup.training_gflops(rows[1]) == pytest.approx(1.5 * setup.training_gflops(rows[0]))
    with pytest.raises(ValueError, match="fewer FLOPs than one step of timesformer: raise --epochs"):
        Transfer(str(vit[0]), 2, 1, 1).steps(rows[3])


def test_each_row_of_the_package_has_a_config_with_the_real_recipe(tmp_path):
    """12 layers and patches of 14 pixels, as the recipe expects."""
    transfer_rows.recipe_options.cache_clear()
    sizes = {**SIZES, "num_hidden_layers": 12, "image_size": 70, "patch_size": 14}
    Dinov2Model(Dinov2Config(**sizes, mlp_ratio=2)).save_pretrained(tmp_path)
    setup, changes = Transfer(str(tmp_path), 2, 190, 6), {}
    for row in find_rows(None):
        if row.model == "tubevit" and row.weights == "image_vit" and row.probe is None:
            changes[row.name] = setup.tubevit_config(row).to_diff_dict(), setup.options(row).get("classifier_init")
    assert len(changes) == 25
    assert {name for name, (_, start) in changes.items() if start != "ridge"} == {"random_classifier", *JOINT_ROWS}
    same = [name for name, (config, _) in changes.items() if config == changes["tubevit"][0]]
    joint = changes["patch_tube"][0] | {"initializer_range": 0.002}
    assert [name for name, (config, _) in changes.items() if config == joint] == list(JOINT_ROWS)
    # Kernels, frozen layers and classifiers are not in this config.
    assert same == ["tubevit", "tubes_central", "tubes_random", "frozen_none", "frozen_8", "random_classifier"]


def test_rows_of_the_package_are_in_order_and_start_with_the_recipe():
    rows = find_rows(None)
    assert rows[0].is_base and len({row.position for row in rows}) == len(rows)
    assert {row.name for row in rows} == {path.stem for path in ROWS_FOLDER.glob("*.yaml")}
    assert {row.probe for row in rows} == {None, "ridge", "attentive"}
    assert [row.name for row in find_rows(["ridge", "tubevit"])] == ["tubevit", "ridge"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title: a", "must have title and position"),
        ("{title: a, position: 1, seeds: 3}", "it has title, position, seeds"),
        ("{title: a, position: 1, model: uniformerv2}", "cannot start from an image ViT exactly"),
        ("{title: a, position: 1, model: resnet}", "model='resnet'; there are tubevit"),
        ("{title: a, position: 1, probe: knn}", "there are ridge, attentive"),
        ("{title: a, position: 1, images: first}", "there are only, before, jointly"),
        ("{title: a, position: 1, images: only, model: vivit}", "images=only is for the model tubevit"),
        ("{title: a, position: 1, step_factor: 0}", "must be a whole number of at least 1"),
        ("title: [", "is not YAML"),
    ],
)
def test_a_file_that_is_no_row_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "row.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_row(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "9"], "5 groups do not fill 9 folds"),
        (["--folds", "3", "--group-column", "camera"], "camera"),
        (["--folds", "3", "--data", "train"], "has no groups of clips"),
        (["--folds", "split"], "has no split validation"),
        (["--folds", "3", "--rows", "tubvit"], "no such row"),
        (["--folds", "3", "--model", "clip"], "is a videomae model, not an image ViT"),
        (["--folds", "3", "--rows", "joint"], "joint train on images: add --image-labels COLUMN"),
        (["--folds", "3", "--image-labels", "label", "--rows", "tubevit"], "no effect: none of the rows tubevit"),
        (["--folds", "3", "--image-labels", "camera"], "MANIFEST.csv has file, label, split, source"),
        (["--folds", "3", "--image-labels", "split"], "training clips of fold 0 have the one value 'train'"),
        (
            ["--folds", "3", "--image-labels", "source"],
            "no scored clip of fold 0 has a value that a training clip has",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_is_written(vit, clips, tmp_path, capsys, arguments, message):
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "config.json").write_text(json.dumps({"model_type": "videomae"}))
    given = {"--data": str(clips), "--model": str(vit[0]), "--output": str(tmp_path / "results")}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    given["--data"] = str(clips / "train") if given["--data"] == "train" else given["--data"]
    given["--model"] = str(wrong) if given["--model"] == "clip" else given["--model"]
    assert main(["experiments", "transfer", *(word for pair in given.items() for word in pair)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1] and not (tmp_path / "results").exists()


def test_rows_are_trained_on_each_fold_scored_together_and_not_repeated(
    vit, clips, tmp_path, tiny_recipe, capsys, monkeypatch
):
    monkeypatch.chdir(clips.parent)  # a relative path, as users type it
    output = tmp_path / "results"
    command = ["experiments", "transfer", "--data", clips.name, "--model", str(vit[0]), "--folds", "2", "--seeds", "1"]
    rows = ("attentive", "ridge", "tubevit", "videomae")
    command += ["--rows", *rows, "--output", str(output), "--device", "cpu"]
    assert main(command) == 0
    paths = sorted(output.glob("cpu/transfer_*/*.json"))
    assert [path.name for path in paths] == [f"{row}-seed0-fold{fold}.json" for row in rows for fold in (0, 1)]
    records = [read_record(path) for path in paths]
    assert all(
        sum(r["scores"]["video"]["number"] for r in records if r["name"] == name) == 10
        for name in ("ridge", "tubevit")
    )
    assert not list(output.glob("**/*.safetensors"))
    trained = [each for each in records if each["loop"] != "probe"]
    assert len(trained) == 4 and all(each["trained_parameters"] < 0.8 * each["parameters"] for each in trained)
    times = [path.stat().st_mtime_ns for path in paths]
    assert main(command) == 0
    assert [path.stat().st_mtime_ns for path in paths] == times
    shown = capsys.readouterr().out
    assert "VideoMAE from the image ViT" in shown and "frozen ViT, ridge" in shown
    report = make_report(output, tmp_path)
    assert "## From an image ViT to" in report and "10 validation examples" in report
    options = yaml.safe_load(next(output.glob("runs/*/resolved_config.yaml")).read_text())
    assert options["training"]["load_best_model_at_end"] is False and options["data"]["group_column"] == "group"


def test_the_time_of_features_is_divided_among_the_probes_that_use_them(
    vit, clips, tmp_path, tiny_recipe, monkeypatch
):
    features = transfer.FrameFeatures(np.random.default_rng(0).normal(size=(12, 8, 6)), 1000.0, 1.0)
    monkeypatch.setattr(transfer, "embed_frames", lambda *_: features)
    args = argparse.Namespace(
        **{"data": str(clips), "model": str(vit[0]), "folds": 2, "group_column": "source", "seeds": 2},
        **{"epochs": None, "image_labels": None, "output": tmp_path},
    )
    label, found = transfer.make_label(args, "cpu"), read_groups(str(clips), "source", 2, 0)
    probes = transfer.make_probes(find_rows(["ridge", "attentive"]), args, transfer.make_folds_of(args), label)
    records = transfer.score_probes(probes, args, found, "cpu")
    assert len(records) == 8
    assert sum(each["seconds"] - each["training_seconds"] for each in records) == pytest.approx(1000, abs=0.1)


def test_rows_with_images_train_on_them_as_they_say(vit, tiny_recipe, clips):
    fold = Fold(str(clips), "source", 2, 0)
    setup, framed = Transfer(str(vit[0]), 2, 40, 10), with_frames(fold, "label", 16)
    rows = {row.name: row for row in find_rows(JOINT_ROWS)}
    found = {name: setup.experiment(row, framed if row.images else fold, 0) for name, row in rows.items()}
    assert {name: each.kinds for name, each in found.items()} == {
        **{"joint_video": ("video",), "joint_video_twice": ("video",), "joint_sequential": ("video",)},
        **{"joint": ("video", "image"), "joint_images": ("image",)},
    }
    steps = found["joint_video"].options["max_steps"]
    factors = {name: each.options["max_steps"] / steps for name, each in found.items()}
    assert factors == {"joint_video": 1, "joint_video_twice": 2, "joint_sequential": 1, "joint": 2, "joint_images": 1}
    # Images are trained on once, for the row of images alone and for the row that trains on clips afterwards.
    assert found["joint_sequential"].prerequisites() == [found["joint_images"]]
    assert all(
        (each.settings()["data"].get("image_labels") == "label") == bool(rows[n].images) for n, each in found.items()
    )
    panels = {n: [shown["panel"] for shown in transfer.row_label(LABEL, row).rows] for n, row in rows.items()}
    own = rows["joint"].panel
    images = f"{own}: scores of images"
    assert panels == {**{name: [own] for name in JOINT_ROWS}, "joint": [own, images], "joint_images": [images]}
    for change, message in (
        ({"model_config": {"add_patch_tube": False}}, "no tube whose kernel spans one frame"),
        ({**rows["joint"].options, "classifier_init": "ridge"}, "set classifier_init: null"),
    ):
        with pytest.raises(ValueError, match=f"The row joint trains.*{message}"):
            setup.experiment(replace(rows["joint"], options=change), framed, 0)


def test_frames_are_large_enough_for_the_image_size_of_each_row(vit, tiny_recipe, clips):
    fold, (row,) = Fold(str(clips), "source", 2, 0), find_rows(["joint"])
    larger = replace(row, options={**row.options, "image_size": 32, "short_side": 32})
    setup, framed = Transfer(str(vit[0]), 2, 40, 10), with_frames(fold, "label", 16)
    runs = transfer.make_runs(setup, [row, larger], [fold], 1, LABEL, [framed])
    assert [run.experiment.data for run in runs] == [framed, with_frames(fold, "label", 32)]


def test_without_labels_of_images_their_panel_is_left_out(capsys):
    kept = transfer.choose_rows(find_rows(None), argparse.Namespace(rows=None, image_labels=None))
    assert {row.name for row in find_rows(None)} - {row.name for row in kept} == set(JOINT_ROWS)
    assert "Left out: the rows of joint training on clips and their frames" in capsys.readouterr().out


def test_joint_training_is_scored_on_clips_and_on_images_and_reported(
    vit, clips, tmp_path, tiny_recipe, capsys, monkeypatch
):
    enable_progress_bar()
    monkeypatch.setattr(transfer_rows, "_CONFIGS", {})  # so that the weights are loaded here
    fold = Fold(str(clips), "source", 2, 1)
    monkeypatch.setattr(transfer, "make_folds_of", lambda args: [fold])  # one of two, which takes half the time
    output = tmp_path / "results"
    command = ["experiments", "transfer", "--data", str(clips), "--model", str(vit[0]), "--folds", "2", "--seeds", "1"]
    command += ["--rows", "joint", "--image-labels", "label", "--output", str(output), "--device", "cpu"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "Loading weights" not in shown.err and "labelled by the classes of the clips" in shown.out
    (path,) = output.glob("cpu/transfer_*/*.json")
    record, scored = read_record(path), read_groups(str(clips), "source", 2, 0).folds.count(1)
    numbers = {kind: score["number"] for kind, score in record["scores"].items()}
    assert numbers == {"video": scored, "image": 4 * scored} and record["settings"]["data"]["image_labels"] == "label"
    assert path.name == "joint-seed0-fold1.json" and "--image-labels label" in record["command"]
    report = make_report(output, tmp_path)
    assert "frames: scores of images**" in report and report.count("Table 5 on these clips") == 1


def test_random_weights_have_the_design_of_the_converted_model(vit, tiny_recipe, clips):
    design = {"add_patch_tube": False, "temporal_position_scale": 0}
    setup = Transfer(str(vit[0]), 2, 10, 1)
    row = TransferRow("random", "", 0, weights="random", options={"model_config": design})
    options = setup.experiment(row, Fold(str(clips), "source", 2, 0), 0).options
    random, converted = preset_config("small", **options["model_config"], image_size=16), setup.tubevit_config(row)
    for name in ("tubes", "temporal_position_scale", "position_grid", "hidden_size", "pooling", "layerscale_value"):
        assert getattr(random, name) == getattr(converted, name), name
    assert not random.get_image_tubes() and setup.sizes()["patch_size"] == 8


def record(name, seed, fold, correct, number):
    settings = {"seed": seed, "data": {"source": "fight", "num_folds": 2, "fold": fold}}
    score = {"accuracy": correct / number, "correct": correct, "number": number, "chance": 0.5}
    return invented_record(
        "transfer_fight_2folds", name, seed, settings=settings, scores={"video": score}, seconds=10.0 + fold
    )


def test_a_score_is_over_the_clips_of_all_folds_and_a_seed_without_a_fold_is_left_out():
    members = [record("a", 0, 0, 1, 10), record("a", 0, 1, 20, 30), record("a", 1, 0, 5, 10)]
    (row,) = collect_rows(members)[""]
    assert row.scores == (pytest.approx(100 * 21 / 40),) and row.number == 40 and row.seconds == 21
    assert row.missing == "seed 1: 1 of 2"
    (row,) = collect_rows(members[:1])[""]
    assert row.scores == (10,) and row.missing == "seed 0: 1 of 2"


def test_the_report_begins_with_transfer_and_says_that_the_split_of_the_fight_set_differs(tmp_path):
    from argparse import Namespace

    from tubevit.training.experiments.records import write_record
    from tubevit.training.experiments.transfer import make_label

    args = Namespace(
        data="fight", model="vit", folds=2, group_column="source", seeds=1, epochs=None, image_labels=None
    )
    label = make_label(args, "cpu")
    assert make_label(args, "cuda")["size"] == "gpu"
    for fold in range(2):
        write_record(tmp_path / f"cpu/{label['group']}/a-seed0-fold{fold}.json", record("a", 0, fold, 8, 10) | label)
    write_record(tmp_path / "cpu/table_7a/one-seed0.json", invented_record())
    report = make_report(tmp_path, tmp_path)
    headings = [line for line in report.splitlines() if line.startswith("## ")]
    assert headings[0] == "## From an image ViT to fight (cpu)" and "Table 7a" in headings[1]
    assert "91.1 %" in report and "not comparable" in report
    assert "--data fight --model vit --folds 2 --seeds 1" in report


def test_models_of_token_budgets_start_from_the_image_vit_with_the_recipe(clips, vit, tiny_recipe, monkeypatch):
    folder, _ = vit
    monkeypatch.setitem(RECIPE["model_config"], "add_patch_tube", False)  # as in the recipe
    with open(clips / "MANIFEST.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(clips / "splits.csv", "w", newline="") as file:
        lines = ((row["file"], row["label"], "train" if index < 8 else "validation") for index, row in enumerate(rows))
        csv.writer(file).writerows([("file", "label", "split"), *lines])
    parser = argparse.ArgumentParser()
    budgets.add_arguments(parser)
    argv = ["--model", str(folder), "--data", str(clips / "splits.csv"), "--learning-rate", "1e-4", "--seeds", "1"]
    args = parser.parse_args([*argv, "--budgets", "4"])
    setup = budgets.make_setup(args)
    numbers = budgets.parse_budgets(args.budgets, setup.config)
    assert numbers == [8, 4] and setup.steps == 2  # an epoch of 8 clips in batches of 4
    frozen = replace(setup, steps=1000)
    assert frozen.passes == 2  # one of two layers is frozen
    small, full = (level.gflops for level in levels_of(setup.config, 4, 8))
    mean = (
        2 * small + full + 2 * full
    ) / 2  # GFLOPs of a step; at the fewer tokens the teacher makes another forward pass
    assert budgets.steps_of_range(frozen, numbers, 0.5) == round(1000 * 2 * full / mean)
    label = budgets.budgets_label(setup, args, numbers)
    assert label["group"] == f"budgets_transfer_{clips.name}" and label["about"].startswith(
        f"From {folder.name}, the recipe"
    )
    assert "--against" not in label["command"] and f"--model {folder}" in label["command"]
    runs = {run.label.name: run.experiment for run in budgets.budgets_runs(setup, numbers, 0.0, 1, label)}
    options = {name: dict(experiment.options) for name, experiment in runs.items()}
    assert all(
        each["model_name_or_path"] == str(folder) and each["learning_rate"] == 1e-4 for each in options.values()
    )
    assert options["range"]["token_budget_range"] == [4, 8] and options["range"]["max_steps"] > 2
    assert options["full"]["max_steps"] == options["alone_4"]["max_steps"] == 2
    tubes = options["alone_4"]["model_config"]["tubes"]
    assert (
        setup.config.with_tubes(tubes).num_tokens() == 4 and options["full"]["model_config"] == RECIPE["model_config"]
    )
    assert runs["full"].evaluations == runs["range"].evaluations and not runs["alone_4"].evaluations
    speed = budgets.speed_models(setup, numbers, [])
    assert make_config(speed["tokens_8"]).num_tokens() == 8


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--model vit needs --data"),
        (["--data", "clips", "--against", "vivit"], "--against vivit does not work with --model"),
        (["--data", "clips", "--size", "gpu"], "--size gpu does not work with --model"),
        (["--data", "clips", "--validation-data", "others"], "--validation-data does not work with --model"),
    ],
)
def test_options_that_do_not_work_with_an_image_vit_are_one_line(argv, message, tmp_path, capsys):
    assert main(["experiments", "budgets", "--model", "vit", *argv, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
