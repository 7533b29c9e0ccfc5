# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The command line of every command. `parse_arguments` accepts the same forms everywhere: `--option value`, `--option=value` and
`option=value`, with dashes or underscores, under the current name or a renamed one. `add_config_arguments` declares the options of
dataclasses (`options`), as Transformers' `HfArgumentParser` does.
"""

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from .option_names import RENAMED, current_name, unknown_key
from .option_types import BOOLEANS, MAX_LISTED_CHOICES, Range, field_kinds, is_kind, kinds_of, option_ranges
from .options import UNNAMED, Blocks


PACKAGE = __name__.partition(".")[0]
NUMBER_METAVARS = {bool: "BOOL", int: "N", float: "X"}
# Pattern of the names of options to the kind of their values; the first that matches. Other options take a NAME.
METAVARS = {
    r"_(dir|root)$": "FOLDER",
    r"_file$": "FILE",
    r"^data$|_data$": "PATH",
    r"^model_name_or_path$|^tube_checkpoint$": "MODEL",
    r"^resume_from_checkpoint$": "CHECKPOINT",
    r"_(modules|args)$|^(report_to|fsdp|debug)$": "NAME,...",
    r"_pattern$": "REGEX",
    r"_token$": "TOKEN",
    r"_budget_range$": "[N,N]",
    r"^output$|^class_weights$": "FILE",
}


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """
    `parser.parse_intermixed_args` for all forms of options, see `normalize_argv`.

    Raises `ValueError` for `name=value` with an unknown name.
    """
    parser.allow_abbrev = False
    return parser.parse_intermixed_args(normalize_argv(argv, parser))


def normalize_argv(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """
    `argv` with each option under the name that `parser` declares.

    Accepted forms: `--option value`, `--option=value` and `option=value`, with `-` or `_`, the old names in `RENAMED`, the
    `MODEL_NAMES`, `flag=true`, and positional arguments by name. In a parser with `add_config_arguments`, `mapping.entry=value` is
    left to `read_options`. The name of an existing file is never read as an option.
    """
    optional = [action for action in parser._actions if action.option_strings]
    declared = {
        action.dest: action for action in reversed(optional)
    }  # not its negation `--no_...`, which is declared later
    declared |= {text.lstrip("-").replace("-", "_"): action for action in optional for text in action.option_strings}
    positional = {action.dest: action for action in parser._actions if not action.option_strings}
    has_config = "overrides" in positional
    known = {*declared, *(() if has_config else positional)}
    first, others, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*first, *others, word, *words]
        key, equals, value = word.partition("=")
        is_pair = bool(equals) and re.fullmatch(r"[A-Za-z_][\w.-]*", key) is not None and not os.path.exists(word)
        if not (is_pair or re.fullmatch(r"--[A-Za-z_][\w.-]*", key)):
            others.append(word)
            continue
        name = key.removeprefix("--").replace("-", "_")
        if has_config and "." in name:  # goes first: an option with an optional value would consume it
            value = value if equals or not words else words.pop(0)
            first.append(f"{name}={value}")
            continue
        name = current_name(name, known)
        if name in declared:
            others += _as_option(declared[name], name, equals, value)
        elif name in positional and not has_config:
            if positional[name].nargs in ("*", "+"):
                first.append(value if equals or not words else words.pop(0))
            else:
                declared[name] = _make_optional(parser, positional.pop(name))
                others += _as_option(declared[name], name, equals, value)
        elif is_pair and has_config:
            first.append(word)
        elif is_pair:
            raise ValueError(unknown_key(name, known))
        else:
            others.append(word)
    return [*first, *others]


def _make_optional(parser: argparse.ArgumentParser, action: argparse.Action) -> argparse.Action:
    """Replace a positional argument, which the command line gives by its name, by an option of this name."""
    parser._actions.remove(action)
    settings = {name: getattr(action, name) for name in ("type", "choices", "default", "help", "metavar")}
    return parser.add_argument(f"--{action.dest}", **settings)


def _as_option(action: argparse.Action, name: str, equals: str, value: str) -> list[str]:
    """An option as `action` reads it. For a switch that is given as false: its negation, or nothing if it has none."""
    text = next(
        each for each in action.option_strings if each.lstrip("-").replace("-", "_") == name or name == action.dest
    )
    if action.nargs != 0 or not equals:
        return [f"{text}{equals}{value}"]
    if value.lower() not in BOOLEANS:
        raise ValueError(f"{name} must be true or false, got {value!r}.")
    if BOOLEANS[value.lower()]:
        return [text]
    if isinstance(action, argparse.BooleanOptionalAction):
        return [each for each in action.option_strings if each.startswith("--no-") != text.startswith("--no-")][:1]
    return []


def add_config_arguments(parser: argparse.ArgumentParser, blocks: Blocks) -> None:
    """
    Add `--config`, `option=value` and the options of each dataclass, as `HfArgumentParser` declares them, in groups. An option
    that is not given is absent from the result, so that `read_config` knows which options were given.
    """
    from transformers.hf_argparser import HfArgumentParser

    names = {each.name for block in blocks.values() for each in fields(block)}
    unnamed = [UNNAMED[name] for name in UNNAMED if name in names]
    places = "".join(f" [{each}]" for each in unnamed)
    parser.usage = parser.usage or f"{parser.prog}{places} [--config FILE] [OPTION=VALUE | --OPTION VALUE ...]"
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="OPTION=VALUE",
        help=f"any option; OPTION.KEY=VALUE sets an entry of a mapping; arguments without = are {' and '.join(unnamed)}",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file with options, or the name of a recipe: finetune-small, kinetics-base, uniformerv2/k400_b16_f8x224, ...",
    )
    for name, block in blocks.items():
        parents = [each for each in block.__mro__ if each.__module__.startswith(PACKAGE)]
        own = {name for each in parents for name in vars(each).get("__annotations__", ())}
        hidden = vars(block).get("UNSUPPORTED", ())
        group = parser.add_argument_group(name, (block.__doc__ or "").strip().splitlines()[0])
        inherited = None
        of_name, ranges, kinds = {each.name: each for each in fields(block)}, option_ranges(block), field_kinds(block)
        for action in HfArgumentParser(block, add_help=False)._actions:
            if action.dest in RENAMED or action.dest in hidden:
                action.help = argparse.SUPPRESS
            if action.dest not in own and inherited is None and action.help is not argparse.SUPPRESS:
                inherited = parser.add_argument_group(
                    f"{name}, more", "Further fields of Transformers' TrainingArguments."
                )
            more = vars(block).get("MORE_HELP", {}).get(action.dest)
            allowed, more = ranges.get(action.dest), f"; {more()}" if more else ""
            _describe_action(action, of_name[action.dest], kinds[action.dest], allowed, more)
            (group if action.dest in own or inherited is None else inherited)._add_action(action)


def _describe_action(action: argparse.Action, each: Field, kinds: tuple, allowed: Range | None, more: str) -> None:
    """
    Leave conversion and defaults to `make_config`; show choices, range and default in the help, each once.

    kinds: types of the field's values. more: text after the field's help, by the function that the block's `MORE_HELP` names for the option.
    """
    action.option_strings = action.option_strings[:1]  # `parse_arguments` accepts dashes as well
    choices = [str(getattr(choice, "value", choice)) for choice in action.choices or ()]
    action.default, action.type, action.choices = argparse.SUPPRESS, None, None
    if action.nargs == 0:
        action.help = f"same as --{each.name}=false"
        return
    action.const = each.metadata.get("const", "true" if bool in kinds_of(each.type) else None)
    action.nargs = None if action.const is None else "?"
    if action.help is argparse.SUPPRESS:
        return
    action.metavar = _metavar(each.name, kinds, choices)
    text = " ".join(str(each.metadata.get("help", "")).split()) + more
    if len(choices) > MAX_LISTED_CHOICES and not all(f"{choice}: " in text for choice in choices):
        text = f"{text.rstrip('.')}; choices: {', '.join(choices)}"
    if "default:" not in text and "efaults to" not in text and "default is" not in text:
        text += f" (default: {_default_text(each)})"
    if allowed is not None:
        text = text.replace("(default:", f"({allowed}; default:")
    action.help = text


def _metavar(name: str, kinds: tuple, choices: list[str]) -> str:
    """The kind of value that an option takes, for its help."""
    if 0 < len(choices) <= MAX_LISTED_CHOICES:
        return "{" + ",".join(choices) + "}"
    if kinds[0] in NUMBER_METAVARS and str not in kinds:
        return NUMBER_METAVARS[kinds[0]]
    if any(is_kind(kind, dict) for kind in kinds):
        return "JSON"
    return next((metavar for pattern, metavar in METAVARS.items() if re.search(pattern, name)), "NAME")


def _default_text(each: Field) -> Any:
    value = each.default if each.default is not MISSING else each.default_factory()
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value in (None, "", []) else str(value).lower() if isinstance(value, bool) else value


def positive_number(text: str) -> float:
    """An argparse type: finite numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argparse type: whole numbers of at least `minimum`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < minimum:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, got {text!r}")
        return value

    return convert
