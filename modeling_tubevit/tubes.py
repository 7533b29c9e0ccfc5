# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The geometry of video tubes: where a strided 3D kernel is applied in a clip (TubeViT, sections 3.2 to 3.4).

A tube is a kernel that is applied sparsely: its stride is much larger than the kernel, so a clip costs a few hundred
tokens. This module computes with (time, height, width) triples in frames and pixels and needs no torch.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any


Size = tuple[int, int, int]
Centers = tuple[list[float], list[float], list[float]]
AXES = ("frames", "rows", "columns")

# Table 12: the main configuration.
MAIN_TUBES = (
    {"kernel_size": [8, 8, 8], "stride": [16, 32, 32], "offset": [0, 0, 0], "space_to_depth": [2, 1, 1]},
    {"kernel_size": [16, 4, 4], "stride": [6, 32, 32], "offset": [4, 8, 8], "space_to_depth": [1, 2, 2]},
    {"kernel_size": [4, 12, 12], "stride": [16, 32, 32], "offset": [0, 16, 16]},
    {"kernel_size": [1, 16, 16], "stride": [32, 16, 16], "offset": [0, 0, 0]},
)


def format_size(size) -> str:
    """`(8, 12, 12)` -> `"8x12x12"`."""
    return "x".join(str(value) for value in size)


@dataclass(frozen=True)
class Tube:
    """
    One tube: a kernel applied without padding at `offset`, `offset + stride`, `offset + 2 * stride`, ...

    Every field is a (time, height, width) triple.

    kernel_size: extent of the kernel in frames and pixels, each at least 1.
    stride: distance between neighboring tokens, each at least 1. Tubes may overlap.
    offset: first frame, row and column of the first token, each at least 0.
    space_to_depth: number of neighboring kernel applications per token and axis (section 3.4). If S is the product of the
        factors, the kernel has 1/S of the output channels and is applied at `stride / space_to_depth`; the S outputs of a
        token are concatenated on the channel axis, in (time, height, width) order. The paper's "2x temporal" is (2, 1, 1)
        and "4x spatial" is (1, 2, 2). The number of tokens does not depend on the factors: applications of the last token
        that do not fit into the clip have zero outputs. Each factor divides the stride.
    """

    kernel_size: Size
    stride: Size
    offset: Size = (0, 0, 0)
    space_to_depth: Size = (1, 1, 1)

    def __post_init__(self):
        for axis, stride, factor in zip(AXES, self.stride, self.space_to_depth, strict=True):
            if stride % factor:
                raise ValueError(
                    f"has a stride of {stride} {axis}, which its space_to_depth factor {factor} does not divide"
                )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Tube":
        """Build a tube from its entry in `TubeViTConfig.tubes`. Raises `ValueError` naming the key and its value."""
        allowed = [field.name for field in fields(cls)]
        if not isinstance(values, dict):
            raise ValueError(f"must be a dict with the keys {', '.join(allowed)}, got {values!r}")
        if unknown := sorted(map(str, set(values) - set(allowed))):
            raise ValueError(f"has the unknown key {unknown[0]!r}; allowed keys are {', '.join(allowed)}")
        if missing := sorted({"kernel_size", "stride"} - set(values)):
            raise ValueError(f"lacks the key {missing[0]!r}")
        triples = {key: _parse_triple(key, value, 0 if key == "offset" else 1) for key, value in values.items()}
        return _shared(cls(**triples))

    def to_dict(self) -> dict[str, list[int]]:
        """The JSON form that `from_dict` reads."""
        return {key: list(value) for key, value in asdict(self).items()}

    @property
    def is_image_tube(self) -> bool:
        """Whether this is a 2D tube: its kernel spans one frame, so it also tokenizes images."""
        return self.kernel_size[0] == 1

    @property
    def kernel_stride(self) -> Size:
        """Distance between neighboring kernel applications: the stride divided by the space-to-depth factors."""
        (st, sh, sw), (ft, fh, fw) = self.stride, self.space_to_depth
        return st // ft, sh // fh, sw // fw

    @property
    def num_merged(self) -> int:
        """Number of kernel applications per token: S in the paper, 1 without space-to-depth."""
        return math.prod(self.space_to_depth)

    @property
    def smallest_size(self) -> Size:
        """The smallest (frames, height, width) that contains one application."""
        (ot, oh, ow), (kt, kh, kw) = self.offset, self.kernel_size
        return ot + kt, oh + kh, ow + kw

    def fits(self, size: Size) -> bool:
        """Whether a clip of `size` = (frames, height, width) contains at least one application."""
        return all(have >= need for have, need in zip(size, self.smallest_size, strict=True))

    def grid(self, size: Size) -> Size:
        """Number of tokens along (time, height, width) in a clip of `size`; zeros where the tube does not fit."""
        if not self.fits(size):
            return (0, 0, 0)
        num_frames, num_rows, num_columns = (
            (extent - smallest) // stride + 1
            for extent, smallest, stride in zip(size, self.smallest_size, self.stride, strict=True)
        )
        return num_frames, num_rows, num_columns

    def num_tokens(self, size: Size) -> int:
        """Number of tokens of a clip of `size`: `floor((size - offset - kernel) / stride) + 1` per axis."""
        num_frames, num_rows, num_columns = self.grid(size)
        return num_frames * num_rows * num_columns

    def kernel_grid(self, size: Size) -> Size:
        """Kernel applications along (time, height, width): `grid` times `space_to_depth`, minus those that do not fit."""
        smallest, stride, factors = self.smallest_size, self.kernel_stride, self.space_to_depth
        num_frames, num_rows, num_columns = (
            count
            if factors[axis] == 1
            else min(count * factors[axis], (size[axis] - smallest[axis]) // stride[axis] + 1)
            for axis, count in enumerate(self.grid(size))
        )
        return num_frames, num_rows, num_columns

    def centers(self, size: Size) -> Centers:
        """
        Centers of all tokens in a clip of `size`, per axis, as indices of frames, rows and columns.

        The center of a kernel that covers the indices `a, ..., a + k - 1` is `a + (k - 1) / 2`, so the 2D tube at the
        first frame, and with it every image, lies at t = 0 (section 3.3). With space-to-depth a token's center is that of
        the merged volume; the paper does not define it.
        """
        centers = []
        for axis, count in enumerate(self.kernel_grid(size)):
            factor, stride = self.space_to_depth[axis], self.kernel_stride[axis]
            first = self.offset[axis] + (self.kernel_size[axis] - 1) / 2
            applications = [first + index * stride for index in range(count)]
            tokens = [applications[index : index + factor] for index in range(0, count, factor)]
            centers.append([(token[0] + token[-1]) / 2 for token in tokens])
        frames, rows, columns = centers
        return frames, rows, columns

    def on_image(self) -> "Tube":
        """This 2D tube as applied to an image, which is a video of one frame at t = 0."""
        return replace(self, offset=(0, *self.offset[1:]))

    def __str__(self) -> str:
        merged = f", space-to-depth {format_size(self.space_to_depth)}" if self.num_merged > 1 else ""
        return f"kernel {format_size(self.kernel_size)}, offset {format_size(self.offset)}{merged}"


@lru_cache(maxsize=1024)
def _shared(tube: Tube) -> Tube:
    """The first tube that is equal to this one: torch.compile recognizes the tubes of an earlier graph by their identity."""
    return tube


def select_tubes(tubes: list[Tube] | dict[int, Tube], size: Size, allow_missing: bool) -> list[int]:
    """
    Indices of the tubes that tokenize a clip of `size` = (frames, height, width).

    tubes: all tubes, or a dict of some tubes by their index in the config. allow_missing: omit tubes that do not fit.

    Raises `ValueError` if a tube does not fit, or with `allow_missing` if none fits; the message names the tube and the
    smallest size that works.
    """
    tubes = tubes if isinstance(tubes, dict) else dict(enumerate(tubes))
    fitting = [index for index, tube in tubes.items() if tube.fits(size)]
    if len(fitting) == len(tubes) or (allow_missing and fitting):
        return fitting
    if allow_missing:
        easiest = min(tubes.values(), key=lambda tube: math.prod(tube.smallest_size))
        raise ValueError(
            f"No tube fits a clip of {format_size(size)} (frames x height x width). The smallest size that works is "
            f"{format_size(easiest.smallest_size)}, for the tube with {easiest}."
        )
    index = next(index for index in tubes if index not in fitting)
    short = ", ".join(
        f"{have} {axis} where it needs {need}"
        for axis, have, need in zip(AXES, size, tubes[index].smallest_size, strict=True)
        if have < need
    )
    smallest = (max(tube.smallest_size[axis] for tube in tubes.values()) for axis in range(3))
    raise ValueError(
        f"Tube {index} ({tubes[index]}) does not fit a clip of {format_size(size)} (frames x height x width): {short}. "
        f"The smallest size that holds every tube is {format_size(smallest)}; give at least that, change the tube, or set "
        "allow_missing_tubes=True in the config (model_config.allow_missing_tubes=true on a command line) to omit tubes that do "
        "not fit."
    )


def _parse_triple(key: str, value: Any, lowest: int) -> Size:
    is_triple = isinstance(value, (list, tuple)) and len(value) == 3
    if not is_triple or any(isinstance(v, bool) or not isinstance(v, int) or v < lowest for v in value):
        raise ValueError(f"needs {key} as three integers of at least {lowest} (time, height, width), got {value!r}")
    time, height, width = value
    return time, height, width
