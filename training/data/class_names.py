# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Class names: reads them from files, matches the names of a data set with those of a checkpoint, and finds left-right pairs.

A class index has a meaning only with a list of names. Released checkpoints and copies of Kinetics differ in order and
spelling, so classes are matched by name.
"""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .media_files import shorten
from .text_tables import read_json, read_text


MAX_NUMBERED_CLASSES = 100_000  # a larger label is probably a video id
# Lines of a names file with a number, and the header that a file of two columns may have.
NUMBERED_NAMES = (
    r"(?P<number>\d+)(\s*[,;:\t|]\s*|[.)]?\s+)(?P<name>\S.*)",
    r"(?P<name>.*\S)\s*[,;:\t]\s*(?P<number>\d+)",
    r"(?P<name>\S+)\s+(?P<number>\d+)",
)
NAMES_HEADER = (
    r"(\w*_)?(id|index|idx|number|label|name|class)\s*[,;\t]\s*(\w*_)?(id|index|idx|number|label|name|class)"
)
SHOWN = 3  # number of classes listed in an error


class ClassNames(list[str]):
    """
    Class names of a file, in the order of their numbers.

    first_number: the number of the first class, 0 or 1; `None` for a file without numbers, which count from 0.

    Attributes: `first_number` and `has_numbers`.
    """

    def __init__(self, names: Iterable[str], first_number: int | None = None):
        super().__init__(names)
        self.first_number, self.has_numbers = first_number or 0, first_number is not None


def read_class_names(path: str | Path) -> ClassNames:
    """
    The names in a file, in the order of their numbers. The file has one name per line, with or without its number before or
    behind it ("1 ApplyEyeMakeup"); or it is a JSON list of names, or a JSON dictionary from name to number or from number to
    name. Names without numbers count from 0.

    Raises `ValueError` for repeated names and for numbers that do not count from 0 or 1 without gaps.
    """
    if Path(path).suffix.lower() == ".json":
        names = _names_of(path, read_json(path))
    else:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        names = _numbered_lines(path, lines) or ClassNames(lines)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} lists the class {min(repeated)!r} more than once.")
    return names


def _numbered_lines(path: str | Path, lines: list[str]) -> ClassNames | None:
    """The names in lines of a number and a name, or a name and a number; `None` for lines of another kind."""
    if len(lines) > 1 and re.fullmatch(NAMES_HEADER, lines[0], re.IGNORECASE):
        lines = lines[1:]
    for pattern in NUMBERED_NAMES:
        matches = [re.fullmatch(pattern, line) for line in lines]
        if all(matches):
            by_number = {int(match["number"]): match["name"].strip("\"'") for match in matches}
            is_list = len(by_number) == len(lines) == len(set(by_number.values()))
            if is_list and (len(lines) > 1 or min(by_number) <= 1):
                return _in_order(path, by_number)
    return None


def _in_order(path: str | Path, by_number: dict[int, str]) -> ClassNames:
    first = 1 if by_number and min(by_number) == 1 else 0
    last = first + len(by_number) - 1
    if sorted(by_number) != list(range(first, last + 1)):
        raise ValueError(
            f"{path} must give its {len(by_number)} classes the indices 0 to {len(by_number) - 1}, or 1 to {len(by_number)}, each "
            "once."
        )
    return ClassNames((by_number[number] for number in range(first, last + 1)), first)


def _names_of(path: str | Path, content) -> ClassNames:
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return ClassNames(content)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold a list of class names or a dictionary from name to index.")
    if all(_is_index(key) for key in content) and all(isinstance(name, str) for name in content.values()):
        content = {name: index for index, name in content.items()}
    try:
        by_number = {int(index): name for name, index in content.items() if not isinstance(index, (bool, float))}
    except (TypeError, ValueError):
        by_number = {}
    if len(by_number) != len(content):
        raise ValueError(f"{path} must give each of its {len(content)} classes one index, from 0 or from 1.")
    return _in_order(path, by_number)


def _is_index(text) -> bool:
    return isinstance(text, str) and text.isdecimal()


def sort_names(names: Iterable[str]) -> list[str]:
    """
    The distinct names in alphabetical order; if all are numbers, in numerical order.

    >>> sort_names(["b", "a", "b"]), sort_names(["10", "9"])
    (['a', 'b'], ['9', '10'])
    """
    names = set(names)
    return sorted(sorted(names), key=int) if all(_is_index(name) for name in names) else sorted(names)


def number_names(indices: Iterable[int]) -> list[str]:
    """
    Names for classes whose annotations have only numbers: the numbers from the smallest to the largest.

    >>> number_names({2, 0}), number_names({1, 2})
    (['0', '1', '2'], ['1', '2'])
    """
    indices = set(indices)
    largest = max(indices, default=-1)
    if largest >= MAX_NUMBERED_CLASSES:
        raise ValueError(
            f"label {largest} is not a class index: without class_names_file, indices must be below {MAX_NUMBERED_CLASSES:,}."
        )
    return [str(index) for index in range(min(indices, default=0), largest + 1)]


def count_label_groups(names: Sequence[str], groups: Sequence[str]) -> dict[str, int]:
    """
    The number of classes of each group, in the order of the classes. The name of a class begins with that of its group.

    >>> count_label_groups(["noun: tap", "noun: cup", "verb: wash"], ["verb", "noun"])
    {'noun': 2, 'verb': 1}

    Raises `ValueError` for a name without a group, a group without classes, and a group whose classes are not consecutive.
    """
    found = [name.partition(": ")[0] for name in names]
    if unknown := [name for name, group in zip(names, found, strict=True) if group not in groups]:
        raise ValueError(
            f"The class {unknown[0]!r} must begin with its group, as in {groups[0] + ': NAME'!r} ({', '.join(groups)})."
        )
    runs = [group for group, _ in itertools.groupby(found)]
    if sorted(runs) != sorted(groups):
        raise ValueError(
            f"The classes must be in consecutive groups, one of each of {', '.join(groups)}; they are {shorten(runs)}."
        )
    return dict(Counter(found))


def describe_classes(names: Sequence[str], label_groups: Mapping[str, int] | None = None) -> str:
    """
    The number of classes and the first names, so that the user sees what was taken as a class; those of each label group.

    >>> describe_classes(["hop", "jump", "run", "skip"]), describe_classes(["noun: a", "verb: b"], {"noun": 1, "verb": 1})
    ('4: hop, jump, run, ...', 'noun 1: a; verb 1: b')
    """
    if label_groups:
        rest, parts = [name.partition(": ")[2] for name in names], []
        for group, size in label_groups.items():
            parts.append(f"{group} {describe_classes(rest[:size])}")
            rest = rest[size:]
        return "; ".join(parts)
    return f"{len(names)}: {shorten(names, SHOWN)}" if names else "0"


def check_num_classes(names: Sequence[str], allowed: Sequence[int]) -> None:
    """Raise `ValueError` unless the number of classes is one of `allowed`; an empty `allowed` accepts any number."""
    if allowed and len(names) not in allowed:
        expected = " or ".join(map(str, allowed))
        hint = f"; set num_classes={len(names)} to use them" if names else ""
        raise ValueError(
            f"The annotations hold {len(names)} classes, expected {expected}: they are incomplete or a subset{hint}."
        )


def check_spelling(names: Iterable[str]) -> None:
    """Raise `ValueError` for two names that differ in case, spaces or underscores only: they are one class, misspelled."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(normalize_label(name), name)
        if other != name:
            raise ValueError(
                f"The classes {other!r} and {name!r} differ in case, spaces or underscores only: write both alike, or set "
                "class_names_file to a file with both."
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
    indexed: names in the order that integer labels index. By default `names`; but if all names are numbers, an integer label is
        the class with that number as its name.

    Attributes: `by_number` (integer label to name) and `is_positional`, whether integer labels are positions in a list of names
    because nothing declares the numbers of the names.

    >>> LabelEncoder(["b", "a"])(0), LabelEncoder(["b", "a"], indexed=["a", "b"])(0), LabelEncoder(["1", "0"])(0)
    (0, 1, 1)
    >>> LabelEncoder(["b", "a"], indexed=ClassNames(["a", "b"], first_number=1))(1)
    1
    """

    def __init__(self, names: Sequence[str], indexed: Sequence[str] | None = None):
        self.names = list(names)
        are_numbers = bool(self.names) and all(map(_is_index, self.names))
        is_declared = bool(indexed) and not (isinstance(indexed, ClassNames) and not indexed.has_numbers)
        self.is_positional = not is_declared and (bool(indexed) or not are_numbers)
        if indexed or not are_numbers:
            first = indexed.first_number if isinstance(indexed, ClassNames) else 0
            self.by_number = dict(enumerate(indexed or self.names, start=first))
        else:
            self.by_number = {int(name): name for name in self.names}
        self.exact = {name: index for index, name in enumerate(self.names)}
        normalized = [normalize_label(name) for name in self.names]
        counts = Counter(normalized)
        self.normalized = {name: index for index, name in enumerate(normalized) if counts[name] == 1}

    def __call__(self, label: str | int) -> int:
        """The index of a class. Raises `ValueError` for an unknown name and an index out of range."""
        if isinstance(label, int):
            if label not in self.by_number:
                raise ValueError(
                    f"label {label} is out of range: there are {len(self.by_number)} classes, with indices from "
                    f"{min(self.by_number, default=0)}."
                )
            label = self.by_number[label]
        index = self.exact.get(label)
        if index is None:
            index = self.normalized.get(normalize_label(label))
        if index is None:
            close = difflib.get_close_matches(label, self.names, n=1)
            some = ", ".join(self.names[:SHOWN]) + (", ..." if len(self.names) > SHOWN else "")
            hint = f"the nearest is {close[0]!r}" if close else f"the classes are {some}"
            raise ValueError(f"label {label!r} is not one of the {len(self.names)} classes; {hint}.")
        return index

    def check_positions(self, labels: Iterable[int]) -> None:
        """Raise `ValueError` if integer labels are positions in a list but none is 0, so that they may count from 1."""
        labels = set(labels)
        if self.is_positional and labels and min(labels) > 0:
            raise ValueError(
                f"Labels are integers from {min(labels)} to {max(labels)} without 0: they may count from 0 or from 1. Set "
                "class_names_file to a file with lines of a number and a name."
            )


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
