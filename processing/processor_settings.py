# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Validation of the processors' settings, in `__init__` and in every call.

Transformers stores any value and fails later inside torchvision. Here an invalid value raises an error that names the
setting, the value and the allowed values, and a misspelled name raises an error that suggests the right one.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from transformers.image_utils import ChannelDimension, SizeDict

from .frame_sampling import MAX_FRAMES


MAX_SIDE = 16_384  # pixels
MAX_COUNT = 1_024  # views and threads
MIN_RATE, MAX_RATE = 1e-4, 1e4  # frames per second
# With these limits, pixels stay finite after rescaling and normalization.
MIN_FACTOR, MAX_FACTOR = 1e-6, 256
MIN_STD, MAX_STATISTIC = 1e-3, 1e4
MAX_MEAN = 2  # as a multiple of the largest rescaled pixel


class Rule(NamedTuple):
    """
    The allowed values of a setting, in words (for errors) and as a predicate.

    limit: the values within reason among those that `accepts` allows, `None` for all.
    """

    allowed: str
    accepts: Callable[[Any], bool]
    limit: "Rule | None" = None


def is_whole(value) -> bool:
    """An integer of at least 1; `True` does not count."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def is_number(value) -> bool:
    """A finite number within the range of floats; `True` does not count."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer above 1.8e308
        return False


def at_most(maximum: int) -> Rule:
    return Rule(f"at most {maximum:,}", lambda value: value <= maximum)


def one_of(*values: str) -> Rule:
    """One of the strings `values`."""
    return Rule(
        "one of " + ", ".join(repr(value) for value in values),
        lambda value: isinstance(value, str) and value in values,
    )


def optional(rule: Rule) -> Rule:
    """`rule`, or `None` (not set)."""
    limit = None if rule.limit is None else optional(rule.limit)
    return Rule(rule.allowed, lambda value: value is None or rule.accepts(value), limit)


def _is_size(value, allowed_keys: tuple[set[str], ...]) -> bool:
    """Whether `value` is an integer, a pair of integers, or a dictionary of integers with one of the `allowed_keys`."""
    if isinstance(value, (list, tuple)):
        return len(value) == 2 and all(is_whole(side) for side in value)
    if not isinstance(value, (dict, SizeDict)):
        return is_whole(value)
    sides = dict(value)
    return set(sides) in allowed_keys and all(is_whole(side) for side in sides.values())


def _has_small_sides(value) -> bool:
    """Whether no side of a size is longer than `MAX_SIDE`."""
    sides = value if isinstance(value, (list, tuple)) else dict(value).values() if not is_whole(value) else [value]
    return all(side <= MAX_SIDE for side in sides)


def _per_channel(allowed: str, is_allowed: Callable[[float], bool], minimum: float) -> Rule:
    """An allowed number, or a list of one allowed number per channel (1 to 4), with an absolute value within reason."""

    def numbers(value) -> Any:
        return value if isinstance(value, (list, tuple)) else [value]

    return Rule(
        f"{allowed}, or one per channel",
        lambda value: (
            1 <= len(numbers(value)) <= 4 and all(is_number(each) and is_allowed(each) for each in numbers(value))
        ),
        Rule(
            f"from {minimum:g} to {MAX_STATISTIC:,.0f}" + ("" if minimum else " in absolute value"),
            lambda value: all(minimum <= abs(each) <= MAX_STATISTIC for each in numbers(value)),
        ),
    )


def _is_device(value) -> bool:
    try:
        torch.device(value)
    except (RuntimeError, TypeError):
        return False
    return True


FLAG = Rule("True or False", lambda value: value is None or isinstance(value, bool))
FRAMES = Rule("a whole number of at least 1", is_whole, at_most(MAX_FRAMES))
COUNT = Rule("a whole number of at least 1", is_whole, at_most(MAX_COUNT))
RATE = Rule(
    "a number above 0",
    lambda value: is_number(value) and value > 0,
    Rule(f"from {MIN_RATE} to {MAX_RATE:,.0f}", lambda value: MIN_RATE <= value <= MAX_RATE),
)
SIDES = Rule(f"at most {MAX_SIDE:,} pixels per side", _has_small_sides)
RESIZE_KEYS = (
    {"shortest_edge"},
    {"shortest_edge", "longest_edge"},
    {"height", "width"},
    {"max_height", "max_width"},
)

PIXEL_RULES = {
    "do_convert_rgb": FLAG,
    "do_resize": FLAG,
    "do_center_crop": FLAG,
    "do_rescale": FLAG,
    "do_normalize": FLAG,
    "size": optional(
        Rule(
            "a whole number, (height, width), or a dictionary of whole numbers with the keys shortest_edge, height and "
            "width, shortest_edge and longest_edge, or max_height and max_width",
            lambda value: _is_size(value, RESIZE_KEYS),
            SIDES,
        )
    ),
    "crop_size": optional(
        Rule(
            "a whole number, (height, width), or a dictionary of whole numbers with the keys height and width",
            lambda value: _is_size(value, ({"height", "width"},)),
            SIDES,
        )
    ),
    # PIL's filters and torchvision's interpolation modes are enumerations; PIL's filters also have numbers.
    "resample": optional(
        Rule(
            "PIL's NEAREST, LANCZOS, BILINEAR or BICUBIC, or its number, 0 to 3",
            lambda value: (
                value in range(4) and not isinstance(value, bool)
                if isinstance(value, int)
                else isinstance(value, Enum) and value.name not in ("BOX", "HAMMING")
            ),
        )
    ),
    "rescale_factor": optional(
        Rule(
            "a number other than 0",
            lambda value: is_number(value) and value != 0,
            Rule(
                f"from {MIN_FACTOR:g} to {MAX_FACTOR} in absolute value",
                lambda value: MIN_FACTOR <= abs(value) <= MAX_FACTOR,
            ),
        )
    ),
    "image_mean": optional(_per_channel("a number", lambda number: True, minimum=0)),
    "image_std": optional(_per_channel("a number above 0", lambda number: number > 0, minimum=MIN_STD)),
    "device": optional(Rule("the name of a torch device", _is_device)),
    "return_tensors": optional(one_of("pt", "np", "mlx")),
    "input_data_format": optional(one_of(ChannelDimension.FIRST.value, ChannelDimension.LAST.value)),
}


STATISTICS = ("image_mean", "image_std")


def check_settings(owner: object, settings: Mapping[str, Any], rules: dict[str, Rule]) -> None:
    """
    Raise `ValueError` for the first of `settings` with an invalid value, and for statistics of different lengths. Settings
    without a rule are not checked.
    """
    for name, value in settings.items():
        rule = rules.get(name)
        while rule is not None:
            if not rule.accepts(value):
                raise ValueError(f"{type(owner).__name__}: {name} must be {rule.allowed}, got {value!r}.")
            rule = rule.limit
    lengths = [len(settings[name]) for name in STATISTICS if isinstance(settings.get(name), (list, tuple))]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{type(owner).__name__}: image_std must have as many values as image_mean, {lengths[0]}, or be one number; got "
            f"{settings['image_std']!r}."
        )
    mean, factor = settings.get("image_mean"), settings.get("rescale_factor")
    if settings.get("do_rescale") and settings.get("do_normalize") and mean is not None and factor is not None:
        largest = max(mean) if isinstance(mean, (list, tuple)) else mean
        if largest > MAX_MEAN * 255 * abs(factor):
            raise ValueError(
                f"{type(owner).__name__}: image_mean={mean!r} is beyond the largest pixel, {255 * abs(factor):g}, that "
                f"rescale_factor={factor:g} gives; set do_rescale=False for statistics of pixels from 0 to 255."
            )


def check_names(owner: object, names: Iterable[str], known: Iterable[str], *, closed: bool) -> None:
    """
    Raise `TypeError` for an unknown setting.

    closed: every unknown name is an error. Otherwise only a name similar to a known name is an error: processor files of
        Transformers may contain other keys, which become attributes of the processor.
    """
    known = list(known)
    for name in set(names) - set(known):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6 if closed else 0.85)
        if closed or close:
            hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(known)}."
            raise TypeError(f"{type(owner).__name__} has no setting {name!r}; {hint}")
