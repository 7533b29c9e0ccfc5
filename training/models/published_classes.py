# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Class names of published classifiers. Several orders of the same classes are in use, and the weights do not tell which one a
classifier has: in a wrong order it scores near chance without an error.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from ..data.class_names import normalize_label


FOLDER = Path(__file__).parent / "class_lists"
NO_ROW = -1  # of a class that a classifier does not have
ORDERS = ("reference", "mmaction2", "scenic")
# Names of class lists by data set and by the code that trained the classifier. `None`: the order is not known.
LISTS: dict[str, dict[str, str | None]] = {
    "kinetics400": {"reference": "kinetics400_uniformerv2", "mmaction2": "kinetics400", "scenic": "kinetics400"},
    "kinetics600": {"reference": None, "mmaction2": "kinetics600", "scenic": "kinetics600"},
    "kinetics700": {"reference": None, "mmaction2": "kinetics700", "scenic": None},
    "kinetics710": {"reference": "kinetics710_uniformerv2", "mmaction2": "kinetics710", "scenic": None},
    "ssv1": {"reference": "something_something_v1", "mmaction2": None, "scenic": None},
    "ssv2": {
        "reference": "something_something_v2",
        "mmaction2": "something_something_v2",
        "scenic": "something_something_v2",
    },
    "mit": {"reference": "moments_in_time_v1", "mmaction2": "moments_in_time_v1", "scenic": None},
}


def class_names(labels: str, order: str, num_labels: int) -> list[str]:
    """
    The class names of a classifier, in the order of its rows.

    labels: a data set in `LISTS`, or a file with a name per line, in the order of the rows. order: a code in `ORDERS`, or a file with the
        names in the order of the rows.

    Raises `ValueError` for an unknown data set, an order that is not known, and another number of names than rows.
    """
    path = next((Path(each) for each in (order, labels) if Path(each).is_file()), None)
    if path is not None:
        names, source = read_class_list(path), str(path)
        if labels in LISTS and (unknown := set(names) - _all_names(labels)):
            raise ValueError(f"{path} names {sorted(unknown)[0]!r}, which is not a class of {labels}.")
    else:
        names, source = read_class_list(FOLDER / f"{_list_of(labels, order)}.txt"), f"{labels} in the order of {order}"
    if len(names) != num_labels:
        raise ValueError(f"The classifier has {num_labels} rows, and {source} has {len(names)} classes.")
    if len(set(names)) != len(names):
        raise ValueError(f"{source} names {next(name for name in names if names.count(name) > 1)!r} twice.")
    return names


def read_class_list(path: Path) -> list[str]:
    """The lines of a file. Raises `ValueError` for an empty line between names."""
    names = path.read_text(encoding="utf-8").splitlines()
    while names and not names[-1].strip():
        names.pop()
    if not names or not all(name.strip() for name in names):
        raise ValueError(f"{path} must have a class name on every line.")
    return [name.strip() for name in names]


def head_rows(target: str, order: str) -> tuple[list[int], list[str]]:
    """
    The rows of a Kinetics-710 classifier that classify Kinetics-400, 600 or 700, and the names of their classes, alphabetical.

    target: "kinetics400", "kinetics600" or "kinetics700". order: of the Kinetics-710 classifier, "reference", "mmaction2", or a file with
        the 710 names in the order of the rows.

    A class has the row of its own name, if there is one, and otherwise the row of MMAction2's map. The authors' list lacks "chopping
    vegetables" of Kinetics-600, whose row is `NO_ROW`. It has "throwing ball (not baseball or American football)" of Kinetics-600 and 700,
    which MMAction2's list lacks.
    """
    indices, names = _indices_in_710(target), read_class_list(FOLDER / f"{target}.txt")
    alphabetical = read_class_list(FOLDER / "kinetics710.txt")
    row_of = {name: row for row, name in enumerate(class_names("kinetics710", order, len(alphabetical)))}
    if target == "kinetics400" and order == "reference":  # its own order, by definition the first rows
        own = read_class_list(FOLDER / "kinetics400_uniformerv2.txt")
        return list(range(400)), own
    return [
        row_of.get(name, row_of.get(alphabetical[index], NO_ROW)) for name, index in zip(names, indices, strict=True)
    ], names


def missing_row(target: str, order: str) -> str | None:
    """A sentence on the class without a row in `head_rows`; `None` if all have one."""
    missing = [name for row, name in zip(*head_rows(target, order), strict=True) if row == NO_ROW]
    if not missing:
        return None
    return (
        f"The classes of Kinetics-710 in the order of {order} do not include {missing[0]!r}: its row of the classifier is zero until it is "
        "fine-tuned."
    )


def rows_of_classes(classes: Sequence[str], rows: Sequence[str] | None, name: str) -> tuple[list[int], list[str]]:
    """
    The rows of a Kinetics-710 classifier for the classes of a data set, by name, in the order of the data; and sentences on them.

    If the rows have the order of a published classifier, and the classes are of Kinetics-400, 600 or 700, the rows are those of
    `head_rows`. Otherwise a class has the row of its name, where "hugging" of Kinetics-400 is "hugging (not baby)" of Kinetics-710
    and so on, by MMAction2's maps.

    rows: class names of the classifier; `None` if it has none. name: the checkpoint's, for errors.

    Raises `ValueError` if the classifier is not one of Kinetics-710, and for a class that is not among its classes.
    """
    if rows is None:
        raise ValueError(
            f"head_from=k710: the classes of {name} have no names: convert the published file with `tubevit convert --labels kinetics710`."
        )
    lists = {order: read_class_list(FOLDER / f"{file}.txt") for order, file in LISTS["kinetics710"].items() if file}
    row_of = {normalize_label(each): row for row, each in enumerate(rows)}
    known = {normalize_label(each) for names in lists.values() for each in names}
    if len(row_of) != len(lists["mmaction2"]) or not known >= set(row_of):
        raise ValueError(
            f"head_from=k710: the classifier of {name} has {len(rows)} classes, such as {rows[0]!r}, and is not one of Kinetics-710."
        )
    messages = [f"head_from=k710: the classifier has {len(classes)} of the {len(rows)} rows of {name}, by class name."]
    order = next((each for each, names in lists.items() if names == list(rows)), None)
    for target in ("kinetics400", "kinetics600", "kinetics700"):
        indices, names = head_rows(target, order or "mmaction2")
        own_rows = {normalize_label(each): row for each, row in zip(names, indices, strict=True)}
        if order is not None and all(normalize_label(each) in own_rows for each in classes):
            row_of, sentence = own_rows, missing_row(target, order)
            messages += (
                [sentence] if sentence is not None and NO_ROW in map(row_of.get, map(normalize_label, classes)) else []
            )
            break
        if order is None:
            aliases = {each: normalize_label(lists["mmaction2"][row]) for each, row in own_rows.items()}
            row_of = {each: row_of[other] for each, other in aliases.items() if other in row_of} | row_of
    for each in classes:
        if normalize_label(each) not in row_of:
            raise ValueError(
                f"head_from=k710: the class {each!r} of the data is not among the {len(rows)} classes of {name}."
            )
    return [row_of[normalize_label(each)] for each in classes], messages


def _indices_in_710(target: str) -> list[int]:
    """The indices of a data set's classes in the alphabetical list of Kinetics-710."""
    maps = json.loads((FOLDER / "kinetics710_maps.json").read_text(encoding="utf-8"))
    if target not in maps:
        raise ValueError(f"A Kinetics-710 classifier has rows for {', '.join(maps)}, not for {target!r}.")
    return maps[target]


def orders_of(names: Sequence[str]) -> dict[str, list[str]]:
    """The Kinetics data sets whose list is `names`, each with the codes in whose order the names are."""
    found: dict[str, list[str]] = {}
    for labels, orders in LISTS.items():
        for order, file in orders.items():
            if labels.startswith("kinetics") and file is not None and read_class_list(FOLDER / f"{file}.txt") == names:
                found.setdefault(labels, []).append(order)
    return found


def cut_classifier(classifier: torch.nn.Linear, rows: Sequence[int]) -> torch.nn.Linear:
    """A classifier with some rows of another one, and zeros for `NO_ROW`."""
    result = torch.nn.Linear(classifier.in_features, len(rows), dtype=classifier.weight.dtype)
    is_new = torch.tensor(rows) == NO_ROW
    with torch.no_grad():
        result.weight.copy_(classifier.weight[list(rows)].masked_fill(is_new[:, None], 0.0))
        result.bias.copy_(classifier.bias[list(rows)].masked_fill(is_new, 0.0))
    return result


def _list_of(labels: str, order: str) -> str:
    if labels not in LISTS:
        raise ValueError(
            f"There is no class list {labels!r}: give one of {', '.join(LISTS)}, or a file with a name per line."
        )
    if order not in ORDERS:
        raise ValueError(
            f"There is no label order {order!r}: give one of {', '.join(ORDERS)}, or a file with a name per line."
        )
    name = LISTS[labels][order]
    if name is None:
        raise ValueError(
            f"The order of the {labels} classes in classifiers of {order} is not known: give the authors' list as --labels FILE, a name "
            "per line."
        )
    return name


def _all_names(labels: str) -> set[str]:
    files = {name for name in LISTS[labels].values() if name is not None} or {labels}
    return {name for file in files for name in read_class_list(FOLDER / f"{file}.txt")}
