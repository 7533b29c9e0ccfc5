# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The recipes of the published UniFormerV2 and ViViT models, from the tables `recipes/uniformerv2/experiments.csv` (an experiment folder of
the authors' code in each row) and `recipes/vivit/experiments.csv` (a configuration of Scenic in each row).

    make recipes   # python -m tubevit.training.published_recipes

writes `recipes/uniformerv2/*.yaml` and `recipes/vivit/*.yaml`. A test compares the files with the tables. Each value of a file is marked
"reference", the value of the authors' launch script, configuration or code, or "ours".
"""

import csv
from collections.abc import Callable
from pathlib import Path


FOLDER = Path(__file__).parent / "recipes"
GPUS = 8  # of a node
REFERENCE, OURS = "reference", "ours"
Row = dict[str, str]
Line = tuple[str, str, str]  # option with its indentation, value, mark with a comment

DATA_SETS = {  # folder of the authors' experiments to the data set and its number of classes
    "anet": ("ActivityNet 1.3", 200),
    "hacs": ("HACS", 200),
    "k400": ("Kinetics-400", 400),
    "k600": ("Kinetics-600", 600),
    "k700": ("Kinetics-700", 700),
    "k710": ("Kinetics-710", 710),
    "mit": ("Moments in Time", 339),
    "sthv1": ("Something-Something V1", 174),
    "sthv2": ("Something-Something V2", 174),
}
TRUNKS = {  # name in the table to the title and the CLIP model
    "b16": ("UniFormerV2-B/16", "openai/clip-vit-base-patch16"),
    "l14": ("UniFormerV2-L/14", "openai/clip-vit-large-patch14"),
    "l14_336": ("UniFormerV2-L/14@336", "openai/clip-vit-large-patch14-336"),
}
CHECKPOINTED = {"sthv1": 15, "sthv2": 15, "mit": 21, "anet": 1, "hacs": 1}  # of 24 layers, by the authors
HEAD_COMMENTS = {
    "k400": "ours: the rows of Kinetics-400 in its classifier; the authors' file discards it (DELETE_SPECIAL_HEAD)",
    "k600": "reference: the rows of Kinetics-600 in its classifier",
    "k700": "reference: the rows of Kinetics-700 in its classifier",
}


def reference(name: str, value: object, comment: str = "") -> Line:
    """A line of a recipe with a value of the authors."""
    return name, str(value), f"{REFERENCE}: {comment}" if comment else REFERENCE


def ours(name: str, value: object, comment: str = "") -> Line:
    """A line of a recipe with a value of this package."""
    return name, str(value), f"{OURS}: {comment}" if comment else OURS


def render(head: list[str], blocks: dict[str, list[Line]]) -> str:
    """The text of a recipe. head: lines of its comment. blocks: name of a block of options to its lines."""
    text = [f"# {line}".rstrip() for line in head] + [""]
    for block, lines in blocks.items():
        text.append(f"{block}:")
        text += [f"  {name}: {value}  # {mark}" if value else f"  {name}:" for name, value, mark in lines]
    return "\n".join(text) + "\n"


def command(name: str) -> str:
    return f"tubevit train --num_processes {GPUS} --config {name} --data DATA --output_dir runs/{name}"


def score(row: Row, what: str) -> str:
    """The published accuracy, as published."""
    if not row["top1"]:
        return "Published: no accuracy."
    return f"Published: top-1 {row['top1']} with {row['views']} {what}. It is the authors' number; we have not run this recipe."


# UniFormerV2


def uniformerv2_recipe(row: Row) -> tuple[str, str]:
    """Name and text of the recipe of an experiment. row: of `uniformerv2/experiments.csv`."""
    data, name = row["experiment"].split("/")
    data_set, num_classes = DATA_SETS[data]
    title = TRUNKS[row["trunk"]][0] + (", frozen" if name.startswith("frozen") else "")
    source = "CLIP" if row["start"] == "clip" else f"the model of the recipe uniformerv2/{row['start']}"
    batch = int(row["nodes"]) * int(row["batch_per_node"])
    head = [
        f"{title} on {data_set} ({num_classes} classes), {row['frames']} frames of {row['resolution']} pixels, from {source}.",
        command(f"uniformerv2/{name}"),
        "",
        "Made by `make recipes` from experiments.csv: change that table, or training/published_recipes.py.",
        f"Source: values marked reference are those of the authors (OpenGVLab/UniFormerV2, exp/{row['experiment']}: launch script and code); the",
        f"others are ours. The batch of the authors is {batch} clips, {row['nodes']} x {row['batch_per_node']} on nodes of {GPUS} GPUs. With another number of GPUs, keep GPUs x clips x",
        "accumulation. Options that are not listed have their defaults.",
        score(row, "(frames x crops x clips)" + (f": {row['file']}" if row["file"] else "")),
    ]
    return f"uniformerv2/{name}", render(
        [*head, *uniformerv2_notes(data, row)],
        {
            "model": uniformerv2_model(data, row),
            "clips": uniformerv2_clips(row),
            "augmentation": uniformerv2_augmentation(data),
            "training": uniformerv2_training(data, row),
        },
    )


def uniformerv2_notes(data: str, row: Row) -> list[str]:
    """What a reader must know about the start of the training and the data."""
    notes = []
    if row["start"].startswith(("k710", "frozen_k710")):
        notes += [
            f"Start: train the recipe uniformerv2/{row['start']} first, or convert the published file to its folder:",
            f"tubevit convert FILE.pyth runs/uniformerv2/{row['start']} --labels kinetics710",
        ]
    elif row["start"] != "clip":
        notes += [
            f"Start: train the recipe uniformerv2/{row['start']} first, or convert the published file to its folder:",
            f"tubevit convert FILE.pyth runs/uniformerv2/{row['start']} --labels kinetics400",
        ]
    if row["experiment"] == "mit/mit_l14_f8x336":
        notes.append(
            "The authors start from a Kinetics-400 model of 8 frames, which is not published; this one has 32."
        )
    if data == "anet":
        notes.append("The start is assumed to be that of the authors' HACS experiments.")
    if data in ("anet", "hacs"):
        notes.append("Training reads the annotated segments, testing the whole videos, as the authors do.")
    if data == "k710":
        notes.append(
            "Kinetics-710 is the union of the training sets of Kinetics-400, 600 and 700, without the videos of their test sets."
        )
    if data in ("sthv1", "sthv2"):
        notes.append("The authors' frames are BGR; those of a new model here are RGB, in training and in testing.")
    return notes


def uniformerv2_model(data: str, row: Row) -> list[Line]:
    is_full, is_frozen = data in ("sthv1", "sthv2"), row["experiment"].partition("/")[2].startswith("frozen")
    has_drop_path = is_full or data in ("anet", "hacs")
    rates = ("0.2", "0.4") if has_drop_path else ("0.0", "0.0")
    lines, fields = [], []
    if row["start"] == "clip":
        lines += [
            reference("model_name_or_path", TRUNKS[row["trunk"]][1], "the CLIP image encoder"),
            ours("model_family", "uniformerv2"),
        ]
        if is_full:
            fields.append(
                reference(
                    "  design",
                    "full",
                    f"global blocks after layers {row['taps']}, two local blocks in each layer, temporal stride 2",
                )
            )
        else:
            fields.append(
                reference("  design", "global", f"global blocks after layers {row['taps']}, no local blocks")
            )
        if is_frozen:
            fields.append(
                reference("  frozen", "true", "no gate; only the global blocks and the classifier are trained")
            )
    else:
        lines.append(ours("model_name_or_path", f"runs/uniformerv2/{row['start']}", "see above"))
        if data in HEAD_COMMENTS:
            lines.append(("head_from", "k710", HEAD_COMMENTS[data]))
        else:
            lines.append(reference("ignore_mismatched_sizes", "true", "a new classifier for the new classes"))
    lines.append(reference("drop_path_rate", rates[0]))
    fields += [
        reference("  global_drop_path_rate", rates[1]),
        reference("  global_dropout", "0.5"),
        reference("  classifier_dropout", "0.5"),
    ]
    return [*lines, ("model_config", "", ""), *fields]


def uniformerv2_clips(row: Row) -> list[Line]:
    lines = [
        reference("num_frames", row["frames"]),
        reference("sampling", "uniform", "a random frame of each of num_frames segments"),
    ]
    if row["start"] == "clip":  # later models have the size of their checkpoint
        lines.append(reference("image_size", row["resolution"]))
    return lines


def uniformerv2_augmentation(data: str) -> list[Line]:
    is_something = data in ("sthv1", "sthv2")
    return [
        reference("rrc_scale_min", "0.08"),
        reference("rrc_ratio_max", "1.3333"),
        reference("flip", '"off"' if is_something else '"on"'),
        reference("augmentation_repeats", "2" if is_something else "1", "augmented copies of the same frames"),
        reference("rand_augment_layers", "4", "rand-m7-n4-mstd0.5-inc1"),
        reference("rand_augment_magnitude", "7"),
        reference("rand_augment_magnitude_std", "0.5"),
        reference("rand_augment_space", "timm", "ours: bilinear, after the crop; the authors' is bicubic, before it"),
        *(reference(name, "0") for name in ("random_erasing_prob", "mixup_alpha", "cutmix_alpha", "label_smoothing")),
    ]


def uniformerv2_training(data: str, row: Row) -> list[Line]:
    rate, epochs, warmup = float(row["learning_rate"]), int(row["epochs"]), int(row["warmup_epochs"])
    nodes, per_gpu = int(row["nodes"]), int(row["batch_per_node"]) // GPUS
    _, crops, clips = (row["views"] or f"{row['frames']}x3x4").split("x")
    mark = reference if row["views"] else ours
    schedule = [
        reference("lr_scheduler_type", "cosine_warmup_with_min_lr" if warmup else "cosine_with_min_lr"),
        ("lr_scheduler_kwargs", "", ""),
        reference("  min_lr", "1e-6"),
    ]
    if warmup:
        schedule.append(reference("  warmup_lr_rate", f"{1e-6 / rate:.6g}", "the warm-up starts at 1e-6"))
    is_large = row["trunk"] != "b16"
    num_checkpointed = CHECKPOINTED.get(data, 24 if row["trunk"] == "l14_336" and row["start"] != "clip" else 0)
    comment = f"the authors checkpoint {num_checkpointed} of 24 layers" if is_large and num_checkpointed else ""
    return [
        reference("num_train_epochs", epochs),
        reference("warmup_steps", f"{warmup / epochs:.6g}", f"{warmup} of {epochs} epochs"),
        *schedule,
        ours("per_device_train_batch_size", per_gpu, f"on {GPUS} devices {per_gpu * GPUS} clips, the batch of a node"),
        ours("gradient_accumulation_steps", nodes, f"for the authors' {nodes} nodes" if nodes > 1 else ""),
        reference("learning_rate", row["learning_rate"]),
        reference("optim", "adamw_torch"),
        reference("adam_beta1", "0.9"),
        reference("adam_beta2", "0.999"),
        reference("adam_epsilon", "1e-8"),
        reference("weight_decay", "0.05"),
        reference("weight_decay_parameters", "matrices"),
        reference("layer_decay", "1.0"),
        reference("max_grad_norm", "20"),
        ours("mixed_precision", "bf16", "the authors train in fp16"),
        ours("activation_checkpointing", "true" if is_large and num_checkpointed > 1 else "false", comment),
        *([reference("sync_batch_norm", "false", "statistics of each GPU")] if data in ("sthv1", "sthv2") else []),
        ours("chance_loss_patience", "10000"),
        reference("seed", "6666"),
        reference("eval_strategy", "epoch"),
        reference("load_best_model_at_end", "true"),
        ours("save_strategy", "epoch"),
        ours("save_total_limit", "1"),
        mark("num_temporal_views", clips),
        mark("num_spatial_views", crops),
        reference("view_aggregation", "probs"),
        ours("logging_steps", "100"),
        ours("dataloader_num_workers", "12"),
    ]


# ViViT

VIT_MODELS = {"base": "google/vit-base-patch16-224-in21k", "large": "google/vit-large-patch16-224-in21k"}
FACTORIZATIONS = {"spacetime": "Model 1", "encoder": "Model 2, factorized encoder"}


def vivit_recipe(row: Row) -> tuple[str, str]:
    """Name and text of the recipe of a configuration. row: of `vivit/experiments.csv`."""
    name = f"vivit/{row['experiment']}"
    head = [
        f"ViViT-{row['size'][0].upper()}/16x2 ({FACTORIZATIONS[row['model']]}) on {row['data']}, 32 frames of {row['image_size']} pixels, from an image ViT.",
        command(name),
        "",
        "Made by `make recipes` from experiments.csv: change that table, or training/published_recipes.py.",
        "Source: values marked reference are those of the authors (google-research/scenic, projects/vivit/configs/",
        f"{row['config']}) and of the code that it calls; the others are ours. With another number of",
        "GPUs, keep GPUs x clips x accumulation. Options that are not listed have their defaults.",
        score(row, "views (clips x crops)"),
    ]
    if row["data"].startswith(("Something", "EPIC")):
        head.append(
            "The paper starts from a Kinetics model, the configuration from one or from an image model; this recipe from an image model."
        )
    if row["data"].startswith("EPIC"):
        head.append("One classifier has the 300 nouns and the 97 verbs; their losses are averaged.")
    return name, render(
        head,
        {
            "model": vivit_model(row),
            "clips": [
                reference("num_frames", "32"),
                reference("frame_stride", row["frame_stride"]),
                reference("image_size", row["image_size"]),
                reference("short_side", row["short_side"]),
            ],
            "augmentation": vivit_augmentation(row),
            "training": vivit_training(row),
        },
    )


def vivit_model(row: Row) -> list[Line]:
    fields = [reference("  factorization", row["model"])]
    if row["model"] == "encoder":
        fields.append(reference("  temporal_num_hidden_layers", row["temporal_layers"]))
    return [
        reference("model_name_or_path", VIT_MODELS[row["size"]], "trained on ImageNet-21k; ours: these weights"),
        ours("model_family", "factorized_vivit"),
        reference("drop_path_rate", row["stochastic_depth"]),
        ("model_config", "", ""),
        *fields,
        reference("  kernel_init", "central"),
        reference("  position_init", row["position_init"]),
    ]


def vivit_augmentation(row: Row) -> list[Line]:
    lines = [
        reference("scale_jitter_min", "0.9"),
        reference("scale_jitter_max", "1.33"),
        ours("flip", "auto", "off, because class names contain left and right; the authors' reader flips")
        if row["data"].startswith("Something")
        else reference("flip", '"on"'),
    ]
    if row["rand_augment_magnitude"]:
        lines += [
            reference("rand_augment_layers", "2"),
            reference("rand_augment_magnitude", row["rand_augment_magnitude"]),
            ours("rand_augment_space", "torchvision", "the authors' operations and their ranges are TensorFlow's"),
        ]
    else:
        lines += [
            reference(
                "color_jitter",
                "0.4",
                "contrast and saturation; ours: brightness, to which the authors' code adds up to 32",
            ),
            reference("color_jitter_hue", "0.2"),
            reference("color_jitter_prob", "0.8"),
            reference("grayscale_prob", "0.1"),
            reference("rand_augment_layers", "0"),
        ]
    return [*lines, reference("mixup_alpha", row["mixup"]), reference("label_smoothing", row["label_smoothing"])]


def vivit_training(row: Row) -> list[Line]:
    clips, crops = row["views"].split("x")
    return [
        reference("num_train_epochs", row["epochs"]),
        reference("warmup_steps", f"{2.5 / int(row['epochs']):.6g}", f"2.5 of {row['epochs']} epochs"),
        reference("lr_scheduler_type", "cosine", "the cosine of the authors begins with the warm-up"),
        ours("per_device_train_batch_size", "8", f"on {GPUS} devices 64 clips, the authors' batch"),
        ours("gradient_accumulation_steps", "1"),
        reference("learning_rate", row["learning_rate"]),
        reference("optim", "sgd"),
        reference("optim_args", "momentum=0.9"),
        reference("weight_decay", "0"),
        reference("layer_decay", "1.0"),
        reference("max_grad_norm", "1"),
        ours("mixed_precision", "bf16", "the authors train in float32"),
        ours("activation_checkpointing", "true" if row["size"] == "large" else "false"),
        ours("chance_loss_patience", "10000"),
        reference("seed", "0"),
        ours("eval_strategy", "epoch"),
        ours("load_best_model_at_end", "false", "the last checkpoint"),
        ours("save_strategy", "epoch"),
        ours("save_total_limit", "1"),
        reference("num_temporal_views", clips),
        reference("num_spatial_views", crops),
        reference("view_aggregation", "logits"),
        ours("logging_steps", "100"),
        ours("dataloader_num_workers", "12"),
    ]


FAMILIES: dict[str, Callable[[Row], tuple[str, str]]] = {"uniformerv2": uniformerv2_recipe, "vivit": vivit_recipe}


def make_recipes() -> dict[str, str]:
    """Name to text of all recipes of the tables."""
    recipes = {}
    for family, make in FAMILIES.items():
        with open(FOLDER / family / "experiments.csv", newline="", encoding="utf-8") as file:
            recipes |= dict(map(make, csv.DictReader(file)))
    return recipes


def main() -> None:
    """Write the recipes, and remove those that are in no table."""
    recipes = make_recipes()
    for family in FAMILIES:
        for path in (FOLDER / family).glob("*.yaml"):
            if f"{family}/{path.stem}" not in recipes:
                path.unlink()
    for name, text in recipes.items():
        (FOLDER / f"{name}.yaml").write_text(text, encoding="utf-8")
    print(f"Wrote {len(recipes)} recipes to {FOLDER}.")


if __name__ == "__main__":
    main()
