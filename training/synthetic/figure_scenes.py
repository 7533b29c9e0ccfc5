# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What is in a clip of people besides what they do: how they look, what is behind them, and what the camera shows of it.

The ranges were chosen, as those of `figure_actions`, by looking at training clips of UT-Interaction, and then made wider:
clothes, ground and light of any brightness, and a contrast that is mostly as low as there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .figure_actions import act
from .figure_people import Person, passing_by


TEXTURE_CELLS = (2, 4, 9, 24)  # per side, of the layers of a backdrop
MAX_EDGES = 2  # straight lines in a backdrop: kerbs, poles
PASSERS_BY = (0.76, 0.12, 0.12)  # how often nobody, one or two people pass by
SHAKING = 0.35  # share of clips with a shaking camera
GREY = 0.45  # brightness that low contrast leaves as it is
GRAINY = 0.5  # share of clips with noise
CUT_OFF = {"punching": 0.6, "pushing": 0.6}  # share of clips in which whoever steps back may leave the picture
HEADROOM = 1.04  # above the ground: what is above the tallest is a margin


@dataclass(frozen=True)
class Look:
    """
    Colours are RGB in [0, 1], `(3,)`. build: width of trunk and limbs, about 1. has_sleeves: down to the wrists.
    """

    shirt: np.ndarray
    trousers: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    build: float
    has_sleeves: bool


class View(NamedTuple):
    """The rectangle that the picture shows, in body heights: the people are squeezed or stretched to fill a square."""

    top: float
    bottom: float
    left: float
    right: float


class Edge(NamedTuple):
    """A straight line through (y, x), in sides of the picture. brightness: what it adds, negative for a dark one."""

    y: float
    x: float
    angle: float
    half_width: float
    brightness: float


@dataclass(frozen=True)
class Backdrop:
    """color: `(3,)`. layers: arrays `(3, cells, cells)`, stretched over the picture and added. edges: on top of them."""

    color: np.ndarray
    layers: tuple[np.ndarray, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class FigureScene:
    """
    Everything that is in a clip but the noise itself.

    people: from the back to the front.
    shake: by how much of the picture's side everything is moved, `(frames, 2)`.
    gain, offset: of the exposure: a colour c becomes gain * c + offset. grain: deviation of the noise.
    """

    people: tuple[tuple[Person, Look], ...]
    view: View
    backdrop: Backdrop
    shake: np.ndarray
    gain: float
    offset: float
    grain: float
    is_mirrored: bool


def random_figure_scene(action: str, rng: np.random.Generator, num_frames: int) -> FigureScene:
    """A scene of an action, one of `ACTIONS`, at the centres of `num_frames` equal parts of the clip."""
    uniform = rng.uniform
    times = (np.arange(num_frames) + 0.5) / num_frames
    actors = act(action, rng, times)
    view = random_view(rng, actors, is_cut_off=uniform() < CUT_OFF.get(action, 0))
    backdrop = random_backdrop(rng)
    gain = uniform(0.35, 1)
    num_passing = rng.choice(len(PASSERS_BY), p=PASSERS_BY)
    people = [passing_by(rng, times, view.left, view.right) for _ in range(num_passing)]
    people += actors if uniform() < 0.5 else actors[::-1]
    return FigureScene(
        people=tuple((person, random_look(rng)) for person in people),
        view=view,
        backdrop=backdrop,
        shake=random_shake(rng, num_frames),
        gain=gain,
        offset=GREY * (1 - gain) + uniform(-0.15, 0.1),
        grain=uniform(0, 0.015) if uniform() < GRAINY else 0.0,
        is_mirrored=bool(uniform() < 0.5),
    )


def random_look(rng: np.random.Generator) -> Look:
    """Clothes of any brightness and little colour, trousers and hair rather dark."""
    uniform = rng.uniform

    def cloth(brightest: float) -> np.ndarray:
        return np.clip(uniform(0, brightest) + rng.normal(0, 0.07, 3), 0, 1)

    skin = np.clip(np.array([0.75, 0.58, 0.47]) * uniform(0.5, 1.25), 0, 1)
    return Look(cloth(1), cloth(0.7), skin, cloth(0.3), build=uniform(0.85, 1.2), has_sleeves=bool(uniform() < 0.5))


def random_view(rng: np.random.Generator, actors: list[Person], is_cut_off: bool) -> View:
    """The ground that the actors' limbs cover in the whole clip, and a margin; if `is_cut_off`, not much to the right."""
    uniform = rng.uniform
    across = np.concatenate([points[..., 1].ravel() for person in actors for points in person.joints()])
    left, right = np.quantile(across, [0.01, 0.99])
    if is_cut_off:
        right = min(right, left + uniform(1.0, 1.5))
    width = max(right - left, 0.35)
    half_a_head = 0.04
    left -= uniform(0.03, 0.14) * width + half_a_head
    right += uniform(0.03, 0.14) * width + half_a_head
    return View(-HEADROOM - uniform(0.02, 0.14), uniform(0.08, 0.24), float(left), float(right))


def random_backdrop(rng: np.random.Generator) -> Backdrop:
    """A colour near to a grey, with blotches of several sizes and a few straight edges."""
    uniform = rng.uniform
    color = uniform(0.15, 0.85) + rng.normal(0, 0.04, 3)
    layers = [
        rng.normal(0, uniform(0, 0.09), (1, cells, cells)) + rng.normal(0, 0.01, (3, cells, cells))
        for cells in TEXTURE_CELLS
    ]
    edges = [
        Edge(uniform(), uniform(), uniform(0, np.pi), uniform(0.008, 0.028), uniform(-0.4, 0.5))
        for _ in range(rng.integers(MAX_EDGES + 1))
    ]
    return Backdrop(color, tuple(layers), tuple(edges))


def random_shake(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """A random walk, `(frames, 2)`, in sides of the picture; mostly none."""
    if rng.uniform() >= SHAKING:
        return np.zeros((num_frames, 2))
    step = rng.uniform(0, 0.0055)  # per frame: of 72 pixels 0.4 at most
    return np.cumsum(rng.normal(0, step, (num_frames, 2)), axis=0)
