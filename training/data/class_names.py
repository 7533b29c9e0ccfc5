# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Names of classes: read from a file, matched between data and a checkpoint, mirrored.

An index means a class only together with a list of names. Released checkpoints and copies of Kinetics order and spell
theirs differently, so everything here goes by name.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .text_tables import read_json, read_text


MAX_NUMBERED = 100_000  # a label above this is a mistake, or a video id
SHOWN = 3  # classes that a message names


def read_class_names(path: str | Path) -> list[str]:
    """
    Names in the order of their indices, from a list with a name per line, a JSON list, or a JSON dictionary from name to
    index or from index to name.
    """
    if Path(path).suffix.lower() == ".json":
        names = _names_of(path, read_json(path))
    else:
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if repeated := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise ValueError(f"{path} names the class {repeated[0]!r} more than once.")
    return names


def _names_of(path: str | Path, content) -> list[str]:
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold a list of class names or a dictionary from name to index.")
    if all(_is_index(key) for key in content) and all(isinstance(name, str) for name in content.values()):
        content = {name: index for index, name in content.items()}
    try:
        by_index = {int(index): name for name, index in content.items() if not isinstance(index, (bool, float))}
    except (TypeError, ValueError):
        by_index = {}
    if sorted(by_index) != list(range(len(content))):
        raise ValueError(f"{path} must number its {len(content)} classes from 0 to {len(content) - 1}, each once.")
    return [by_index[index] for index in range(len(by_index))]


def _is_index(text) -> bool:
    return isinstance(text, str) and text.isdecimal()


def sort_names(names: Iterable[str]) -> list[str]:
    """
    Names without repeats, in alphabetical order; numbers by their value.

    >>> sort_names(["b", "a", "b"]), sort_names(["10", "9"])
    (['a', 'b'], ['9', '10'])
    """
    names = set(names)
    return sorted(names, key=int) if all(_is_index(name) for name in names) else sorted(names)


def number_names(indices: Iterable[int]) -> list[str]:
    """
    Names for classes that are known by their indices only: the numbers from 0 to the largest index.

    >>> number_names({2, 0})
    ['0', '1', '2']
    """
    largest = max(indices, default=-1)
    if largest >= MAX_NUMBERED:
        raise ValueError(
            f"label {largest} is no index of a class: there are fewer than {MAX_NUMBERED:,} classes wherever class_names_file "
            "does not say otherwise."
        )
    return [str(index) for index in range(largest + 1)]


def check_num_classes(names: Sequence[str], allowed: Sequence[int]) -> None:
    """Raise `ValueError` unless the number of classes is one of `allowed`; any number if that is empty."""
    if allowed and len(names) not in allowed:
        found = f"hold {len(names)} classes where {', '.join(map(str, allowed))} are expected"
        hint = f"; num_classes={len(names)} accepts them" if names else ""
        raise ValueError(f"The annotations {found}: they are incomplete or a subset{hint}.")


def normalize_label(name: str) -> str:
    """
    A name without what editions of a data set spell differently: case, underscores, brackets, double spaces.

    >>> normalize_label("Passing_American football")
    'passing american football'
    """
    return " ".join(re.sub(r"[_\[\]]", " ", name).lower().split())


class LabelEncoder:
    """
    Finds the index of a class by its name, or else by what its name is without case and underscores.

    names: in the order of the indices that are wanted.
    counted: in the order that labels count which are integers. By default that of `names`; but where these are the numbers
        from 0 in another order, a label is the class of that number.

    >>> LabelEncoder(["b", "a"])(0), LabelEncoder(["b", "a"], counted=["a", "b"])(0), LabelEncoder(["1", "0"])(0)
    (0, 1, 1)
    """

    def __init__(self, names: Sequence[str], counted: Sequence[str] | None = None):
        self.names = list(names)
        numbers = [str(index) for index in range(len(self.names))]
        self.counted = list(counted or (numbers if sorted(numbers) == sorted(self.names) else self.names))
        self.exact = {name: index for index, name in enumerate(self.names)}
        plain = [normalize_label(name) for name in self.names]
        self.plain = {name: index for index, name in enumerate(plain) if plain.count(name) == 1}

    def __call__(self, label: str | int) -> int:
        """Raises `ValueError` for a name that is not there and an index out of range."""
        if isinstance(label, int):
            if not 0 <= label < len(self.counted):
                raise ValueError(
                    f"label {label} is out of range: there are {len(self.counted)} classes, counted from 0."
                )
            label = self.counted[label]
        index = self.exact.get(label)
        if index is None:
            index = self.plain.get(normalize_label(label))
        if index is None:
            close = difflib.get_close_matches(label, self.names, n=1)
            some = ", ".join(self.names[:SHOWN]) + (", ..." if len(self.names) > SHOWN else "")
            hint = f"the nearest is {close[0]!r}" if close else f"which are {some}"
            raise ValueError(f"label {label!r} is none of the {len(self.names)} classes, {hint}.")
        return index


def flip_pairs(names: Sequence[str]) -> dict[int, int]:
    """
    Class index to the class that its videos belong to when they are mirrored, for the classes where that is another one.

    "left" and "right" in a name change places; if that gives the name of another class, the two are a pair. These are
    86/87, 93/94 and 166/167 of Something-Something V2.

    >>> flip_pairs(["moving left", "moving right", "pulling it right out"])
    {0: 1, 1: 0}
    """
    index_of = {name.lower(): index for index, name in enumerate(names)}
    pairs = {index: index_of.get(_mirror(name.lower())) for index, name in enumerate(names)}
    return {index: other for index, other in pairs.items() if other is not None and other != index}


def has_left_right(names: Sequence[str]) -> bool:
    """Whether a name contains the word "left" or "right", so that mirroring a video may make its label wrong."""
    return any(_mirror(name.lower()) != name.lower() for name in names)


def _mirror(name: str) -> str:
    sides = {"left": "right", "right": "left"}
    return re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda match: sides[match[0]], name)
