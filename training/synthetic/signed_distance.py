# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Outlines of the shapes in drawn clips, as signed distances; all shapes have the area of the circle of their radius."""

import math

import numpy as np


# How far a shape reaches from its centre along the axes, in radii (rounded up).
REACH = {"circle": 1.0, "ring": 1.16, "square": 0.89, "diamond": 1.26, "cross": 1.19, "triangle": 1.56}


def distance_to_edge(shape: str, y: np.ndarray, x: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """
    Signed distance (negative inside) to the edge of a shape around the origin, in the unit of its arguments.

    y, x, radius: arrays that broadcast. Distances to corners are those to the nearer side's line, which is enough to tell
    how much of a pixel is covered. Raises `ValueError` for a shape that is not known.
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
    raise ValueError(f"There is no shape {shape!r}; there are {', '.join(REACH)}.")
