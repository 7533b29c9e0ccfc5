# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Scenes whose class is decided by motion alone: two textured shapes, one round and one angular, over a textured background.

A scene is drawn without its class, and its frames are drawn from the scene. The class decides one thing: **the order in
which these frames are shown** (`Scene.orders`). So the frames of a clip, taken without their order, tell nothing about the
class: no histogram, no mean, median, minimum or maximum over time, no learned function of the set of frames.

| task | what the frames hold | the classes |
|---|---|---|
| direction | one shape's places along a row, the other's along a column, paired at random | one place after the other of the row (right; backwards: left) or of the column (down, up); the other shape hops |
| order | each shape flashes, darkens, is as it was, in turn | forwards, backwards |
| approach | both shapes grow; at the largest size they start again at the smallest | forwards, backwards |
| speed | both shapes go once around the torus | every frame, or every third (modulo their number: still each frame once) |
| period | both shapes swing once to and fro | every frame, or every third |
| first | the round shape moves, then the angular one | forwards, backwards |

One frame tells nothing either, wherever in the clip it is, not even the task. Picture, sizes and turns are circles without
an end: shapes leave at one side and return at the opposite one, and each place, size and turn begins at a uniformly random
point of its circle, which motion leaves uniform. In every frame of every task the centers of the two shapes are
independent and uniform, as are the logarithms of their radii, and each is bright, dark or neither, once in three.

So the best guess is right once in as many times as there are classes, of one task or, from one frame, of all: once in 14. The
unordered frames of a clip may tell which task it is of (whether sizes change, for one), and so reach 6 in 14 where all tasks
are mixed, but no more than chance in any of them.

What moves beside the pair must not put the frames in order. Where classes are an order and its reverse, distractors run and
the background drifts, in directions that mean nothing. In the other tasks (`direction`, `speed`, `period`) both jump about
their places.
"""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .moving_shapes import REACH, distance_to_edge


TASKS = {
    "direction": ("moves right", "moves left", "moves down", "moves up"),
    "order": ("flashes before it darkens", "darkens before it flashes"),
    "approach": ("approaches", "recedes"),
    "speed": ("moves slowly", "moves fast"),
    "period": ("swings slowly", "swings fast"),
    "first": ("round moves first", "angular moves first"),
}
ROUND, ANGULAR = ("circle", "ring"), ("cross", "square", "triangle")
DISTRACTOR = "diamond"
TONES = (1, -1, 0)  # bright, dark, neither, in the order of the task `order`
MIN_FRAMES = 8  # with fewer, every third frame looks like the frames backwards
MIN_RADIUS, MAX_RADIUS = 0.1, 0.2
NUM_WAVES, MAX_FREQUENCY = 12, 5  # of the background; in cycles per side of the picture
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Level:
    """
    How difficult a scene is. Lengths are in units of the picture's side.

    has_hues: whether the round shape is red to yellow and the angular one green to blue; otherwise colors mean nothing.
    contrast: of the background's texture; 0 is a plain background.
    num_distractors: further shapes, which mean nothing.
    shake: how far the camera is off at most, anew in each frame.
    """

    has_hues: bool
    contrast: float
    num_distractors: int
    shake: float


LEVELS = {
    1: Level(True, 0.0, 0, 0.0),
    2: Level(True, 0.6, 0, 0.0),
    3: Level(False, 0.8, 2, 0.0),
    4: Level(False, 1.0, 3, 0.03),
}
HUES = ((-0.05, 0.15), (0.4, 0.65))  # of the round and of the angular shape, at levels where they have their own


@dataclass(frozen=True)
class Sprite:
    """
    A shape in each of a scene's frames. Lengths are in units of the picture's side, colors are RGB in [0, 1].

    colors: the two that its stripes blend between. stripes: their wave vector (y, x) in radians per radius, and phase.
    centers: `(frames, 2)`, as (y, x); the picture is a torus. radii: `(frames,)`, of the circle with the shape's area.
    tones: `(frames,)`, one of `TONES` each.
    """

    shape: str
    colors: tuple[Rgb, Rgb]
    stripes: tuple[float, float, float]
    centers: np.ndarray
    radii: np.ndarray
    tones: np.ndarray


@dataclass(frozen=True)
class Background:
    """
    A periodic texture: a color, and waves that each add their multiple of a tint to it.

    color: `(3,)`. tints: `(waves, 3)`. frequencies: integers `(waves, 2)`, cycles per side as (y, x). phases: `(waves,)`.
    offsets: `(frames, 2)`, how far it is moved.
    """

    color: np.ndarray
    tints: np.ndarray
    frequencies: np.ndarray
    phases: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class Scene:
    """
    Everything that is in a clip but its class.

    pair: the round and the angular shape. distractors: other shapes, behind them. is_round_in_front: of the pair.
    shake: `(frames, 2)`, by which everything is moved.
    orders: of each class of the task, in the order of `TASKS`, the frames to show, `(frames,)`.
    """

    pair: tuple[Sprite, Sprite]
    is_round_in_front: bool
    distractors: tuple[Sprite, ...]
    background: Background
    shake: np.ndarray
    orders: tuple[np.ndarray, ...]


@dataclass
class PairMotion:
    """The motion of the two shapes: centers `(2, frames, 2)`, radii and tones `(2, frames)`; and `Scene.orders`."""

    centers: np.ndarray
    radii: np.ndarray
    tones: np.ndarray
    orders: tuple[np.ndarray, ...]


def random_scene(
    task: str | None,
    level: int,
    rng: np.random.Generator,
    num_frames: int = 16,
    shapes: tuple[str, str] | None = None,
) -> Scene:
    """
    A scene of a task, one of `TASKS`; `None` for one in which the pair stands still.

    shapes: one of `ROUND` and one of `ANGULAR`, at random by default.

    What a level adds is drawn last: with equal generators, two levels show the same pair doing the same.
    """
    motion = still_pair(rng, num_frames)
    if task is not None:
        motion = MOTIONS[task](motion, rng)
    random_shapes = str(rng.choice(ROUND)), str(rng.choice(ANGULAR))
    setting = LEVELS[level]
    looks = [random_look(rng, hues if setting.has_hues else (0, 1)) for hues in HUES]
    pair = tuple(
        Sprite(shape, *look, motion.centers[i], motion.radii[i], motion.tones[i])
        for i, (shape, look) in enumerate(zip(shapes or random_shapes, looks, strict=True))
    )
    is_round_in_front = bool(rng.uniform() < 0.5)
    has_clock = task not in UNORDERED_TASKS
    background = random_background(rng, setting.contrast, num_frames, has_clock)
    distractors = tuple(random_distractor(rng, num_frames, has_clock) for _ in range(setting.num_distractors))
    shake = setting.shake * rng.uniform(-1, 1, (num_frames, 2))
    return Scene(pair, is_round_in_front, distractors, background, shake, motion.orders)


def still_pair(rng: np.random.Generator, num_frames: int) -> PairMotion:
    """Two shapes that stay as they are, of independent places, sizes and tones."""
    centers = np.repeat(rng.uniform(size=(2, 1, 2)), num_frames, axis=1)
    radii = np.repeat(radius_at(rng.uniform(size=(2, 1))), num_frames, axis=1)
    tones = np.repeat(rng.choice(TONES, (2, 1)), num_frames, axis=1)
    return PairMotion(centers, radii, tones, (np.arange(num_frames),))


def radius_at(turn: np.ndarray) -> np.ndarray:
    """Radius at a point of the circle of sizes, of which one turn leads from the smallest to the largest."""
    return MIN_RADIUS * (MAX_RADIUS / MIN_RADIUS) ** (turn % 1.0)


def _direction(motion: PairMotion, rng: np.random.Generator) -> PairMotion:
    num_frames = len(motion.orders[0])
    along_column = rng.permutation(num_frames)
    on_row = rng.integers(2)  # which shape moves along the row
    motion.centers[on_row, :, 1] += np.arange(num_frames) / num_frames
    motion.centers[1 - on_row, :, 0] += along_column / num_frames
    right, down = np.arange(num_frames), np.argsort(along_column)
    motion.orders = (right, right[::-1], down, down[::-1])
    return motion


def _order(motion: PairMotion, rng: np.random.Generator) -> PairMotion:
    for i in range(2):
        thirds = np.floor(3 * (_turns(motion, rng, 1, 2) % 1.0)).astype(int)
        motion.tones[i] = np.array(TONES)[thirds]
    return _forwards_and_backwards(motion)


def _approach(motion: PairMotion, rng: np.random.Generator) -> PairMotion:
    motion.radii[:] = [radius_at(_turns(motion, rng, 1, 1.5)) for _ in range(2)]
    return _forwards_and_backwards(motion)


def _first(motion: PairMotion, rng: np.random.Generator) -> PairMotion:
    num_frames = len(motion.orders[0])
    change = num_frames * rng.uniform(0.4, 0.6)  # when the second shape takes over
    times = np.arange(num_frames)
    for i, fraction in enumerate((times / change, (times - change) / (num_frames - change))):
        motion.centers[i] += np.clip(fraction, 0, 1)[:, None] * _random_vector(rng, 0.3, 0.6)
    return _forwards_and_backwards(motion)


def _speed(motion: PairMotion, rng: np.random.Generator) -> PairMotion:
    num_frames = len(motion.orders[0])
    for i in range(2):
        # Whole laps, so that the last frame is followed by the first.
        laps = rng.choice([(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)])
        motion.centers[i] += np.arange(num_frames)[:, None] / num_frames * laps
    return _all_and_every_third(motion)


def _period(motion: PairMotion, rng: np.random.Generator) -> PairMotion:
    num_frames = len(motion.orders[0])
    for i in range(2):
        angles = 2 * np.pi * (np.arange(num_frames) / num_frames + rng.uniform())
        motion.centers[i] += np.sin(angles)[:, None] * _random_vector(rng, 0.12, 0.2)
    return _all_and_every_third(motion)


MOTIONS: dict[str, Callable[[PairMotion, np.random.Generator], PairMotion]] = {
    "direction": _direction,
    "order": _order,
    "approach": _approach,
    "speed": _speed,
    "period": _period,
    "first": _first,
}
UNORDERED_TASKS = ("direction", "speed", "period")  # whose classes are more than an order and its reverse


def frame_step(num_frames: int) -> int:
    """
    Every how many frames the fast classes show: the least number from 3 on that has no factor in common with `num_frames`,
    so that stepping around the circle of frames shows each of them once.

    >>> frame_step(16), frame_step(24)
    (3, 5)
    """
    return next(step for step in range(3, num_frames) if math.gcd(step, num_frames) == 1)


def random_look(
    rng: np.random.Generator, hues: tuple[float, float] = (0, 1)
) -> tuple[tuple[Rgb, Rgb], tuple[float, float, float]]:
    """Colors of a shape between two `hues`, and its stripes: `Sprite.colors` and `Sprite.stripes`."""
    hue = rng.uniform(*hues)
    colors = tuple(
        colorsys.hsv_to_rgb((hue + rng.uniform(-0.05, 0.05)) % 1.0, rng.uniform(0.6, 1.0), value)
        for value in (0.9, 0.6)
    )
    return colors, (*_random_vector(rng, 3, 6).tolist(), rng.uniform(0, 2 * np.pi))


def random_background(rng: np.random.Generator, contrast: float, num_frames: int, drifts: bool) -> Background:
    """A background that drifts steadily, or else jumps a little."""
    color = np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.1, 0.4), 0.4))
    # Half of the waves change the brightness, the others the hue.
    half = np.full(3, 0.08), rng.uniform(-0.12, 0.12, 3)
    tints = contrast * np.repeat(half, NUM_WAVES // 2, axis=0) * (4 / NUM_WAVES) ** 0.5
    frequencies = rng.integers(-MAX_FREQUENCY, MAX_FREQUENCY + 1, (NUM_WAVES, 2))
    phases = rng.uniform(0, 2 * np.pi, NUM_WAVES)
    offsets = _steps(rng, num_frames, drifts, speed=(0.1, 0.4), jump=0.03)
    return Background(color, tints, frequencies, phases, offsets)


def random_distractor(rng: np.random.Generator, num_frames: int, runs: bool) -> Sprite:
    """A shape that runs straight on, or else jumps about its place."""
    colors, stripes = random_look(rng)
    centers = rng.uniform(size=2) + _steps(rng, num_frames, runs, speed=(0.3, 0.8), jump=0.08)
    radii = np.repeat(rng.uniform(0.07, 0.12), num_frames)
    return Sprite(DISTRACTOR, colors, stripes, centers, radii, np.zeros(num_frames, int))


def _steps(rng, num_frames: int, is_steady: bool, speed: tuple[float, float], jump: float) -> np.ndarray:
    """Way covered until each frame, `(frames, 2)`: with a steady `speed` per clip, or else at random up to `jump`."""
    steady = np.arange(num_frames)[:, None] / num_frames * _random_vector(rng, *speed)
    jumping = rng.uniform(-jump, jump, (num_frames, 2))
    return steady if is_steady else jumping


def _turns(motion: PairMotion, rng: np.random.Generator, least: float, most: float) -> np.ndarray:
    """Cumulative turns at each frame, `(frames,)`: `least` to `most` per clip, from a random point of the circle on."""
    num_frames = len(motion.orders[0])
    return rng.uniform() + np.arange(num_frames) * rng.uniform(least, most) / num_frames


def _forwards_and_backwards(motion: PairMotion) -> PairMotion:
    forwards = motion.orders[0]
    motion.orders = (forwards, forwards[::-1])
    return motion


def _all_and_every_third(motion: PairMotion) -> PairMotion:
    frames = motion.orders[0]
    motion.orders = (frames, frames * frame_step(len(frames)) % len(frames))
    return motion


def _random_vector(rng: np.random.Generator, least: float, most: float) -> np.ndarray:
    """A vector (y, x) of uniform direction, of a length from `least` to `most`."""
    angle = rng.uniform(0, 2 * np.pi)
    return rng.uniform(least, most) * np.array([math.sin(angle), math.cos(angle)])


MIN_IMAGE_SIZE = 16  # in fewer pixels, the window of the largest shape would meet itself around the torus


WHITENESS, DARKNESS = 0.6, 0.6  # how far the tones bright and dark take colors to white and to black


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
    float32 `(frames, 3, size, size)` in [0, 1]: a color plus waves `tint * cos(2 pi (f_y y + f_x x) + phase)`.

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
