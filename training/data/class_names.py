# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Class names: reads them from files, matches the names of a data set with those of a checkpoint, and finds left-right pairs.

A class index has a meaning only with a list of names. Released checkpoints and copies of Kinetics differ in order and
spelling, so classes are matched by name.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .text_tables import read_json, read_text


MAX_NUMBERED_CLASSES = 100_000  # a larger label is probably a video id
SHOWN = 3  # number of classes listed in an error


def read_class_names(path: str | Path) -> list[str]:
    """
    The names in a file, in the order of their indices. The file has one name per line, a JSON list of names, or a JSON
    dictionary from name to index or from index to name. Raises `ValueError` for repeated names and for indices other than 0,
    1, 2, ...
    """
    if Path(path).suffix.lower() == ".json":
        names = _names_of(path, read_json(path))
    else:
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} lists the class {min(repeated)!r} more than once.")
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
        raise ValueError(
            f"{path} must give its {len(content)} classes the indices 0 to {len(content) - 1}, each once."
        )
    return [by_index[index] for index in range(len(by_index))]


def _is_index(text) -> bool:
    return isinstance(text, str) and text.isdecimal()


def sort_names(names: Iterable[str]) -> list[str]:
    """
    The distinct names in alphabetical order; if all are numbers, in numerical order.

    >>> sort_names(["b", "a", "b"]), sort_names(["10", "9"])
    (['a', 'b'], ['9', '10'])
    """
    names = set(names)
    return sorted(names, key=int) if all(_is_index(name) for name in names) else sorted(names)


def number_names(indices: Iterable[int]) -> list[str]:
    """
    Names for classes whose annotations have only indices: the numbers from 0 to the largest index.

    >>> number_names({2, 0})
    ['0', '1', '2']
    """
    largest = max(indices, default=-1)
    if largest >= MAX_NUMBERED_CLASSES:
        raise ValueError(
            f"label {largest} is not a class index: without class_names_file, indices must be below {MAX_NUMBERED_CLASSES:,}."
        )
    return [str(index) for index in range(largest + 1)]


def check_num_classes(names: Sequence[str], allowed: Sequence[int]) -> None:
    """Raise `ValueError` unless the number of classes is one of `allowed`; an empty `allowed` accepts any number."""
    if allowed and len(names) not in allowed:
        expected = " or ".join(map(str, allowed))
        hint = f"; set num_classes={len(names)} to use them" if names else ""
        raise ValueError(
            f"The annotations hold {len(names)} classes, expected {expected}: they are incomplete or a subset{hint}."
        )


def normalize_label(name: str) -> str:
    """
    The name in lower case, without underscores, brackets and double spaces, which differ between copies of a data set.

    >>> normalize_label("Passing_American football")
    'passing american football'
    """
    return " ".join(re.sub(r"[_\[\]]", " ", name).lower().split())


class LabelEncoder:
    """
    Finds the index of a class by its exact name, or else by its normalized name (`normalize_label`).

    names: in the order of the returned indices.
    indexed: names in the order that integer labels index. By default `names`; but if the names are the numbers 0, 1, ... in
        another order, a label is the class with that number as its name.

    >>> LabelEncoder(["b", "a"])(0), LabelEncoder(["b", "a"], indexed=["a", "b"])(0), LabelEncoder(["1", "0"])(0)
    (0, 1, 1)
    """

    def __init__(self, names: Sequence[str], indexed: Sequence[str] | None = None):
        self.names = list(names)
        numbers = [str(index) for index in range(len(self.names))]
        self.indexed = list(indexed or (numbers if sorted(numbers) == sorted(self.names) else self.names))
        self.exact = {name: index for index, name in enumerate(self.names)}
        normalized = [normalize_label(name) for name in self.names]
        self.normalized = {name: index for index, name in enumerate(normalized) if normalized.count(name) == 1}

    def __call__(self, label: str | int) -> int:
        """The index of a class. Raises `ValueError` for an unknown name and an index out of range."""
        if isinstance(label, int):
            if not 0 <= label < len(self.indexed):
                raise ValueError(
                    f"label {label} is out of range: there are {len(self.indexed)} classes, with indices from 0."
                )
            label = self.indexed[label]
        index = self.exact.get(label)
        if index is None:
            index = self.normalized.get(normalize_label(label))
        if index is None:
            close = difflib.get_close_matches(label, self.names, n=1)
            some = ", ".join(self.names[:SHOWN]) + (", ..." if len(self.names) > SHOWN else "")
            hint = f"the nearest is {close[0]!r}" if close else f"the classes are {some}"
            raise ValueError(f"label {label!r} is not one of the {len(self.names)} classes; {hint}.")
        return index


def flip_pairs(names: Sequence[str]) -> dict[int, int]:
    """
    Class index to the class index of the horizontally flipped video, for the classes where the two differ.

    Two classes are a pair if exchanging "left" and "right" in the name of one gives the name of the other. Something-Something
    V2 has the pairs 86/87, 93/94 and 166/167.

    >>> flip_pairs(["moving left", "moving right", "pulling it right out"])
    {0: 1, 1: 0}
    """
    index_of = {name.lower(): index for index, name in enumerate(names)}
    pairs = {index: index_of.get(_swap_sides(name.lower())) for index, name in enumerate(names)}
    return {index: other for index, other in pairs.items() if other is not None and other != index}


def has_left_right(names: Sequence[str]) -> bool:
    """Whether a name contains the word "left" or "right", so that a horizontal flip may make a label wrong."""
    return any(_swap_sides(name.lower()) != name.lower() for name in names)


def _swap_sides(name: str) -> str:
    sides = {"left": "right", "right": "left"}
    return re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda match: sides[match[0]], name)
