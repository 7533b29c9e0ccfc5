# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Choice of the videos that are held out for validation: a fraction of each class, and all or none of the videos of a group. Folds of
cross-validation keep groups together in the same way.

A group is a file, or all videos of one person, camera or film (`group_column`, `group_pattern`). With several labels per video the
rarest class is split first (Sechidis et al., 2011, "On the Stratification of Multi-Label Data"), so that each class with two or more
groups is in both splits if possible.
"""

import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from .media_files import shorten
from .recorded_inputs import record_folder


# Groups in the file names of UCF101 and of data sets with the same naming scheme: v_Basketball_g07_c02.avi.
USUAL_GROUPS = r"_(g\d+)_c\d+"
SHOWN = 5  # number of names listed in a message


def choose_held_out(labels: Sequence[Any], groups: Sequence[Hashable], fraction: float, seed: int) -> list[int]:
    """
    Ascending indices of the rows that are held out: about `fraction` of each class, at least one row, whole groups only. At least one
    group of each class is not held out.

    labels: of each row; a tuple or list for several labels.
    groups: of each row; rows of equal groups stay together.

    >>> choose_held_out(["a"] * 4 + ["b"] * 4, [0, 0, 1, 1, 0, 0, 1, 1], 0.25, seed=0) in ([0, 1, 4, 5], [2, 3, 6, 7])
    True
    """
    sizes: dict[str, Counter] = defaultdict(Counter)  # class to {group: number of rows}
    classes_of: dict[Hashable, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        for name in map(str, label or [""] if isinstance(label, (tuple, list)) else [label]):
            sizes[name][group] += 1
            classes_of[group].add(name)
    held: set[Hashable] = set()
    decided: set[Hashable] = set()
    num_left = {name: len(members) for name, members in sizes.items()}  # groups of each class that are not held out

    def take(group: Hashable) -> int:
        held.add(group)
        for name in classes_of[group]:
            num_left[name] -= 1
        return sizes_of[group]

    for name, sizes_of in sorted(sizes.items(), key=lambda entry: (len(entry[1]), entry[0])):
        if len(sizes_of) > 1:
            members = sorted(sizes_of, key=str)
            random.Random(f"{seed} {name}").shuffle(members)
            target = max(1, round(sizes_of.total() * fraction))
            taken = sum(number for group, number in sizes_of.items() if group in held)
            free = [group for group in members if group not in decided]
            for group in free:
                may_leave = all(num_left[each] > 1 for each in classes_of[group])
                if taken < target and may_leave and taken + sizes_of[group] - target < target - taken:
                    taken += take(group)
            if not taken:  # every group is larger than twice the target: the smallest is the nearest
                for group in sorted(free, key=lambda each: sizes_of[each]):
                    if all(num_left[each] > 1 for each in classes_of[group]):
                        take(group)
                        break
        decided.update(sizes_of)
    return [index for index, group in enumerate(groups) if group in held]


def make_folds(labels: Sequence[Hashable], groups: Sequence[Hashable], num_folds: int, seed: int) -> list[int]:
    """
    The fold of each row for cross-validation, 0 to `num_folds - 1`: whole groups, and of each class about the same number of rows
    in each fold. The largest groups are placed first, each in the fold where the sum over classes of the squared fraction of the
    class's rows in a fold grows least. The seed orders groups of one size, and the folds.

    Raises `ValueError` for fewer groups than folds, and for a single group.

    >>> sorted(make_folds(["a", "a", "b", "b"], [0, 1, 2, 3], 2, seed=0)[:2])
    [0, 1]
    """
    rows_of: dict[Hashable, Counter] = defaultdict(Counter)  # group to {class: number of rows}
    for label, group in zip(labels, groups, strict=True):
        rows_of[group][label] += 1
    if len(rows_of) == 1:
        raise ValueError(f"All {len(groups)} videos are of one group, and folds need two or more.")
    if len(rows_of) < num_folds:
        raise ValueError(f"{len(rows_of)} groups do not fill {num_folds} folds: set folds to {len(rows_of)} or less.")
    sizes, random_state = Counter(labels), random.Random(seed)
    order, places = sorted(rows_of, key=str), list(range(num_folds))
    random_state.shuffle(order)
    random_state.shuffle(places)
    folds: list[Counter] = [Counter() for _ in range(num_folds)]
    fold_of = {}
    for group in sorted(order, key=lambda each: -rows_of[each].total()):
        added = rows_of[group]

        def growth(place: int, added: Counter = added) -> tuple[float, int, int]:
            fold = folds[place]
            squares = sum((2 * fold[name] + number) * number / sizes[name] ** 2 for name, number in added.items())
            return squares, fold.total(), places[place]

        best = min(range(num_folds), key=growth)
        folds[best] += added
        fold_of[group] = best
    return [fold_of[group] for group in groups]


def join_groups(files: Sequence[Hashable | None], groups: Sequence[Hashable | None]) -> list[Hashable]:
    """
    The group of each row: rows of one file and rows of one group are joined, also through other rows.

    files, groups: `None` for a row without a known file or without a group.

    Returns for each row the first file of its group, or if it is unknown, the index of its row.

    >>> join_groups(["a", "b", "b", "c"], ["x", "x", "y", None])
    ['a', 'a', 'a', 'c']
    """
    parents = list(range(len(files)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first: dict[tuple, int] = {}
    for index, keys in enumerate(zip(files, groups, strict=True)):
        for key in enumerate(keys):
            if key[1] is not None:
                one, other = sorted((root(index), root(first.setdefault(key, index))))
                parents[other] = one
    roots = [root(index) for index in range(len(files))]
    return [index if files[index] is None else files[index] for index in roots]


class GroupPattern:
    """
    Finds the group in the name of a video by a regular expression with one or more capture groups.

    >>> GroupPattern(r"_g(\\d+)_")("Basketball/v_Basketball_g07_c02.avi")
    '07'
    """

    def __init__(self, pattern: str):
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"group_pattern {pattern!r} is not a regular expression: {error}.") from None
        if not self.pattern.groups:
            raise ValueError(f"group_pattern {pattern!r} needs parentheses around the group, as in '_g(\\d+)_'.")

    def __call__(self, name: str) -> str | None:
        match = self.pattern.search(name)
        return None if match is None else "/".join(each or "" for each in match.groups())

    def of_all(self, names: Sequence[str], messages: list[str]) -> list[str | None]:
        """The groups of `names`, with a message on names that do not match. Raises `ValueError` if none matches."""
        groups = [self(name) for name in names]
        unmatched = [name for name, group in zip(names, groups, strict=True) if group is None]
        if names and len(unmatched) == len(names):
            raise ValueError(
                f"group_pattern {self.pattern.pattern!r} matches none of {len(names)} names, such as {names[0]!r}."
            )
        if unmatched:
            messages.append(
                f"group_pattern does not match {len(unmatched)} of {len(names)} names ({shorten(unmatched, SHOWN)}): each is a group "
                "of its own."
            )
        return groups


def suggest_groups(names: Sequence[str]) -> list[str]:
    """A sentence for the user if most names contain a group as those of UCF101 do, so that groups should be kept together."""
    matches = [match for name in names if (match := re.search(USUAL_GROUPS, name))]
    if 2 * len(matches) <= len(names):
        return []
    return [
        f"The names of the videos contain groups ({matches[0][1]}), and videos of one group may be in both splits: "
        f"group_pattern='{USUAL_GROUPS}' holds out whole groups."
    ]


def real_paths(paths: Iterable[str]) -> list[str]:
    """
    The files behind `paths`, with links resolved. Each folder is listed once: on a network file system, 240,000 single look-ups
    are slow.
    """
    folders: dict[str, tuple[str, set[str]]] = {}
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        if "://" in path:
            found.append(path)
            continue
        if folder not in folders:
            links: set[str] = set()
            record_folder(folder)
            if os.path.isdir(folder):
                with os.scandir(folder) as entries:
                    links = {entry.name for entry in entries if entry.is_symlink()}
            folders[folder] = (os.path.realpath(folder), links)
        real, links = folders[folder]
        found.append(os.path.realpath(path) if name in links else os.path.join(real, name))
    return found


def overlap_messages(keys: dict[str, Iterable[Hashable]], what: str) -> list[str]:
    """
    A sentence per pair of splits that have a file or group in common.

    keys: split to the files (or groups) of its rows. what: "video file" or "group".
    """
    splits = {split: dict.fromkeys(key for key in values if key is not None) for split, values in keys.items()}
    messages = []
    for index, one in enumerate(splits):
        for other in list(splits)[index + 1 :]:
            common = [str(key) for key in splits[one] if key in splits[other]]
            if common:
                plural, verb = ("s", "are") if len(common) > 1 else ("", "is")
                messages.append(
                    f"{len(common)} {what}{plural} {verb} in both the {one} and the {other} split, which makes scores too high: "
                    f"{shorten(common, SHOWN)}."
                )
    return messages


def one_sided_messages(labels: dict[str, Sequence[Any]], names: Sequence[str]) -> list[str]:
    """
    A sentence for the training and for the validation split if a class of the other split is missing in it.

    labels: split to the class indices of its rows.
    """
    messages = []
    found = {
        split: {each for label in values for each in (label if isinstance(label, (tuple, list)) else (label,))}
        - {None}
        for split, values in labels.items()
    }
    for split, other in (("train", "validation"), ("validation", "train")):
        if found.get(split) and found.get(other) and (missing := sorted(found[other] - found[split])):
            listed = shorten([names[index] for index in missing], SHOWN)
            plural = "es" if len(missing) > 1 else ""
            messages.append(
                f"{len(missing)} class{plural} of the {other} split without a video in the {split} split: {listed}."
            )
    return messages
