# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The paper's tables at a size that one machine trains: which experiments make up which row.

Rows of tables 7a to 7e, 8 and 14 are those of `ablation_rows`. The clips have the paper's 32 frames, and everything
that counts frames stays as it is. At the size "cpu" everything that counts pixels is halved, kernels, strides and
offsets alike: the paper's tubes on clips of 128x128, seen at half the resolution. Both sizes then have 176 tokens
where 224x224 has 539.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .ablations import Ablation, load_table
from .settings import Data, Experiment, Recipe


JOINT_MIX = {"video": 1.0, "image": 1.0}
VIEWS = {"1x1": (1, 1), "4x1": (4, 1), "1x3": (1, 3), "4x3": (4, 3), "10x10": (10, 10)}
FROM_SCRATCH = "Trained on clips alone from random weights."


@dataclass(frozen=True)
class Size:
    """
    divisor: of everything that counts pixels. encoder: fields of the model. num_large_layers: of the image ViT that is
    scaled up to video. recipe: of training on clips.
    """

    name: str
    divisor: int
    encoder: dict[str, int]
    num_large_layers: int
    data: Data
    recipe: Recipe

    @property
    def patch_size(self) -> int:
        return 16 // self.divisor


SIZES = {
    "cpu": Size(
        "cpu",
        2,
        {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384},
        8,
        Data(),
        Recipe(),
    ),
    "gpu": Size(
        "gpu",
        1,
        {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
        16,
        Data(num_train=10_000, num_validation=2_000, num_images=10_000, image_size=128),
        Recipe(steps=2_000, batch_size=64, learning_rate=1e-3),
    ),
}


@dataclass(frozen=True)
class RowRun:
    """One training run of a table. rows: what its scores are in the table, see `experiments.Label`."""

    name: str
    experiment: Experiment
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """make_runs: of a size and a seed. about: how it was carried over."""

    title: str
    about: str
    make_runs: Callable[[Size, int], list[RowRun]]


def shrink_tubes(tubes: Sequence[dict[str, Any]], divisor: int) -> list[dict[str, Any]]:
    """
    Tubes with kernels, strides and offsets divided by `divisor` in space.

    >>> shrink_tubes([{"kernel_size": [8, 8, 8], "stride": [16, 32, 32], "space_to_depth": [2, 1, 1]}], 2)
    [{'kernel_size': [8, 4, 4], 'stride': [16, 16, 16], 'space_to_depth': [2, 1, 1]}]

    Raises `ValueError` for pixels that cannot be divided.
    """

    def shrink(name: str, values: Sequence[int]) -> list[int]:
        if name == "space_to_depth":
            return list(values)
        frames, *pixels = values
        if any(value % divisor for value in pixels):
            raise ValueError(f"{name} {list(values)} cannot be divided by {divisor} in space.")
        return [frames, *(value // divisor for value in pixels)]

    return [{name: shrink(name, values) for name, values in tube.items()} for tube in tubes]


def tubevit(size: Size, tubes: Sequence[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    """The description of a TubeViT of this size. tubes: as in the paper (default: its main configuration)."""
    from tubevit.tubes import MAIN_TUBES

    tubes = MAIN_TUBES if tubes is None else tubes
    return {"kind": "tubevit", **size.encoder, **fields, "tubes": shrink_tubes(tubes, size.divisor)}


def _of_ablation(row: Ablation, size: Size) -> dict[str, Any]:
    fields = {name: value for name, value in row.model.items() if name not in ("preset", "tubes")}
    if fields.get("interpolate_kernels"):
        fields["interpolated_kernel_size"] = [8, 8 // size.divisor, 8 // size.divisor]
    return tubevit(size, row.model.get("tubes"), **fields)


def _paper_row(row: Ablation, score: str = "video") -> dict[str, Any]:
    paper = row.paper
    return {"name": row.name, "title": paper["row"], "paper": paper["value"], "score": score}


def _ablation_runs(table: str) -> Callable[[Size, int], list[RowRun]]:
    def make_runs(size: Size, seed: int) -> list[RowRun]:
        return [
            RowRun(row.name, Experiment(_of_ablation(row, size), size.data, size.recipe, seed), [_paper_row(row)])
            for row in load_table(table)
        ]

    return make_runs


def _runs_7d(size: Size, seed: int) -> list[RowRun]:
    rows = load_table("7d")
    evaluations = {
        row.name: {"tubes": shrink_tubes((row.evaluation or row.model)["tubes"], size.divisor)} for row in rows
    }
    experiment = Experiment(_of_ablation(rows[0], size), size.data, size.recipe, seed, evaluations=evaluations)
    return [RowRun("main", experiment, [_paper_row(row, score=row.name) for row in rows])]


def _runs_7f(size: Size, seed: int) -> list[RowRun]:
    data = replace(size.data, extra_frames=size.data.num_frames // 2, extra_pixels=size.data.image_size // 4)
    evaluations = {name: {"views": list(views)} for name, views in VIEWS.items()}
    paper = {"1x1": 82.8, "4x1": 83.3, "1x3": 83.6, "4x3": 84.5, "10x10": 84.7}
    rows = [
        {"name": name, "title": f"{name.replace('x', ' in time x ')} in space", "paper": paper[name], "score": name}
        for name in VIEWS
    ]
    return [RowRun("main", Experiment(tubevit(size), data, size.recipe, seed, evaluations=evaluations), rows)]


def _runs_5(size: Size, seed: int) -> list[RowRun]:
    flat = [{"kernel_size": [1, 16, 16], "stride": [8, 16, 16]}]
    clips, twice = size.recipe, replace(size.recipe, steps=2 * size.recipe.steps)
    joint, images = replace(twice, mix=JOINT_MIX), replace(clips, mix={"image": 1.0})
    model = tubevit(size, joint=True)

    def experiment(recipe: Recipe, model: dict[str, Any] = model, **starts: Experiment) -> Experiment:
        return Experiment(model, size.data, recipe, seed, starts)

    def on_clips(name: str, title: str, paper: float | None) -> dict[str, Any]:
        return {"name": name, "title": title, "paper": paper, "score": "video", "panel": "clips"}

    def on_images(name: str, title: str, paper: float) -> dict[str, Any]:
        return {"name": name, "title": title, "paper": paper, "score": "image", "panel": "images"}

    image_run = experiment(images)
    return [
        RowRun("video", experiment(clips), [on_clips("video", "clips only", 85.6)]),
        RowRun("video_twice", experiment(twice), [on_clips("video_twice", "clips only, twice the steps", None)]),
        RowRun(
            "sequential", experiment(clips, weights=image_run), [on_clips("sequential", "images, then clips", 90.4)]
        ),
        RowRun("joint", experiment(joint), [on_clips("joint", "jointly", 91.5), on_images("joint", "jointly", 81.4)]),
        RowRun(
            "joint_2d",
            experiment(joint, tubevit(size, flat, joint=True)),
            [on_clips("joint_2d", "jointly, 2D patches only", 87.6)],
        ),
        RowRun("image", image_run, [on_images("image", "images only", 78.1)]),
    ]


def _runs_8(size: Size, seed: int) -> list[RowRun]:
    images = replace(size.recipe, mix={"image": 1.0})
    start = Experiment(tubevit(size, joint=True), size.data, images, seed)
    runs = []
    for row in load_table("8"):
        model = tubevit(size, joint=True, num_extra_layers=row.model["num_extra_layers"])
        experiment = Experiment(model, size.data, size.recipe, seed, {"weights": start})
        runs.append(RowRun(row.name, experiment, [_paper_row(row)]))
    return runs


def scaling_runs(size: Size, seed: int, rows: Sequence[tuple[str, str, float, float, bool]]) -> list[RowRun]:
    """
    Runs of image-to-video scaling: a small TubeViT of half the width, trained jointly, gives its tubes to an image
    ViT.

    rows: name, title, the paper's number, which share of the layers is trained, and whether there is a gate.
    """
    half = {name: size.encoder[name] // 2 for name in ("hidden_size", "intermediate_size")}
    joint = replace(size.recipe, steps=2 * size.recipe.steps, mix=JOINT_MIX)
    small = Experiment(tubevit(size, joint=True) | half, size.data, joint, seed)
    layers = {"num_hidden_layers": size.num_large_layers}
    large_model = {"kind": "vit", "patch_size": size.patch_size, **size.encoder, **layers}
    large = Experiment(large_model, size.data, replace(size.recipe, mix={"image": 1.0}), seed)
    runs = []
    for name, title, paper, share, gate in rows:
        trained = max(1, round(share * size.num_large_layers)) if share else 0
        model = {"kind": "scaled", "num_frozen_layers": size.num_large_layers - trained, "gate": gate}
        experiment = Experiment(model, size.data, size.recipe, seed, {"small": small, "large": large})
        row = {"name": name, "title": title, "paper": paper, "score": "video"}
        runs.append(RowRun(name, experiment, [row]))
    return runs


SCALING_6 = (
    ("fc", "classifier only", 85.6, 0, False),
    ("last_eighth", "+ last eighth of the layers (4 of 32)", 86.3, 4 / 32, False),
    ("last_quarter", "+ last quarter (8 of 32)", 86.8, 8 / 32, False),
    ("gate", "+ last quarter, with the gate", 89.7, 8 / 32, True),
    ("full", "all layers", 91.8, 1, False),
)
SCALING_9 = (
    ("fc", "classifier only", 79.6, 0, False),
    ("one", "+ 1 layer of 12", 80.8, 1 / 12, True),
    ("four", "+ 4 layers of 12", 81.1, 4 / 12, True),
    ("full", "all layers", 81.4, 1, False),
)
SCALING = (
    "A TubeViT of half the width, trained jointly, gives its tubes to an image ViT of twice the depth that saw images alone; then "
    "clips. Frozen layers are the paper's share of the depth. "
)

TABLES = {
    "5": Table(
        "Table 5: joint training",
        "As many batches of clips in every row but the second, and as many of images again where there are images. The row with "
        "twice the steps is ours: it has the steps of joint training, and more arithmetic, since a clip has more tokens than an "
        "image. 2D patches are taken of every eighth frame; the paper's inflated patches are left out. Images are counted as in "
        "the paper's ImageNet results of TubeViT-B.",
        _runs_5,
    ),
    "6": Table(
        "Table 6: image-to-video scaling",
        SCALING + "The paper: ViT-H on Kinetics-600.",
        lambda size, seed: scaling_runs(size, seed, SCALING_6),
    ),
    "7a": Table("Table 7a: positions", FROM_SCRATCH, _ablation_runs("7a")),
    "7b": Table("Table 7b: number of tubes", FROM_SCRATCH, _ablation_runs("7b")),
    "7c": Table("Table 7c: space-to-depth", FROM_SCRATCH, _ablation_runs("7c")),
    "7d": Table(
        "Table 7d: tokens at evaluation", FROM_SCRATCH + " One model, evaluated with other strides.", _runs_7d
    ),
    "7e": Table("Table 7e: interpolated kernels", FROM_SCRATCH, _ablation_runs("7e")),
    "7f": Table(
        "Table 7f: views",
        FROM_SCRATCH
        + " One model, from clips half as long again and a quarter larger than it sees, cut at random in training.",
        _runs_7f,
    ),
    "8": Table(
        "Table 8: extra attention layers",
        "The start was trained on images alone, as the paper's ViT was; extra layers are random. Their number is the paper's, in an "
        "encoder of fewer layers.",
        _runs_8,
    ),
    "9": Table(
        "Table 9: image-to-video scaling of a small model",
        SCALING
        + "The paper: tiny to base. It does not say whether there was a gate: here there is one where layers are frozen.",
        lambda size, seed: scaling_runs(size, seed, SCALING_9),
    ),
    "14": Table("Table 14: shapes of the tubes", FROM_SCRATCH, _ablation_runs("14")),
}
