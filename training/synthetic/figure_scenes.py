# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Clips of simulated people with the actions of UT-Interaction, for training beside few real clips: looks, background, camera, and
the drawing of people as capsules.

The ranges follow the training clips of UT-Interaction, as in `figures`, and are wider: clothes, ground and light of any brightness,
and a contrast that is mostly as low as in those clips. A model's accuracy on these clips says nothing about real ones; unlike in
`motion_set`, single frames show the class in part.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .figures import ACTIONS, FAR, NEAR, Person, act, passing_by
from .motion_set import DrawnSet, check_least


TEXTURE_CELLS = (2, 4, 9, 24)  # per side, of the layers of a backdrop
MAX_EDGES = 2  # straight lines in a backdrop: kerbs, poles
PASSERS_BY = (0.76, 0.12, 0.12)  # how often nobody, one or two people pass by
SHAKING = 0.35  # fraction of clips with a shaking camera
GRAY = 0.45  # brightness that low contrast leaves as it is
GRAINY = 0.5  # fraction of clips with noise
CUT_OFF = {"punching": 0.6, "pushing": 0.6}  # fraction of clips in which the person who steps back may leave the frame
HEADROOM = 1.04  # height of the view relative to the tallest person: the rest is a margin


@dataclass(frozen=True)
class Look:
    """
    Colors are RGB in [0, 1], `(3,)`. build: width of trunk and limbs, about 1. has_sleeves: down to the wrists.
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
    gain, offset: of the exposure: a color c becomes gain * c + offset. grain: deviation of the noise.
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
    """A scene of an action, one of `ACTIONS`, at the centers of `num_frames` equal parts of the clip."""
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
        offset=GRAY * (1 - gain) + uniform(-0.15, 0.1),
        grain=uniform(0, 0.015) if uniform() < GRAINY else 0.0,
        is_mirrored=bool(uniform() < 0.5),
    )


def random_look(rng: np.random.Generator) -> Look:
    """Clothes of any brightness and little color, trousers and hair rather dark."""
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
    """A color near gray, with blotches of several sizes and a few straight edges."""
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


# Radii of limbs of a person of height 1.
THIGH_RADIUS, SHIN_RADIUS, FOOT_RADIUS, TRUNK_RADIUS = 0.042, 0.034, 0.022, 0.07


UPPER_ARM_RADIUS, FOREARM_RADIUS, NECK_RADIUS, HEAD_RADIUS = 0.03, 0.024, 0.03, 0.055


HIP_RISE, SHOULDER_DROP = 0.02, 0.03  # where the trunk's capsule begins and ends, off the joints


FACE = (0.02, 0.012)  # from the center of the head to the chin, down and forwards


HAIR = ((-0.02, -0.012), (-0.01, -0.02))  # ends of its capsule: upwards and backwards


SHADE, SHOES = 0.85, 0.4  # brightness factor of the far side of a body, and of shoes relative to trousers


@dataclass(frozen=True)
class Capsule:
    """start, end: points (y, x) `(frames, 2)`, in body heights as `radius`. color: RGB in [0, 1], `(3,)`."""

    start: np.ndarray
    end: np.ndarray
    radius: float
    color: np.ndarray


class Grid:
    """
    The centers of pixels, in body heights.

    shift: by how many pixels the picture is moved in each frame, integers `(frames, 2)`.
    """

    def __init__(self, view: View, size: int, shift: np.ndarray):
        self.size, self.shift = size, shift
        self.corner = np.array([view.top, view.left])
        self.pixel = np.array([view.bottom - view.top, view.right - view.left]) / size  # height and width
        # Over so much an edge fades out.
        self.blur = float(self.pixel.mean())

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Rows and columns, integers `(frames, height)` and `(frames, width)`, that hold the boxes from `low` to `high`, both
        `(frames, 2)`: as many in every frame, and always inside the picture, where the boxes need not be.
        """
        first = np.floor((low - self.corner) / self.pixel).astype(int) + self.shift
        extent = np.minimum(np.ceil(((high - low) / self.pixel).max(0)).astype(int) + 1, self.size)
        first = np.clip(first, 0, self.size - extent)
        return tuple(first[:, axis, None] + np.arange(extent[axis]) for axis in range(2))

    def centers(self, indices: np.ndarray, axis: int) -> np.ndarray:
        """y of rows (`axis` 0) or x of columns (1), `(frames, n)` as `indices`, float32."""
        places = (indices - self.shift[:, axis, None] + 0.5) * self.pixel[axis] + self.corner[axis]
        return places.astype(np.float32)


def draw_figures(scene: FigureScene, image_size: int, rng: np.random.Generator) -> np.ndarray:
    """The frames of a scene, uint8 `(frames, 3, image_size, image_size)`. rng: for the noise."""
    shift = np.rint(scene.shake * image_size).astype(int)
    grid = Grid(scene.view, image_size, shift)
    canvas = draw_backdrop(scene.backdrop, image_size, shift)
    for person, look in scene.people:
        for capsule in body(person, look):
            draw_capsule(canvas, capsule, grid)
    canvas *= 255 * scene.gain
    canvas += 255 * scene.offset + 0.5  # so that pixels are rounded
    if scene.grain:
        noise = rng.random(canvas.shape, np.float32)  # uniform, of deviation 1 / sqrt(12)
        noise -= 0.5
        noise *= 255 * scene.grain * 12**0.5
        canvas += noise
    pixels = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)
    if scene.is_mirrored:
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 1))


def body(person: Person, look: Look) -> list[Capsule]:
    """The limbs of a person, from the back to the front."""
    joints, height = person.joints(), person.height

    def beside(point: np.ndarray, down: float, forwards: float) -> np.ndarray:
        return point + np.array([down, forwards * person.facing]) * height

    def limb(start: np.ndarray, end: np.ndarray, radius: float, color: np.ndarray) -> Capsule:
        return Capsule(start, end, radius * height, color)

    def leg(side: int, shade: float = 1.0) -> list[Capsule]:
        knee, ankle, cloth = joints.knees[side], joints.ankles[side], look.trousers * shade
        return [
            limb(joints.hip, knee, THIGH_RADIUS * look.build, cloth),
            limb(knee, ankle, SHIN_RADIUS * look.build, cloth),
            limb(ankle, joints.toes[side], FOOT_RADIUS, cloth * SHOES),
        ]

    def arm(side: int, shade: float = 1.0) -> list[Capsule]:
        elbow, forearm = joints.elbows[side], look.shirt if look.has_sleeves else look.skin
        return [
            limb(joints.shoulder, elbow, UPPER_ARM_RADIUS * look.build, look.shirt * shade),
            limb(elbow, joints.hands[side], FOREARM_RADIUS * look.build, forearm * shade),
        ]

    trunk = limb(
        beside(joints.hip, -HIP_RISE, 0),
        beside(joints.shoulder, SHOULDER_DROP, 0),
        TRUNK_RADIUS * look.build,
        look.shirt,
    )
    neck = limb(joints.neck, joints.head, NECK_RADIUS, look.skin)
    face = limb(joints.head, beside(joints.head, *FACE), HEAD_RADIUS, look.skin)
    hair = limb(*(beside(joints.head, *place) for place in HAIR), HEAD_RADIUS, look.hair)
    return [*leg(FAR, SHADE), *arm(FAR, SHADE), *leg(NEAR), trunk, neck, face, hair, *arm(NEAR)]


def draw_capsule(canvas: np.ndarray, capsule: Capsule, grid: Grid) -> None:
    """
    Draw a capsule into each frame of `canvas`, float32 `(frames, size, size, 3)`, in place.

    A pixel whose center is d from the edge, inwards, is covered by 1/2 + d / (a pixel's mean side), from 0 to 1.
    """
    start, end = capsule.start, capsule.end
    reach = capsule.radius + grid.blur / 2
    rows, columns = grid.window(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
    y, x = grid.centers(rows, 0)[:, :, None], grid.centers(columns, 1)[:, None, :]
    start_y, start_x = start.astype(np.float32).T[..., None, None]
    along_y, along_x = (end - start).astype(np.float32).T[..., None, None]
    y, x = y - start_y, x - start_x
    length_squared = along_y * along_y + along_x * along_x + np.float32(1e-12)
    # Where on the line from start (0) to end (1) a pixel's nearest point is: (frames, height, width).
    nearest = y * (along_y / length_squared) + x * (along_x / length_squared)
    np.clip(nearest, 0, 1, out=nearest)
    off_y, off_x = y - nearest * along_y, x - nearest * along_x
    off_y *= off_y
    off_x *= off_x
    coverage = np.sqrt(np.add(off_y, off_x, out=off_y), out=off_y)
    coverage *= np.float32(-1 / grid.blur)
    coverage += np.float32(0.5 + capsule.radius / grid.blur)
    covered = np.flatnonzero(coverage > 0)
    coverage = np.minimum(coverage.reshape(-1)[covered], 1)[:, None]
    frames = np.arange(len(canvas))[:, None]
    places = ((frames * grid.size + rows) * grid.size)[:, :, None] + columns[:, None, :]
    places = places.reshape(-1)[covered]
    assert canvas.flags.c_contiguous  # or `reshape` would copy
    flat = canvas.reshape(-1, 3)
    below = flat[places]
    flat[places] = below + coverage * (capsule.color.astype(np.float32) - below)


def draw_backdrop(backdrop: Backdrop, size: int, shift: np.ndarray) -> np.ndarray:
    """A backdrop, moved by `shift` pixels `(frames, 2)`: float32 `(frames, size, size, 3)`, about [0, 1]."""
    margin = int(np.abs(shift).max())
    places = ((np.arange(-margin, size + margin) + 0.5) / size).astype(np.float32)
    picture = np.tile(backdrop.color.astype(np.float32)[:, None, None], (1, len(places), len(places)))
    for layer in backdrop.layers:
        weights = _linear_weights(layer.shape[-1], places)
        picture += weights @ layer.astype(np.float32) @ weights.T
    for edge in backdrop.edges:
        y, x = places[:, None] - np.float32(edge.y), places[None, :] - np.float32(edge.x)
        distance = np.abs(x * np.float32(np.cos(edge.angle)) + y * np.float32(np.sin(edge.angle)))
        picture += np.float32(edge.brightness) * np.clip((np.float32(edge.half_width) - distance) * size + 0.5, 0, 1)
    picture = np.ascontiguousarray(np.moveaxis(picture, 0, -1))
    tops = margin - shift
    return np.stack([picture[top : top + size, left : left + size] for top, left in tops])


def _linear_weights(cells: int, places: np.ndarray) -> np.ndarray:
    """`(places, cells)`: how to interpolate between cells that lie evenly from 0 to 1; beyond, the outermost goes on."""
    distance = np.clip(places, 0, 1)[:, None] * (cells - 1) - np.arange(cells, dtype=np.float32)
    return np.maximum(0, 1 - np.abs(distance)).astype(np.float32)


MIN_FRAMES = 8  # with fewer frames, many punches fall between two frames


class FigureSet(DrawnSet):
    """
    Clips, as `{"pixel_values_videos": uint8 (frames, 3, height, width), "labels": int}`; half of them are mirrored.

    The six classes have the names of UT-Interaction's: hand_shaking, hugging, kicking, pointing, punching, pushing.

    split: "train" or "validation"; they have no clip in common.
    num_frames: from 8 on. image_size: pixels of a side, from 16 on.

    Raises `ValueError` for an unknown setting.
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
