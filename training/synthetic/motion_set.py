# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Clips whose class is decided by motion alone, and images of the same shapes, generated at the first access and cached in memory.

`motion_scenes` defines the classes, and explains why neither one frame nor all frames without their order show the class.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .motion_scenes import ANGULAR, LEVELS, MIN_FRAMES, MIN_IMAGE_SIZE, ROUND, TASKS, draw_frames, random_scene


SPLITS = ("train", "validation")
UNITS = ("clip", "image")
PAIRS = {f"{first} and {second}": (first, second) for first in ROUND for second in ANGULAR}


class DrawnSet(Dataset):
    """
    Examples drawn by their index, each from its own generator, so that a larger set contains the smaller one.

    Classes alternate: the numbers of examples of two classes differ by at most one.

    class_names: in alphabetical order, as in a data set that is read from class folders.
    labels: class index of each example.
    """

    key: str  # key of the pixels in an example
    unit: str  # "clip" or "image"

    def __init__(self, class_names: Iterable[str], number: int, split: str, image_size: int, seed: int):
        check_choice("split", split, SPLITS)
        check_least(f"num_{self.unit}s", number, 1)
        check_least("image_size", image_size, MIN_IMAGE_SIZE)
        check_least("seed", seed, 0)
        self.class_names = sorted(class_names)
        self.labels = [index % len(self.class_names) for index in range(number)]
        self.split, self.image_size, self.seed = split, image_size, seed
        self._drawn: list[torch.Tensor | None] = [None] * number

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {self.key: self.pixels(index), "labels": self.labels[index]}

    def pixels(self, index: int) -> torch.Tensor:
        """The pixels of an example, uint8, as they are in `self[index]`."""
        if self._drawn[index] is None:
            self._drawn[index] = torch.from_numpy(self.draw(range(len(self))[index]))
        return self._drawn[index]

    def generator(self, index: int) -> np.random.Generator:
        """The generator of an example; those of other splits, seeds and kinds of examples are independent."""
        return np.random.default_rng([self.seed, SPLITS.index(self.split), UNITS.index(self.unit), index])

    def draw(self, index: int) -> np.ndarray:
        """Generate the pixels of an example, uint8."""
        raise NotImplementedError


class MotionSet(DrawnSet):
    """
    Clips, as `{"pixel_values_videos": uint8 (frames, 3, height, width), "labels": int}`.

    task: one of `TASKS`, or "all", whose classes are those of all tasks.
    level: 1, a plain background; 2, a moving texture; 3, also distractors; 4, also a shaking camera.
    split: "train" or "validation"; they have no clip in common.
    num_frames: at least 8. image_size: height and width in pixels, at least 16.

    Raises `ValueError` for an unknown setting.
    """

    key, unit = "pixel_values_videos", "clip"

    def __init__(
        self,
        task: str = "all",
        level: int = 1,
        split: str = "train",
        num_clips: int = 1000,
        num_frames: int = 16,
        image_size: int = 64,
        seed: int = 0,
    ):
        check_choice("task", task, ("all", *TASKS))
        check_choice("level", level, LEVELS)
        check_least("num_frames", num_frames, MIN_FRAMES)
        self.task, self.level, self.num_frames = task, level, num_frames
        names = {name: (own, place) for own in TASKS for place, name in enumerate(TASKS[own]) if task in (own, "all")}
        super().__init__(names, num_clips, split, image_size, seed)
        self._classes = [names[name] for name in self.class_names]  # (task, index among the task's classes)

    def draw(self, index: int) -> np.ndarray:
        task, place = self._classes[self.labels[index]]
        scene = random_scene(task, self.level, self.generator(index), self.num_frames)
        return draw_frames(scene, self.image_size)[scene.orders[place]]


class ShapeImages(DrawnSet):
    """
    Images, as `{"pixel_values": uint8 (3, height, width), "labels": int}`: single frames of such clips.

    The class says which of the two round shapes and which of the three angular ones is there: six pairs, "circle and cross"
    to "ring and triangle". Chance is one in six. Textures, colors, sizes, background and distractors are the clips'.
    """

    key, unit = "pixel_values", "image"

    def __init__(
        self, level: int = 1, split: str = "train", num_images: int = 1000, image_size: int = 64, seed: int = 0
    ):
        check_choice("level", level, LEVELS)
        self.level = level
        super().__init__(PAIRS, num_images, split, image_size, seed)

    def draw(self, index: int) -> np.ndarray:
        pair = PAIRS[self.class_names[self.labels[index]]]
        return draw_frames(random_scene(None, self.level, self.generator(index), 1, pair), self.image_size)[0]


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def check_least(name: str, value: int, least: int) -> None:
    """Raise `ValueError` where a number is too small."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
