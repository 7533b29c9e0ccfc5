"""Recipes of the published UniFormerV2 and ViViT models: made from their tables, resolved, and trained at a tiny size."""

import argparse
import csv
import functools
import re

import pytest
import torch
import yaml
from tiny_runs import make_videos
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel, get_scheduler

from tubevit import UniFormerV2Config, UniFormerV2ForVideoClassification, UniFormerV2VideoProcessor
from tubevit.training.command_line import add_config_arguments, parse_arguments
from tubevit.training.models.published_classes import FOLDER, read_class_list
from tubevit.training.options import recipe_names
from tubevit.training.published_recipes import FAMILIES, make_recipes
from tubevit.training.trainer.run_config import RECIPES, TrainingRun, all_blocks, read_run
from tubevit.training.trainer.run_steps import train_run
from tubevit.uniformerv2_from_clip import DESIGNS


TABLES = {
    family: list(csv.DictReader((RECIPES / family / "experiments.csv").read_text().splitlines()))
    for family in FAMILIES
}
ROWS = {f"uniformerv2/{row['experiment'].split('/')[1]}": row for row in TABLES["uniformerv2"]}
ROWS |= {f"vivit/{row['experiment']}": row for row in TABLES["vivit"]}
NAMES = sorted(ROWS)
MARK = re.compile(r": .+  # (reference|ours)\b")
NUM_LAYERS = {"b16": 12, "l14": 24, "l14_336": 24}


@functools.cache
def config_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, all_blocks())
    return parser


def read(name: str, *argv: str) -> TrainingRun:
    return read_run(parse_arguments(config_parser(), ["--config", name, "data=videos", "use_cpu=true", *argv]))


def test_files_are_those_of_the_tables():
    """After a change of a table or of `published_recipes`: make recipes."""
    expected = make_recipes()
    assert sorted(expected) == NAMES == [name for name in recipe_names(RECIPES) if "/" in name]
    assert {family: len(rows) for family, rows in TABLES.items()} == {"uniformerv2": 49, "vivit": 6}
    for name, text in expected.items():
        assert (RECIPES / f"{name}.yaml").read_text() == text, name


@pytest.mark.parametrize("name", NAMES)
def test_each_value_is_marked_and_the_score_is_the_published_one(name):
    text = (RECIPES / f"{name}.yaml").read_text()
    head, _, body = text.partition("\n\n")
    top1 = ROWS[name]["top1"]
    assert f"--config {name} " in head and "values marked reference" in head
    assert (
        (f"Published: top-1 {top1} " in head and "we have not run this recipe" in head)
        if top1
        else "no accuracy" in head
    )
    for line in body.splitlines():
        assert MARK.search(line) or line.endswith(":"), line


def learning_rates(run: TrainingRun, num_steps: int = 1100) -> list[float]:
    """The learning rate of each step, as a factor on the largest."""
    training, optimizer = run.training, torch.optim.SGD([torch.zeros(1)], lr=run.training.learning_rate)
    warmup = training.get_warmup_steps(num_steps)
    schedule = get_scheduler(
        training.lr_scheduler_type,
        optimizer,
        warmup,
        num_steps,
        scheduler_specific_kwargs=training.lr_scheduler_kwargs,
    )
    rates = []
    for _ in range(num_steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates.index(max(rates)) in (warmup, warmup - 1, 0)
    return rates


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("uniformerv2")])
def test_recipes_of_uniformerv2_have_the_values_of_the_table_and_the_common_ones(name):
    run, row = read(name), ROWS[name]
    training, augmentation, model = run.training, run.augmentation, run.model
    data, experiment = row["experiment"].split("/")
    is_something = data.startswith("sthv")
    batch = 8 * training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert batch == int(row["nodes"]) * int(row["batch_per_node"])
    assert training.num_train_epochs == int(row["epochs"]) and run.clips.num_frames == int(row["frames"])
    assert training.warmup_steps == pytest.approx(int(row["warmup_epochs"]) / int(row["epochs"]), rel=1e-5)
    rates = learning_rates(run)
    assert max(rates) == float(row["learning_rate"]) and rates[-1] == pytest.approx(1e-6, rel=1e-3)
    assert rates[0] == pytest.approx(1e-6 if int(row["warmup_epochs"]) else max(rates), rel=1e-3)
    assert (training.weight_decay, training.weight_decay_parameters, training.layer_decay) == (0.05, "matrices", 1)
    assert (training.max_grad_norm, training.seed, training.view_aggregation) == (20, 6666, "probs")
    frames, crops, clips = (row["views"] or f"{row['frames']}x3x4").split("x")
    assert (training.num_spatial_views, training.num_temporal_views) == (int(crops), int(clips))
    assert int(frames) == run.clips.num_frames
    settings = (augmentation.rand_augment_layers, augmentation.rand_augment_magnitude, augmentation.rand_augment_space)
    assert (*settings, augmentation.rand_augment_magnitude_std) == (4, 7, "timm", 0.5)
    assert augmentation.rrc_scale_min == 0.08 and not augmentation.has_soft_labels
    assert (augmentation.flip, augmentation.augmentation_repeats) == (("off", 2) if is_something else ("on", 1))
    rates = (model.drop_path_rate, model.model_config["global_drop_path_rate"])
    assert rates == ((0.2, 0.4) if is_something or data in ("anet", "hacs") else (0, 0))
    if row["start"] == "clip":
        assert run.clips.image_size == int(row["resolution"]) and model.model_family == "uniformerv2"
        design, num_layers = model.model_config["design"], NUM_LAYERS[row["trunk"]]
        assert design == ("full" if is_something else "global") and design in DESIGNS
        first = num_layers // 3 if design == "full" else num_layers - 4  # as in `load_clip`
        assert row["taps"] == f"{first}-{num_layers - 1}"
        assert model.model_config.get("frozen", False) == experiment.startswith("frozen")
    else:
        assert f"uniformerv2/{row['start']}" in ROWS and model.model_name_or_path == f"runs/uniformerv2/{row['start']}"
        assert model.head_from == ("k710" if "+k710" in experiment else None)
        before = ROWS[f"uniformerv2/{row['start']}"]
        assert (before["trunk"], before["resolution"]) == (row["trunk"], row["resolution"])


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("vivit")])
def test_recipes_of_vivit_have_the_values_of_the_table_and_the_common_ones(name):
    run, row = read(name), ROWS[name]
    training, augmentation, clips = run.training, run.augmentation, run.clips
    assert 8 * training.per_device_train_batch_size * training.gradient_accumulation_steps == 64
    assert (training.optim, training.optim_args, training.weight_decay) == ("sgd", "momentum=0.9", 0)
    assert max(learning_rates(run)) == float(row["learning_rate"]) and training.max_grad_norm == 1
    assert (clips.num_frames, clips.frame_stride) == (32, int(row["frame_stride"]))
    assert (clips.image_size, clips.short_side) == (int(row["image_size"]), int(row["short_side"]))
    assert augmentation.scale_jitter == (0.9, 1.33) and 0.9 * clips.short_side >= clips.image_size
    is_kinetics = row["data"].startswith("Kinetics")
    color = (augmentation.color_jitter_prob, augmentation.grayscale_prob, augmentation.rand_augment_layers)
    assert color == ((0.8, 0.1, 0) if is_kinetics else (1.0, 0.0, 2))
    assert (augmentation.mixup_alpha, augmentation.label_smoothing) == (
        float(row["mixup"]),
        float(row["label_smoothing"]),
    )
    assert run.model.drop_path_rate == float(row["stochastic_depth"]) and training.view_aggregation == "logits"
    assert (training.num_temporal_views, training.num_spatial_views) == (4, 1 if row["data"].startswith("EPIC") else 3)


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """Videos of two Kinetics classes; tiny image models, and a tiny model of Kinetics-710, in the places of the large ones."""
    root, sizes = (
        tmp_path_factory.mktemp("starts"),
        {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 24},
    )
    videos = make_videos(root / "all", 2, 1)
    for split in ("train", "val"):
        for old, new in (("blue", "abseiling"), ("red", "archery")):
            (root / "videos" / split).mkdir(parents=True, exist_ok=True)
            (videos / split / old).rename(root / "videos" / split / new)
    image = {**sizes, "num_hidden_layers": 3, "image_size": 16, "patch_size": 8}
    CLIPVisionModel(CLIPVisionConfig(**image)).save_pretrained(root / "clip")
    ViTModel(ViTConfig(**image), add_pooling_layer=False).save_pretrained(root / "vit")
    names = dict(enumerate(read_class_list(FOLDER / "kinetics710.txt")))
    UniFormerV2ForVideoClassification(UniFormerV2Config(**image, id2label=names)).save_pretrained(root / "k710")
    UniFormerV2VideoProcessor(num_frames=8, size=16, crop_size=16).save_pretrained(root / "k710")
    return root


KINDS = {  # recipe to the start and to what the run says of it
    "uniformerv2/k400_b16_f8x224": ("clip", "becomes a UniFormerV2"),
    "uniformerv2/frozen_k400_l14_f8x336": ("clip", "becomes a UniFormerV2"),
    "uniformerv2/ssv2_b16_f16x224": ("clip", "becomes a UniFormerV2"),
    "uniformerv2/k400+k710_l14_f16x224": ("k710", "head_from=k710: the classifier has 2 of the 710 rows"),
    "uniformerv2/mit_b16_f8x224": ("k710", "is replaced by a new one"),
    "vivit/k400_b16x2": ("vit", "becomes a ViViT"),
    "vivit/ssv2_l16x2_fe": ("vit", "becomes a ViViT"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_of_each_kind_trains_two_steps_at_a_tiny_size(name, starts, tmp_path, capsys):
    start, message = KINDS[name]
    sizes = ["image_size=16", f"short_side={16 if name.startswith('uniformerv2') else 20}"] if start != "k710" else []
    run = read(
        name, f"data={starts / 'videos'}", f"model_name_or_path={starts / start}", f"output_dir={tmp_path / 'run'}", *sizes,
        "max_steps=2", "mixed_precision=no", "dataloader_num_workers=0", "save_strategy=no", "eval_strategy=no",
        "load_best_model_at_end=false", "per_device_train_batch_size=2", "gradient_accumulation_steps=1",
    )  # fmt: skip
    trained = train_run(run, evaluates_views=False)
    output, config = capsys.readouterr().out, yaml.safe_load((tmp_path / "run" / "config.json").read_text())
    assert trained.steps == 2 and message in output
    frames = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["clips"]["num_frames"]
    assert config["num_frames"] == frames and f"{frames} frames of 16x16" in output
    if name.startswith("vivit"):
        assert config["factorization"] == ROWS[name]["model"] and "a stride of" in output
    elif start == "clip":
        is_full, is_frozen = "ssv2" in name, "frozen" in name
        assert config["global_layers"] == ([1, 2] if is_full else [0, 1, 2])
        assert (config["num_local_blocks"], config["temporal_downsampling"]) == ((2, True) if is_full else (0, False))
        assert (config["num_frozen_layers"], config["use_gate"]) == ((3, False) if is_frozen else (0, True))
    assert trained.throughput["clips_per_second"] > 0


def test_recipes_are_found_by_name_and_the_nearest_is_named():
    with pytest.raises(FileNotFoundError, match=r"did you mean the recipe 'uniformerv2/k400_b16_f8x224'"):
        read("uniformerv2/k400_b16_f8x22")
    with pytest.raises(
        FileNotFoundError, match=r"recipes are: ablations-cpu, .*, uniformerv2/\.\.\. \(49\), vivit/\.\.\. \(6\)\.$"
    ):
        read("zzz")
