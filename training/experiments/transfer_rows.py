# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The rows of `tubevit experiments transfer`: models that start from one image ViT, or from random weights of the same size, and probes of
the frozen ViT. A row is a YAML file of `transfer_rows`, or of the user.

All rows have the recipe `finetune-transfer`, the same clips, and the training FLOPs of TubeViT's steps in that recipe: a model with more
FLOPs per clip is trained for fewer steps. Rows of joint training (table 5 of the paper) train on images in addition (`clip_frames`). Probes
are trained on features that are computed once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from .initialization import config_at_size, initializer_range
from .run_records import measure_classifier
from .settings import IMAGE, VIDEO, Data, Experiment, Fold, with_recipe


ROWS_FOLDER = Path(__file__).parent / "transfer_rows"
RECIPE = "finetune-transfer"
TUBEVIT = "tubevit"
PROBES = ("ridge", "attentive")
# Uses of images, and the kinds of examples of the run that is scored.
IMAGES = {"only": (IMAGE,), "before": (VIDEO,), "jointly": (VIDEO, IMAGE)}
# Random weights have no layers to freeze, and need the same rate in all layers, see `training_arguments`.
FROM_RANDOM = {"num_frozen_layers": None, "layer_decay": 1.0, "learning_rate": 5e-4}
# Fields of a TubeViT that do not belong to its size and design, or that the run sets.
NOT_IN_CONFIG = {
    *(
        "architectures",
        "auto_map",
        "dtype",
        "id2label",
        "label2id",
        "model_type",
        "transformers_version",
        "num_frames",
    ),
    *("image_size", "kernel_initialization", "initializer_range", "num_frozen_layers", "drop_path_rate"),
}


@dataclass(frozen=True)
class TransferRow:
    """
    One row of the table.

    name: of the file, without its ending. title, position: its text, and its place in the table. panel: heading of its part of the
    table. model: "tubevit", or a design of `families.designs`. weights: those of the image ViT, or random ones. probe: instead of a model
    to train, a classifier of the frozen ViT's features of frames. frames: number of frames of a probe. images: how the row trains on
    frames of the clips (`clip_frames`): "only" on them, "before" the clips, or "jointly" with the clips. step_factor: multiple of the steps
    that have the training FLOPs of the recipe. options: of `tubevit train` that differ from the recipe; mappings are merged.
    """

    name: str
    title: str
    position: int
    panel: str = ""
    model: str = TUBEVIT
    weights: Literal["image_vit", "random"] = "image_vit"
    probe: str | None = None
    frames: int = 8
    images: Literal["only", "before", "jointly"] | None = None
    step_factor: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_base(self) -> bool:
        """Whether it is the recipe as it stands, whose training FLOPs all rows have."""
        return self == TransferRow(self.name, self.title, self.position, self.panel)


BASE = TransferRow(TUBEVIT, "", 0)  # the recipe as it stands


def load_row(path: Path) -> TransferRow:
    """The row in a YAML file. Raises a `ValueError` of one line for a file without one."""
    import yaml

    from ..models.families import designs

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    known = [each.name for each in fields(TransferRow) if each.name != "name"]
    if not isinstance(values, dict) or not {"title", "position"} <= set(values) <= set(known):
        found = ", ".join(map(str, values)) if isinstance(values, dict) else repr(values)
        raise ValueError(f"{path} must have title and position, and may have {', '.join(known[2:])}; it has {found}.")
    row = TransferRow(path.stem, **values)
    for name, value, allowed in (
        ("model", row.model, (TUBEVIT, *designs())),
        ("weights", row.weights, ("image_vit", "random")),
        ("probe", row.probe, (None, *PROBES)),
        ("images", row.images, (None, *IMAGES)),
    ):
        if value not in allowed:
            raise ValueError(
                f"{path}: {name}={value!r}; there are {', '.join(str(each) for each in allowed if each)}."
            )
    if type(row.step_factor) is not int or row.step_factor < 1:
        raise ValueError(f"{path}: step_factor={row.step_factor!r} must be a whole number of at least 1.")
    if row.images and (row.model != TUBEVIT or row.probe):
        raise ValueError(f"{path}: images={row.images} is for the model {TUBEVIT} without a probe.")
    if row.model != TUBEVIT and row.weights == "image_vit":
        from .image_vit import converted

        if row.model not in converted():
            raise ValueError(
                f"{path}: a {row.model} cannot start from an image ViT exactly; those that can are {', '.join(converted())}."
            )
    return row


def find_rows(names: Sequence[str] | None) -> list[TransferRow]:
    """
    The rows of these names or YAML files, in the order of the table; `None` for all rows of the package.

    Raises `ValueError` for an unknown name, and for two rows of one name.
    """
    shipped = {path.stem: path for path in ROWS_FOLDER.glob("*.yaml")}
    paths = []
    for name in shipped if names is None else names:
        path = shipped.get(name, Path(name))
        if not path.is_file():
            order = sorted(shipped, key=lambda each: load_row(shipped[each]).position)
            raise ValueError(f"--rows {name}: there is no such row and no such file; the rows are {', '.join(order)}.")
        paths.append(path)
    rows = sorted(map(load_row, dict.fromkeys(paths)), key=lambda row: (row.position, row.name))
    names = [row.name for row in rows]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--rows names two rows {repeated[0]}: rename one of the files.")
    return rows


@lru_cache
def recipe_options() -> dict[str, Any]:
    return with_recipe(RECIPE)


@dataclass(frozen=True)
class Transfer:
    """
    What the rows have in common.

    model: the image ViT, folder or Hub name. num_labels: classes of the data. epochs: of TubeViT, whose FLOPs are the budget. num_train:
    training clips of a run, from which its steps follow.
    """

    model: str
    num_labels: int
    num_train: int
    epochs: float
    measured: dict[str, float] = field(default_factory=dict, compare=False, repr=False)  # of `training_gflops`

    @property
    def base_steps(self) -> int:
        """Optimizer steps of the recipe as it stands."""
        batch_size = recipe_options()["per_device_train_batch_size"]
        return max(1, round(self.epochs * math.ceil(self.num_train / batch_size)))

    def experiment(self, row: TransferRow, data: Data | Fold, seed: int) -> Experiment:
        """
        The experiment of a row that is trained. data: with frames of the clips, for a row that trains on images (`clip_frames`).

        Raises `ValueError` for a model that cannot train on the images of its row.
        """
        self.check_images(row)
        options = self.options(row)
        options |= {"max_steps": sum(self.steps(row).values()), "num_train_epochs": None, "model_name_or_path": None}
        initial, init_from, kinds = None, {}, IMAGES.get(row.images, (VIDEO,))
        if row.images == "before":
            init_from = {"weights": self.experiment(replace(row, images="only"), data, seed)}
            options |= {"max_steps": self.steps(row)[VIDEO], "model_config": None}
            initial = {"kind": "continue"}
        elif row.model == TUBEVIT and row.weights == "image_vit":
            options["model_name_or_path"] = self.model
        elif row.model == TUBEVIT:
            options |= {"preset": "small", "model_config": self.random_config(row)}
        else:
            kind = {"kind": "random"} if row.weights == "random" else {"kind": "image_vit", "source": self.model}
            initial = {**kind, "name": row.model, **self.sizes(), **self.statistics()}
            initial["resize_mode"] = options.get("resize_mode") or "crop"
            if row.weights == "image_vit":
                initial["num_labels"] = self.num_labels
            own = ("model_config", "num_frames", "image_size", "short_side", "resize_mode", "drop_path_rate")
            options |= dict.fromkeys(own)  # those of the checkpoint; not all families have stochastic depth
        options = {name: each for name, each in options.items() if each is not None}
        return Experiment(options, data, kinds, seed, initial, init_from)

    def check_images(self, row: TransferRow) -> None:
        """Raise `ValueError` for a row that cannot train on images."""
        if row.images is None:
            return
        try:
            self.tubevit_config(row).num_image_tokens()
        except ValueError as error:
            raise ValueError(f"The row {row.name} trains on images: {error}") from error
        start = self.options(row).get("classifier_init")
        if row.images == "jointly" and start is not None:
            raise ValueError(
                f"The row {row.name} trains jointly, which classifier_init={start} does not support: set classifier_init: null."
            )

    def options(self, row: TransferRow) -> dict[str, Any]:
        changes = {**(FROM_RANDOM if row.weights == "random" else {}), **row.options}
        return with_recipe(RECIPE, **changes)

    def steps(self, row: TransferRow) -> dict[str, int]:
        """
        Optimizer steps on clips ("video") and on images ("image"): on clips those with the training FLOPs of the recipe as it stands, times
        the row's factor, and the same number on images.

        Raises `ValueError` where that is less than one step.
        """
        sizes = [self.options(each)["per_device_train_batch_size"] for each in (BASE, row)]
        budget = self.base_steps * sizes[0] * self.training_gflops(BASE)
        steps = round(budget / (sizes[1] * self.training_gflops(row)))
        if steps < 1:
            raise ValueError(
                f"{self.base_steps} steps of TubeViT have fewer FLOPs than one step of {row.title}: raise --epochs."
            )
        steps *= row.step_factor
        return {VIDEO: 0 if row.images == "only" else steps, IMAGE: steps if row.images else 0}

    def training_gflops(self, row: TransferRow, kind: str = VIDEO) -> float:
        """GFLOPs of a training step on one clip (or image), counted once for each row."""
        key = f"{kind} {row.model} {self.options(row)}"
        if key not in self.measured:
            self.measured[key] = measure_classifier(self.config(row), kind)["gflops"] * self.passes(row)
        return self.measured[key]

    def passes(self, row: TransferRow) -> float:
        """Passes of a training step: one in forward direction, and two in backward direction through the layers that are trained."""
        frozen, layers = self.options(row).get("num_frozen_layers") or 0, self.config(row).num_hidden_layers
        return 1 + 2 * (layers - frozen) / layers

    def config(self, row: TransferRow) -> Any:
        """The config of a row's model."""
        if row.model == TUBEVIT:
            return self.tubevit_config(row)
        config = config_at_size(row.model, **self.sizes())
        config.num_labels = self.num_labels
        return config

    def tubevit_config(self, row: TransferRow) -> Any:
        """The config of the TubeViT that the image ViT becomes with a row's options."""
        from tubevit import TubeViTForVideoClassification

        from ..models.loading import quiet_library

        options = self.options(row)
        given = {name: options[name] for name in ("num_frames", "image_size") if name in options}
        settings = {**options.get("model_config", {}), **given, "num_labels": self.num_labels}
        with quiet_library():
            return _convert(TubeViTForVideoClassification, self.model, settings)

    def random_config(self, row: TransferRow) -> dict[str, Any]:
        """The `model_config` of that TubeViT with random weights, which start as those of all experiments do (`initialization`)."""
        config = self.tubevit_config(row).to_dict()
        kept = {name: value for name, value in config.items() if name not in NOT_IN_CONFIG and value is not None}
        from tubevit import TubeViTConfig

        default = TubeViTConfig().to_dict()
        kept = {name: value for name, value in kept.items() if name in default and value != default[name]}
        start = {"initializer_range": initializer_range(config["hidden_size"]), "kernel_initialization": "fan_in"}
        return kept | start

    def sizes(self) -> dict[str, int]:
        """The sizes of the other families' models, as `initialization.config_at_size` takes them."""
        from tubevit.image_families import grid_and_patch

        from ..models.loading import load_config

        config, options = self.tubevit_config(BASE), recipe_options()
        source = load_config(self.model)
        _, (patch_size, _) = grid_and_patch(getattr(source, "vision_config", source))
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        return {
            "num_frames": options["num_frames"],
            "image_size": options["image_size"],
            "patch_size": patch_size,
            **{name: getattr(config, name) for name in names},
        }

    def statistics(self) -> dict[str, list[float]]:
        mean, std = self.tubevit_config(BASE).get_pixel_statistics()
        return {"image_mean": list(mean), "image_std": list(std)}


_CONFIGS: dict[str, Any] = {}


def _convert(model_class: Any, source: str, settings: dict[str, Any]) -> Any:
    """The config of a converted model; the conversion reads all weights, and is done once for each of the settings."""
    key = repr((source, sorted(settings.items(), key=str)))
    if key not in _CONFIGS:
        _CONFIGS[key] = model_class.from_image_checkpoint(source, **settings).config
    return _CONFIGS[key]
