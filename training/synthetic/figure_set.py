# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Clips of made people who do what people do in UT-Interaction, to train on beside real clips where those are few.

It is a simulation: two figures of capsules, whose postures, timing, framing and colours were chosen by looking at training
clips of UT-Interaction alone. What a model reaches on these clips says nothing about real ones; and unlike in `motion_set`,
single frames do give something away.
"""

import numpy as np

from .figure_actions import ACTIONS
from .figure_drawing import draw_figures
from .figure_scenes import random_figure_scene
from .motion_set import DrawnSet, check_least


MIN_FRAMES = 8  # fewer would miss many a punch


class FigureSet(DrawnSet):
    """
    Clips, as `{"pixel_values_videos": uint8 (frames, 3, height, width), "labels": int}`; half of them are mirrored.

    The six classes have the names of UT-Interaction's: hand_shaking, hugging, kicking, pointing, punching, pushing.

    split: "train" or "validation"; they have no clip in common.
    num_frames: from 8 on. image_size: pixels of a side, from 16 on.

    Raises `ValueError` for a setting that there is not.
    """

    key, unit = "pixel_values_videos", "clip"

    def __init__(
        self, split: str = "train", num_clips: int = 1000, num_frames: int = 28, image_size: int = 72, seed: int = 0
    ):
        check_least("num_frames", num_frames, MIN_FRAMES)
        self.num_frames = num_frames
        super().__init__(ACTIONS, num_clips, split, image_size, seed)

    def draw(self, index: int) -> np.ndarray:
        rng = self.generator(index)
        scene = random_figure_scene(self.class_names[self.labels[index]], rng, self.num_frames)
        return draw_figures(scene, self.image_size, rng)
