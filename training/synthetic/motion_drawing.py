# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Draws the frames of a scene (`motion_scenes`), all at once: a background of waves, and shapes with antialiased edges."""

import numpy as np

from .motion_scenes import Background, Scene, Sprite
from .signed_distance import REACH, distance_to_edge


MIN_IMAGE_SIZE = 16  # in fewer pixels, the window of the largest shape would meet itself around the torus
WHITENESS, DARKNESS = 0.6, 0.6  # how far the tones bright and dark take colours to white and to black


def draw_frames(scene: Scene, image_size: int) -> np.ndarray:
    """The frames of a scene before a class puts them in order, uint8 `(frames, 3, image_size, image_size)`."""
    canvas = _draw_background(scene.background, scene.shake, image_size)
    pair = scene.pair[::-1] if scene.is_round_in_front else scene.pair
    for sprite in (*scene.distractors, *pair):
        _draw_sprite(canvas, sprite, scene.shake)
    canvas *= 255
    canvas += 0.5
    return canvas.astype(np.uint8)


def _draw_background(background: Background, shake: np.ndarray, size: int) -> np.ndarray:
    """
    float32 `(frames, 3, size, size)` in [0, 1]: a colour plus waves `tint * cos(2 pi (f_y y + f_x x) + phase)`.

    cos(a + b) = cos a cos b - sin a sin b: one matrix product per frame, and no pixel needs a cosine of its own.
    """
    offsets = background.offsets + shake
    color = background.color.astype(np.float32)[:, None, None]
    if not background.tints.any():
        return np.tile(color, (len(offsets), 1, size, size))
    places = (np.arange(size) + 0.5) / size - offsets[..., None]  # (frames, 2, size)
    angles = 2 * np.pi * background.frequencies.T[..., None] * places[:, :, None]  # (frames, 2, waves, size)
    rows, columns = (angles[:, 0] + background.phases[:, None]).astype(np.float32), angles[:, 1].astype(np.float32)
    rows = np.concatenate([np.cos(rows), -np.sin(rows)], axis=1).transpose(0, 2, 1)  # (frames, size, 2 * waves)
    columns = np.concatenate([np.cos(columns), np.sin(columns)], axis=1)
    tints = np.tile(background.tints.T, 2).astype(np.float32)  # (3, 2 * waves)
    canvas = rows[:, None] @ (columns[:, None] * tints[..., None])
    canvas += color
    return np.clip(canvas, 0, 1, out=canvas)


def _draw_sprite(canvas: np.ndarray, sprite: Sprite, shake: np.ndarray) -> None:
    """Draw a shape into each frame of `canvas`, in place, in a window that is large enough for all of them."""
    size = canvas.shape[-1]
    half = int(np.ceil(REACH[sprite.shape] * sprite.radii.max() * size)) + 1
    centers = (sprite.centers + shake) * size
    pixels = np.floor(centers)[..., None] + np.arange(-half, half + 1)  # (frames, 2, window)
    y, x = ((pixels + 0.5 - centers[..., None]) / size).astype(np.float32).transpose(1, 0, 2)
    radii = sprite.radii.astype(np.float32)
    distance = distance_to_edge(sprite.shape, y[:, :, None], x[:, None, :], radii[:, None, None])
    coverage = np.clip(0.5 - distance * np.float32(size), 0, 1)
    frame, row, column = np.nonzero(coverage)  # from here on, covered pixels alone
    coverage = coverage[frame, row, column]
    wave_y, wave_x = (np.float32(wave) / radii[frame] for wave in sprite.stripes[:2])
    stripes = 0.5 + 0.5 * np.sin(wave_y * y[frame, row] + wave_x * x[frame, column] + np.float32(sprite.stripes[2]))
    white = (WHITENESS * (sprite.tones > 0)).astype(np.float32)[frame]
    kept = 1 - white - (DARKNESS * (sprite.tones < 0)).astype(np.float32)[frame]
    rows, columns = pixels.astype(int).transpose(1, 0, 2) % size
    where = ((frame * 3) * size + rows[frame, row]) * size + columns[frame, column]
    flat = canvas.reshape(-1)
    for channel in range(3):
        first, second = (np.float32(color[channel]) for color in sprite.colors)
        color = (second + (first - second) * stripes) * kept + white
        index = where + channel * size * size
        below = flat[index]
        flat[index] = below + coverage * (color - below)
