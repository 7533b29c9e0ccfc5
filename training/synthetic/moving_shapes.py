# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A labeled set of small mp4 files to try a video model on: shapes that move over a smooth background.

The label is a shape and the direction of its motion ("circle moving left"), and one frame is not enough to tell it:
the picture is a torus, so a shape that leaves at one side returns at the opposite one, and start position, speed, size
and colors are sampled independently of the label. The shape's position is therefore uniform in every frame, whatever
the direction: each frame of a clip moving left is, with the same probability, that frame of a clip moving right. Played
backwards or mirrored, a clip moving left is a valid clip moving right. The best guess from one frame is right once in
`len(DIRECTIONS)` times.
"""

import colorsys
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tubevit.processing.cpu_cores import num_cores


SHAPES = ("circle", "cross", "triangle")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # unit steps (y, x)
MANIFEST_NAME = "moving_shapes.json"
MAX_THREADS = 8
Rgb = tuple[float, float, float]
GENERATOR_VERSION = 2  # raise when the drawing changes, so that old sets are not reused


@dataclass(frozen=True)
class Scene:
    """Everything that is in a clip. Lengths are in units of the picture's side, colors are RGB in [0, 1].

    `start` is the shape's center `(y, x)` in frame 0, `speed` its step per frame, `radius` the radius of the circle
    with the shape's area. `background` holds the four corner colors that are blended over the picture.
    """

    shape: str
    direction: str
    start: tuple[float, float]
    speed: float
    radius: float
    color: Rgb
    background: tuple[Rgb, Rgb, Rgb, Rgb]

    @property
    def label(self) -> str:
        return f"{self.shape} moving {self.direction}"

    def center(self, frame: int) -> tuple[float, float]:
        """Center `(y, x)` of the shape in a frame, in [0, 1)."""
        (start_y, start_x), (step_y, step_x) = self.start, DIRECTIONS[self.direction]
        return (start_y + step_y * self.speed * frame) % 1.0, (start_x + step_x * self.speed * frame) % 1.0


def labels() -> list[str]:
    """All class names, sorted."""
    return sorted(f"{shape} moving {direction}" for shape in SHAPES for direction in DIRECTIONS)


def random_scene(label: str, rng: np.random.Generator, num_frames: int = 32) -> Scene:
    """A scene of the class `label`. Random numbers are drawn in the same order for every label.

    The shape crosses between 0.5 and 0.9 of the picture in `num_frames`, so half the clip suffices to see which way
    it goes and no clip is long enough to lap it.
    """
    shape, direction = label.split(" moving ")
    start = tuple(rng.uniform(0, 1, 2).tolist())
    speed = rng.uniform(0.5, 0.9) / num_frames
    radius = rng.uniform(0.15, 0.2)
    color = _rgb(hue=rng.uniform(), saturation=rng.uniform(0.35, 0.8), value=rng.uniform(0.85, 1.0))
    hue = rng.uniform()
    background = tuple(
        _rgb(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.25)) for _ in range(4)
    )
    return Scene(shape, direction, start, speed, radius, color, background)


def draw_clip(scene: Scene, num_frames: int = 32, side: int = 80) -> np.ndarray:
    """The clip of a scene, uint8 `(num_frames, side, side, 3)`, with antialiased edges."""
    background = 255 * _blend_corners(np.array(scene.background, np.float32), side)
    contrast = 255 * np.array(scene.color, np.float32) - background
    return np.stack([_draw_frame(scene, frame, background, contrast) for frame in range(num_frames)])


def write_clip(
    path: Path, frames: np.ndarray, fps: int = 16, codec: str = "libx264", options: dict[str, str] | None = None
) -> None:
    """Encode `frames`, uint8 `(frames, height, width, 3)`, by default as an H.264 mp4; `options` are FFmpeg's."""
    import av

    options = {"crf": "18", "preset": "veryfast"} if options is None else options
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # the frames are too small for several threads
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def write_dataset(
    folder: Path, train_per_class: int, val_per_class: int, seed: int = 0, num_frames: int = 32, side: int = 80
) -> Path:
    """Write `folder`/train|val/<label>/<number>.mp4 and return `folder`.

    The same arguments draw the same clips (x264 does not always give the same bytes). An existing set
    with the same arguments is reused, one with other arguments is replaced; a folder that holds anything else is refused with a `FileExistsError`.
    """
    from ..logging_utils import progress_bar

    folder = Path(folder)
    settings = {
        "generator_version": GENERATOR_VERSION,
        "train_per_class": train_per_class,
        "val_per_class": val_per_class,
        "seed": seed,
        "num_frames": num_frames,
        "side": side,
    }
    manifest = folder / MANIFEST_NAME
    if manifest.is_file() and json.loads(manifest.read_text(encoding="utf-8")).get("settings") == settings:
        return folder
    _make_empty(folder)
    jobs = [("train", label, i) for label in labels() for i in range(train_per_class)]
    jobs += [("val", label, i) for label in labels() for i in range(val_per_class)]

    def write(job: tuple[str, str, int]) -> dict:
        split, label, number = job
        # A generator per clip: a set with more clips contains the smaller set.
        rng = np.random.default_rng([seed, split == "val", labels().index(label), number])
        scene = random_scene(label, rng, num_frames)
        path = folder / split / label / f"{number:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, draw_clip(scene, num_frames, side))
        return {"file": path.relative_to(folder).as_posix(), **asdict(scene)}

    with ThreadPoolExecutor(min(num_cores(), MAX_THREADS)) as pool:
        scenes = list(progress_bar(pool.map(write, jobs), "drawing clips", len(jobs), unit="clip"))
    # Last, so that a set whose writing was interrupted has no manifest of these settings and is not reused.
    manifest.write_text(json.dumps({"settings": settings, "scenes": scenes}, indent=1), encoding="utf-8")
    return folder


def _make_empty(folder: Path) -> None:
    """Make `folder` an empty one, unless it holds something that `write_dataset` did not write."""
    manifest = folder / MANIFEST_NAME
    if folder.exists() and any(folder.iterdir()):
        if not manifest.is_file():
            raise FileExistsError(
                f"{folder} holds files that are not a set of moving shapes: empty it or name another folder"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write_text("{}", encoding="utf-8")  # marks the folder as ours from the first file on


def _draw_frame(scene: Scene, frame: int, background: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """One frame, uint8 `(side, side, 3)`. A pixel's coverage by the shape follows from its distance to the edge.

    background, contrast: float32 `(side, side, 3)`: pixel values, and what the shape adds to them.
    """
    side = len(background)
    pixel_centers = (np.arange(side, dtype=np.float32) + 0.5) / side
    # Offset to the shape's center by the shorter way around the torus, in [-0.5, 0.5).
    y, x = ((pixel_centers - center + 0.5) % 1.0 - 0.5 for center in scene.center(frame))
    distance = distance_to_edge(scene.shape, y[:, None], x[None, :], scene.radius)
    coverage = np.clip(0.5 - distance * side, 0, 1)[..., None]
    return np.rint(background + contrast * coverage).astype(np.uint8)


def _blend_corners(corners: np.ndarray, side: int) -> np.ndarray:
    """Bilinear blend of four corner colors, `(4, 3)` -> `(side, side, 3)`."""
    t = (np.arange(side, dtype=np.float32) + 0.5) / side
    weights = np.stack([np.outer(1 - t, 1 - t), np.outer(1 - t, t), np.outer(t, 1 - t), np.outer(t, t)], axis=-1)
    return weights @ corners


def _rgb(hue: float, saturation: float, value: float) -> Rgb:
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


# How far a shape reaches from its center along the axes, in radii (rounded up).
REACH = {"circle": 1.0, "ring": 1.16, "square": 0.89, "diamond": 1.26, "cross": 1.19, "triangle": 1.56}


def distance_to_edge(shape: str, y: np.ndarray, x: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """
    Signed distance (negative inside) to the edge of a shape around the origin, in the unit of its arguments.

    y, x, radius: arrays that broadcast. Distances to corners are those to the nearer side's line, which is enough to tell
    how much of a pixel is covered. Raises `ValueError` for an unknown shape.
    """
    # Constants are Python floats: NumPy's own would make float64 of float32 coordinates, at twice the time.
    if shape == "circle":
        return np.hypot(y, x) - radius
    if shape == "ring":  # of outer radius a, half as wide: the area is 3/4 pi a^2
        outer = radius * math.sqrt(4 / 3)
        return np.abs(np.hypot(y, x) - outer * 0.75) - outer * 0.25
    y, x = (y, np.abs(x)) if shape == "triangle" else (np.abs(y), np.abs(x))
    if shape == "square":
        return np.maximum(y, x) - radius * (math.sqrt(math.pi) / 2)
    if shape == "diamond":
        return (y + x) * math.sqrt(0.5) - radius * (math.sqrt(math.pi) / 2)
    if shape == "cross":  # two bars, three times as long as wide: of half length a, the area is 20/9 a^2
        half_length = radius * math.sqrt(math.pi * 9 / 20)
        bars = (np.maximum(x - half_length, y - half_length / 3), np.maximum(x - half_length / 3, y - half_length))
        return np.minimum(*bars)
    if shape == "triangle":
        # An upright equilateral triangle of inradius r has the area 3 sqrt(3) r^2 and the origin as its centroid.
        inradius = radius * math.sqrt(math.pi / (3 * math.sqrt(3)))
        return np.maximum(y, x * (math.sqrt(3) / 2) - y / 2) - inradius
    raise ValueError(f"Unknown shape {shape!r}; the shapes are {', '.join(REACH)}.")
