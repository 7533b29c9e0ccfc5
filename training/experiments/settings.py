# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
An experiment: options of `tubevit train`, a data set and a seed. Together they decide every number of its record.

Experiments are data: a record holds the settings that made it, and a run whose record exists is not run again.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..options import load_config_file
from ..trainer.run_config import RECIPES, all_blocks
from .folds import FOLDS, Fold
from .records import digest


MOTION = "motion"  # the synthetic motion set; any other source is a folder or an annotation file
VIDEO, IMAGE = "video", "image"
RUNS, INITIAL, SYNTHETIC, FRAMES = "runs", "initial", "synthetic", "frames"  # folders beside the records
WORKING_FOLDERS = (RUNS, INITIAL, SYNTHETIC, FOLDS, FRAMES, "starts")  # "starts": of records made before November 2026


@dataclass(frozen=True)
class Data:
    """
    The clips of an experiment, and the images of joint training.

    source: "motion" for the synthetic motion set, otherwise the option `data` of `tubevit train`.
    validation: annotation file or class folders of the validation clips, if `source` holds the training clips alone.
    task, level, num_train, num_validation, num_images, num_frames, image_size, seed: of the synthetic set, as
        `tubevit data synthesize` takes them; `num_frames` and `image_size` are those of the files.
    """

    source: str = MOTION
    validation: str | None = None
    task: str = "all"
    level: int = 1
    num_train: int = 2000
    num_validation: int = 500
    num_images: int = 2000
    num_frames: int = 32
    image_size: int = 64
    seed: int = 0

    @classmethod
    def of_files(cls, source: str, validation: str | None, num_frames: int, image_size: int) -> "Data":
        """Clips from files, for models of clips of this size."""
        unused = {"task": "", "level": 0, "num_train": 0, "num_validation": 0, "num_images": 0}
        return cls(source=source, validation=validation, num_frames=num_frames, image_size=image_size, **unused)

    @property
    def suffix(self) -> str:
        """Part of the file name of a record."""
        return ""

    def options(self, kind: str, folder: Path) -> dict[str, Any]:
        """The options of `tubevit train` that name the data; synthetic files are in `folder`, see `write`."""
        if self.source == MOTION:
            return {"data": str(self.synthetic_folder(kind, folder))}
        if self.validation is None:
            return {"data": self.source}
        return {"train_data": self.source, "validation_data": self.validation}

    def synthetic_folder(self, kind: str, folder: Path) -> Path:
        return folder / SYNTHETIC / f"{kind}-{digest(asdict(self))}"

    def write(self, kind: str, folder: Path) -> None:
        """
        Write the files of the synthetic clips or images, unless they exist.

        Raises `ValueError` for a source that has no images.
        """
        from ..synthetic.files import write_motion_set

        if self.source != MOTION:
            if kind == IMAGE:
                raise ValueError(
                    f"{self.source} has no images beside its clips; `clip_frames.with_frames` adds frames of them."
                )
            return
        is_image = kind == IMAGE
        write_motion_set(
            self.synthetic_folder(kind, folder),
            self.task,
            self.level,
            num_train=self.num_images if is_image else self.num_train,
            num_validation=self.num_validation,
            num_frames=self.num_frames,
            image_size=self.image_size,
            seed=self.seed,
            images=is_image,
        )


@dataclass(frozen=True)
class Experiment:
    """
    options: of `tubevit train` by their names, see `with_recipe`; without data, seed and folder.
    data: the clips, or one fold of them.
    kinds: "video", "image", or both for joint training.
    initial: how the checkpoint that training starts from is made: its "kind", one of `initialization.BUILDERS`, and the arguments
        of that kind. `None` for random weights of the `preset` among the options.
    init_from: experiments whose trained models `initial` uses, by the role that they have in it.
    evaluations: additional evaluations of the clips by name: "tubes", which replace the model's, or options of `tubevit eval`, such as
        "token_budget".
    """

    options: dict[str, Any]
    data: Data | Fold
    kinds: tuple[str, ...] = (VIDEO,)
    seed: int = 0
    initial: dict[str, Any] | None = None
    init_from: dict[str, "Experiment"] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def key(self) -> str:
        """Identifies the trained weights, which the additional evaluations do not change."""
        return digest(replace(self, evaluations={}).settings())

    def run_folder(self, folder: Path) -> Path:
        """The folder of the run of `tubevit train`."""
        return folder / RUNS / self.key

    def classifier_folder(self, kind: str, folder: Path) -> Path:
        """The folder of the classifier of clips or images: a joint run has one for each data set."""
        run = self.run_folder(folder)
        return run / kind if len(self.kinds) > 1 else run

    def prerequisites(self) -> list["Experiment"]:
        """The experiments that have to be trained before this one, each behind its own prerequisites."""
        ordered: dict[str, Experiment] = {}
        for start in self.init_from.values():
            ordered |= {each.key: each for each in [*start.prerequisites(), start]}
        return list(ordered.values())


def with_recipe(recipe: str, **options: Any) -> dict[str, Any]:
    """
    The options of a recipe, replaced by `options`; mappings such as `model_config` are merged, and `None` removes an option.
    """
    merged = dict(load_config_file(recipe, all_blocks(), RECIPES))
    for name, value in options.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            value = merged[name] | value
        merged[name] = value
    return {name: value for name, value in merged.items() if value is not None}
