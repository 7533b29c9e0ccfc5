# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Types and ranges of options. An option is a field of a dataclass.

`convert` checks a field's type, `check_ranges` its range (`Annotated[float, Range(0, 1)]`). NaN and inf are never accepted.
"""

import difflib
import math
import types
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


NULL = ("null", "none", "~")  # what `option=` accepts for None
MAX_LISTED_CHOICES = 6  # in an error or a metavar
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Range:
    """
    The numbers that an option accepts: from `minimum` to `maximum`, without the bounds in `exclusive`, and the values in `also`.
    """

    minimum: float | None = None
    maximum: float | None = None
    exclusive: tuple[Literal["minimum", "maximum"], ...] = ()
    also: tuple[float, ...] = ()

    def __contains__(self, value: float) -> bool:
        if value in self.also:
            return True
        if not math.isfinite(value):
            return False
        above = self.minimum is None or (
            value > self.minimum if "minimum" in self.exclusive else value >= self.minimum
        )
        below = self.maximum is None or (
            value < self.maximum if "maximum" in self.exclusive else value <= self.maximum
        )
        return above and below

    def __str__(self) -> str:
        """
        >>> print(Range(0, 1), Range(0, 1, exclusive=("maximum",)), Range(1, also=(-1,)), sep="; ")
        from 0 to 1; at least 0 and below 1; at least 1, or -1
        """
        if not self.exclusive and None not in (self.minimum, self.maximum):
            text = f"from {self.minimum:g} to {self.maximum:.10g}"
        else:
            bounds = []
            if self.minimum is not None:
                bounds.append(f"{'above' if 'minimum' in self.exclusive else 'at least'} {self.minimum:.10g}")
            if self.maximum is not None:
                bounds.append(f"{'below' if 'maximum' in self.exclusive else 'at most'} {self.maximum:.10g}")
            text = " and ".join(bounds) or "finite"
        return ", or ".join([text, *(f"{value:.10g}" for value in self.also)])


FINITE = Range()
POSITIVE = Range(0, exclusive=("minimum",))
AT_LEAST_0, AT_LEAST_1 = Range(0), Range(1)
FRACTION = Range(0, 1)
SEED = Range(0, 2**32 - 1)


def option(default: Any, text: str) -> Any:
    """A dataclass field with its default and its help."""
    return field(default=default, metadata={"help": text})


def check_ranges(config: Any) -> None:
    """
    Raise `ValueError` for a number that is NaN, inf or outside its field's `Range`. Ranges of inherited fields are in the class
    attribute `INHERITED_RANGES`.
    """
    ranges = option_ranges(type(config))
    for each in fields(config):
        value = getattr(config, each.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            allowed = ranges.get(each.name, FINITE)
            if value not in allowed:
                raise ValueError(f"{each.name} must be {allowed}, got {value}.")
        _check_entries(value, each.name)


def _check_entries(value: Any, name: str) -> None:
    """Raise `ValueError` for NaN or inf in a mapping or list."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, entry in pairs:
        if isinstance(entry, float) and entry not in FINITE:
            raise ValueError(f"{name}.{key} must be {FINITE}, got {entry}.")
        _check_entries(entry, f"{name}.{key}")


def option_ranges(block: type) -> dict[str, Range]:
    """Field name to the range of its values, where a dataclass declares one."""
    hints = get_type_hints(block, include_extras=True)
    found = {name: _range_of(hint) for name, hint in hints.items()}
    inherited = block.INHERITED_RANGES if "INHERITED_RANGES" in vars(block) else {}
    return {**inherited, **{name: each for name, each in found.items() if each is not None}}


def _range_of(hint: Any) -> Range | None:
    for each in (hint, *get_args(hint)):
        if get_origin(each) is Annotated:
            return next((part for part in each.__metadata__ if isinstance(part, Range)), None)
    return None


def convert(value: Any, annotation: Any, name: str) -> Any:
    """
    `value`, as YAML or a command line gives it, converted to the type of a field. Raises `TypeError` if it cannot be.

    >>> convert("1e-3", float, "learning_rate"), convert("null", int | None, "num_frames"), convert("yes", bool, "bf16")
    (0.001, None, True)
    """
    return convert_to_kinds(value, kinds_of(annotation), name)


def convert_to_kinds(value: Any, kinds: tuple, name: str) -> Any:
    """As `convert`, with the first of several types that accepts the value."""
    is_optional = type(None) in kinds
    if is_optional and isinstance(value, str) and value.lower() in NULL:
        return None
    if value is None:
        if is_optional:
            return None
        raise TypeError(f"{name} must be {_wanted(kinds)}, got null.")
    for kind in kinds:
        try:
            return _convert_to(value, kind)
        except (TypeError, ValueError):
            continue
    raise TypeError(f"{name} must be {_wanted(kinds, value)}, got {value!r}.")


def _convert_to(value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if isinstance(value, bool):  # YAML 1.1 reads `no`, `off`, `yes` and `on` as booleans
            value = next((each for each in get_args(kind) if BOOLEANS.get(str(each)) is value), value)
        return value if value in get_args(kind) else _fail()
    if is_kind(kind, Enum):
        return kind(value).value
    if kind is bool:
        return BOOLEANS[str(value).lower()] if str(value).lower() in BOOLEANS else _fail()
    if kind is int and not isinstance(value, bool):
        number = float(value)
        return int(value) if isinstance(value, str) and value.strip("+-").isdecimal() else _whole(number)
    if kind is float and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, (str, int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if is_kind(kind, dict) or is_kind(kind, list):
        import yaml

        value = yaml.safe_load(value) if isinstance(value, str) else value
        return value if isinstance(value, get_origin(kind) or kind) else _fail()
    return _fail()


def is_kind(kind: Any, parent: type) -> bool:
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, parent)


def _whole(number: float) -> int:
    return int(number) if math.isfinite(number) and number == int(number) else _fail()


def _fail() -> Any:
    raise ValueError


def kinds_of(annotation: Any) -> tuple:
    """The types that a field accepts. `str` is last, because it accepts any text."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    kinds = get_args(annotation) if is_union else (annotation,)
    return tuple(sorted(kinds, key=lambda kind: (kind is type(None), kind is str, kind is bool)))


def field_kinds(block: type) -> dict[str, tuple]:
    """Types of the fields of a dataclass, by name. Not from the fields themselves: HfArgumentParser overwrites their `type`."""
    hints = get_type_hints(block)
    result = {}
    for each in fields(block):
        kinds = kinds_of(hints[each.name])
        if any(
            is_kind(kind, Enum) for kind in kinds
        ):  # `Enum | str` accepts the values of the enumeration and no other text
            kinds = tuple(kind for kind in kinds if kind is not str)
        elif choices := each.metadata.get("choices"):
            kinds = (Literal[tuple(choices)],)
        result[each.name] = kinds
    return result


def _wanted(kinds: tuple, value: Any = None) -> str:
    """The types that an option accepts, in words; of many choices those that are nearest to `value`."""
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: "a mapping",
        list: "a list",
    }
    words = []
    for kind in kinds:
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        choices = [each.value for each in kind] if is_kind(kind, Enum) else choices
        if choices:
            words.append(_some_of([str(each) for each in choices], str(value)))
        elif not (kind is str and any(is_kind(each, dict) for each in kinds)):
            words.append("null" if kind is type(None) else names.get(get_origin(kind) or kind, "set in Python"))
    return " or ".join(words)


def _some_of(choices: list[str], value: str) -> str:
    """
    >>> _some_of(["no", "steps", "epoch"], "epochs")
    'one of no, steps, epoch'
    >>> _some_of([f"adam{letter}" for letter in "abcdefgh"] + ["sgd"], "sgb")
    'one of 9 choices, the nearest is sgd (`--help` lists all)'
    """
    if len(choices) <= MAX_LISTED_CHOICES:
        return f"one of {', '.join(choices)}"
    close = difflib.get_close_matches(value, choices, n=1)
    return f"one of {len(choices)} choices{f', the nearest is {close[0]}' if close else ''} (`--help` lists all)"
