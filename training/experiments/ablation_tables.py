# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The paper's tables at a size that one machine trains: the rows of each table, and the experiments behind them.

Rows of tables 7a to 7e, 8 and 14 are those of `ablation_rows`. The clips have the paper's 32 frames, and every length in frames
is the paper's. At the size "cpu" every length in pixels is halved, of kernels, strides and offsets alike: the paper's tubes on
clips of 128x128, seen at half the resolution. Both sizes then have 176 tokens where 224x224 has 539.

A row changes the model's config, the options of its run and the checkpoint that it starts from, and nothing else. All other
options are those of the recipes `ablations-cpu` and `ablations-gpu`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .settings import IMAGE, VIDEO, Data, Experiment, with_recipe


ROWS_FOLDER = Path(__file__).parent / "ablation_rows"
BLOCKS = {"paper", "model", "evaluation"}
JOINT = (VIDEO, IMAGE)
VIEWS = {"1x1": (1, 1), "4x1": (4, 1), "1x3": (1, 3), "4x3": (4, 3), "10x10": (10, 10)}
FROM_SCRATCH = "Trained on clips alone from random weights."
FRAME_RATE = 16  # of the synthetic clips


@dataclass(frozen=True)
class Ablation:
    """One row of a table of the paper."""

    name: str  # of the file, without its ending
    paper: dict[str, Any]  # "table", "row", "dataset", "metric", "value", and where given "gflops" and "note"
    model: dict[str, Any]  # "preset", and fields of TubeViTConfig
    evaluation: dict[str, Any] = field(default_factory=dict)  # fields of TubeViTConfig that differ at evaluation

    def config(self, for_evaluation: bool = False, **overrides):
        """
        The row's `TubeViTConfig`. `overrides` are fields of it, or another `preset`: the row's own fields win over those of
        the size alone.
        """
        from tubevit.presets import preset_config

        values = {**self.model, **(self.evaluation if for_evaluation else {}), **overrides}
        return preset_config(values.pop("preset"), **values)


def load_ablation(path: str | Path) -> Ablation:
    """The row in a YAML file. Raises a `ValueError` of one line for a file without one."""
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict) or not {"paper", "model"} <= set(values) <= BLOCKS:
        found = ", ".join(map(str, values)) if isinstance(values, dict) else repr(values)
        raise ValueError(f"{path} must have the blocks paper and model, and may have evaluation; it has {found}.")
    return Ablation(path.stem, **values)


def load_table(table: str) -> list[Ablation]:
    """The rows of a table, in the paper's order. Raises `ValueError` for a table without rows."""
    folder = ROWS_FOLDER / f"table_{table}"
    if not folder.is_dir():
        raise ValueError(f"No ablation of table {table!r}; the tables are {', '.join(table_names())}.")
    rows = [load_ablation(path) for path in folder.glob("*.yaml")]
    return sorted(rows, key=lambda row: row.paper["position"])


def table_names() -> list[str]:
    """The tables with rows, such as "7a"."""
    names = (path.name.removeprefix("table_") for path in ROWS_FOLDER.glob("table_*"))
    return sorted(names, key=lambda name: (int("".join(filter(str.isdigit, name))), name))


@dataclass(frozen=True)
class Size:
    """
    recipe: of the runs. divisor: of every length in pixels. encoder: sizes of the model. num_large_layers: of the image ViT that
    is scaled up to video. steps: of training on clips. image_mean, image_std: of the synthetic clips.
    """

    name: str
    divisor: int
    encoder: dict[str, int]
    num_large_layers: int
    data: Data
    steps: int
    image_mean: float = 0.37
    image_std: float = 0.12

    @property
    def recipe(self) -> str:
        return f"ablations-{self.name}"

    @property
    def patch_size(self) -> int:
        return 16 // self.divisor

    def options(self, model_config: dict[str, Any] | None, steps: int | None = None, **changes: Any) -> dict[str, Any]:
        """The options of a run on this size. model_config: `None` for a run from a checkpoint."""
        if model_config is None:
            changes |= {"preset": None, "model_config": None}
        else:
            changes |= {"model_config": model_config}
        return with_recipe(self.recipe, max_steps=steps or self.steps, **changes)


SIZES = {
    "cpu": Size(
        "cpu",
        2,
        {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384},
        8,
        Data(),
        400,
    ),
    "gpu": Size(
        "gpu",
        1,
        {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
        16,
        Data(num_train=10_000, num_validation=2_000, num_images=10_000, image_size=128),
        2_000,
    ),
}


@dataclass(frozen=True)
class RowRun:
    """One training run of a table. rows: those that show its scores, see `records.Label`."""

    name: str
    experiment: Experiment
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """make_runs: from a size and a seed. about: how our version differs from the paper's."""

    title: str
    about: str
    make_runs: Callable[[Size, int], list[RowRun]]


def shrink_tubes(tubes: Sequence[dict[str, Any]], divisor: int) -> list[dict[str, Any]]:
    """
    Tubes with kernels, strides and offsets divided by `divisor` in space.

    >>> shrink_tubes([{"kernel_size": [8, 8, 8], "stride": [16, 32, 32], "space_to_depth": [2, 1, 1]}], 2)
    [{'kernel_size': [8, 4, 4], 'stride': [16, 16, 16], 'space_to_depth': [2, 1, 1]}]

    Raises `ValueError` for a length that is not divisible.
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
    """The `model_config` of a TubeViT of this size. tubes: as in the paper (default: its main configuration)."""
    from tubevit.tubes import MAIN_TUBES

    tubes = MAIN_TUBES if tubes is None else tubes
    model = {**size.encoder, **fields, "tubes": shrink_tubes(tubes, size.divisor)}
    start = {"initializer_range": round(model["hidden_size"] ** -0.5, 4), "kernel_initialization": "fan_in"}
    return {**start, **model}


def _of_ablation(row: Ablation, size: Size) -> dict[str, Any]:
    fields = {name: value for name, value in row.model.items() if name not in ("preset", "tubes")}
    if fields.get("interpolate_kernels"):
        fields["interpolated_kernel_size"] = [8, 8 // size.divisor, 8 // size.divisor]
    return tubevit(size, row.model.get("tubes"), **fields)


def _paper_row(row: Ablation, score: str = VIDEO) -> dict[str, Any]:
    paper = row.paper
    return {"name": row.name, "title": paper["row"], "paper": paper["value"], "score": score}


def _ablation_runs(table: str) -> Callable[[Size, int], list[RowRun]]:
    def make_runs(size: Size, seed: int) -> list[RowRun]:
        return [
            RowRun(
                row.name,
                Experiment(size.options(_of_ablation(row, size)), size.data, seed=seed),
                [_paper_row(row)],
            )
            for row in load_table(table)
        ]

    return make_runs


def _runs_7d(size: Size, seed: int) -> list[RowRun]:
    rows = load_table("7d")
    evaluations = {
        row.name: {"tubes": shrink_tubes((row.evaluation or row.model)["tubes"], size.divisor)} for row in rows
    }
    options = size.options(_of_ablation(rows[0], size))
    experiment = Experiment(options, size.data, seed=seed, evaluations=evaluations)
    return [RowRun("main", experiment, [_paper_row(row, score=row.name) for row in rows])]


def _runs_7f(size: Size, seed: int) -> list[RowRun]:
    side = size.data.image_size
    data = replace(size.data, num_frames=3 * size.data.num_frames // 2, image_size=5 * side // 4)
    evaluations = {
        name: {"num_temporal_views": in_time, "num_spatial_views": in_space}
        for name, (in_time, in_space) in VIEWS.items()
    }
    paper = {"1x1": 82.8, "4x1": 83.3, "1x3": 83.6, "4x3": 84.5, "10x10": 84.7}
    rows = [
        {"name": name, "title": f"{name.replace('x', ' in time x ')} in space", "paper": paper[name], "score": name}
        for name in VIEWS
    ]
    options = size.options(tubevit(size), fps=FRAME_RATE, short_side=data.image_size, rrc_scale_min=0.64)
    return [RowRun("main", Experiment(options, data, seed=seed, evaluations=evaluations), rows)]


def _runs_5(size: Size, seed: int) -> list[RowRun]:
    flat = [{"kernel_size": [1, 16, 16], "stride": [8, 16, 16]}]
    twice = 2 * size.steps

    def run(name: str, rows: list, kinds=(VIDEO,), steps=None, tubes=None, **start: Any) -> RowRun:
        model = None if start else tubevit(size, tubes)
        return RowRun(name, Experiment(size.options(model, steps), size.data, kinds, seed, **start), rows)

    def on_clips(name: str, title: str, paper: float | None) -> dict[str, Any]:
        return {"name": name, "title": title, "paper": paper, "score": VIDEO, "panel": "clips"}

    def on_images(name: str, title: str, paper: float) -> dict[str, Any]:
        return {"name": name, "title": title, "paper": paper, "score": IMAGE, "panel": "images"}

    images = run("image", [on_images("image", "images only", 78.1)], (IMAGE,))
    start = {"initial": {"kind": "continue"}, "init_from": {"weights": images.experiment}}
    joint_rows = [on_clips("joint", "jointly", 91.5), on_images("joint", "jointly", 81.4)]
    return [
        run("video", [on_clips("video", "clips only", 85.6)]),
        run("video_twice", [on_clips("video_twice", "clips only, twice the steps", None)], steps=twice),
        run("sequential", [on_clips("sequential", "images, then clips", 90.4)], **start),
        run("joint", joint_rows, JOINT, twice),
        run("joint_2d", [on_clips("joint_2d", "jointly, 2D patches only", 87.6)], JOINT, twice, flat),
        images,
    ]


def _runs_8(size: Size, seed: int) -> list[RowRun]:
    start = Experiment(size.options(tubevit(size)), size.data, (IMAGE,), seed)
    runs = []
    for row in load_table("8"):
        initial = {"kind": "extra_layers", "num_extra_layers": row.model["num_extra_layers"]}
        experiment = Experiment(size.options(None), size.data, (VIDEO,), seed, initial, {"weights": start})
        runs.append(RowRun(row.name, experiment, [_paper_row(row)]))
    return runs


def scaling_runs(size: Size, seed: int, rows: Sequence[tuple[str, str, float, float, bool]]) -> list[RowRun]:
    """
    Runs of image-to-video scaling: a small TubeViT of half the width, trained jointly, gives its tubes to an image
    ViT.

    rows: name, title, the paper's number, fraction of the layers that is trained, and whether there is a gate.
    """
    half = {name: size.encoder[name] // 2 for name in ("hidden_size", "intermediate_size")}
    small = Experiment(size.options(tubevit(size, **half), 2 * size.steps), size.data, JOINT, seed)
    vit = {
        "kind": "random",
        "name": "vit",
        "media": IMAGE,
        "image_size": size.data.image_size,
        "patch_size": size.patch_size,
        "image_mean": [size.image_mean] * 3,
        "image_std": [size.image_std] * 3,
        **size.encoder,
        "num_hidden_layers": size.num_large_layers,
    }
    patch = {
        "kernel_size": [1, size.patch_size, size.patch_size],
        "stride": [size.data.num_frames] + [size.patch_size] * 2,
    }
    statistics = {name: vit[name] for name in ("image_mean", "image_std")}
    options = size.options(None) | {"model_config": {"tubes": [patch], **statistics}}
    large = Experiment(options, size.data, (IMAGE,), seed, vit)
    runs = []
    for name, title, paper, fraction, gate in rows:
        trained = max(1, round(fraction * size.num_large_layers)) if fraction else 0
        initial = {"kind": "scaled", "num_frozen_layers": size.num_large_layers - trained, "gate": gate}
        start = {"small": small, "large": large}
        experiment = Experiment(size.options(None), size.data, (VIDEO,), seed, initial, start)
        row = {"name": name, "title": title, "paper": paper, "score": VIDEO}
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
    "clips. Frozen layers are the paper's fraction of the depth. "
)

TABLES = {
    "5": Table(
        "Table 5: joint training",
        "Every row trains on the same number of batches of clips, except the row with twice the steps. Rows with images train "
        "on the same number of batches of images in addition. The row with twice the steps is ours: it has the number of steps "
        "of joint training, and more FLOPs, since a clip has more tokens than an image. 2D patches are read from every eighth "
        "frame. The paper's inflated patches are left out. The paper's column is the ImageNet accuracy of TubeViT-B where a row "
        "is scored on images.",
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
        + " One model, from clips half as long again and a quarter larger than its input, with random crops in training.",
        _runs_7f,
    ),
    "8": Table(
        "Table 8: extra attention layers",
        "Each run starts from a model that was trained on images alone, as the paper's ViT was. The added layers have random "
        "weights. Their number is the paper's; our encoder has fewer layers.",
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
