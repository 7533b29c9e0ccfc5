# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`--config FILE` and `key=value` for commands whose options argparse declares, as `options` has them for dataclasses.

What a file or a pair says becomes arguments that stand before the others, so argparse checks it in the same way, and an
argument that is given again takes its place.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .options import load_yaml, unknown_key


FILE_OPTION = "option_file"  # where the parsed arguments have the file's name


def add_option_file(parser: argparse.ArgumentParser) -> None:
    """
    Let the options of `parser` come from a file and as `key=value`. Its positional arguments must not be required, and
    options not be shortened: `--conf` would be parsed, but its file not be read.
    """
    parser.allow_abbrev = False
    text = "YAML file with options by their names, which may also be given as key=value"
    parser.add_argument("--config", dest=FILE_OPTION, metavar="FILE", help=text)


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """
    As `parser.parse_intermixed_args`, with the options of a file and of `key=value` if `add_option_file` was called for it.

    Raises `ValueError` for a name that there is not, with the nearest one, and `OSError` for a file that is not there.
    """
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", FILE_OPTION)}
    if not any(action.dest == FILE_OPTION for action in parser._actions):
        # Intermixed, because pairs may stand on both sides of an option.
        return parser.parse_intermixed_args(_closed_switches(parser, argv))
    pairs, others = _split_pairs(argv)
    name = _name_of_file(others)
    values = {} if name is None else _read_file(Path(name).expanduser())
    values |= pairs
    for key in values:
        if key not in actions:
            raise ValueError(unknown_key(key, actions))
    options = [part for key, value in values.items() for part in _as_arguments(actions[key], value)]
    args = parser.parse_intermixed_args([*options, *others])
    for key, value in values.items():
        if not actions[key].option_strings and not getattr(args, key):
            setattr(args, key, _as_list(value) if actions[key].nargs in ("*", "+") else str(value))
    return args


def _closed_switches(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """`argv` in which a switch that may have a value, and stands before a `key=value`, has one: its own, not that pair."""
    closed = list(argv)
    for index, (text, following) in enumerate(pairwise(argv)):
        action = parser._option_string_actions.get(text)
        key, equals, _ = following.partition("=")
        if action is not None and action.nargs == "?" and equals and key.replace(".", "").isidentifier():
            closed[index] = f"{text}={action.const}"
    return closed


def _split_pairs(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """`key=value` arguments as a mapping, and the others. A file that has such a name is no pair."""
    pairs, others = {}, []
    for text in argv:
        key, equals, value = text.partition("=")
        key = key.replace("-", "_")
        if equals and key.isidentifier() and not text.startswith("-") and not Path(text).exists():
            pairs[key] = value
        else:
            others.append(text)
    return pairs, others


def _name_of_file(argv: list[str]) -> str | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", nargs="?")
    return parser.parse_known_args(argv)[0].config


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"--config {path}: there is no such file.")
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold options, `name: value`, and holds {content!r}.")
    return {str(key).replace("-", "_"): value for key, value in content.items() if value is not None}


def _as_arguments(action: argparse.Action, value: Any) -> list[str]:
    """An option as it would stand on the command line; nothing for a positional one, or a switch that is off."""
    if not action.option_strings:
        return []
    name = action.option_strings[-1]
    if action.nargs == 0:
        if str(value).lower() not in ("true", "false"):
            raise ValueError(f"{action.dest} must be true or false, got {value!r}.")
        return [name] if str(value).lower() == "true" else []
    if action.nargs in ("*", "+"):
        return [name, *_as_list(value)]
    return [f"{name}={value}"]


def _as_list(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]
