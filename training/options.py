# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Options of the commands, from dataclasses (`HfArgumentParser`), a YAML file, `--option value` and `option=value`.

- `parse_arguments` accepts the same forms for every command: `--option value`, `--option=value` and `option=value`, with
  dashes or underscores, under the current name or a renamed one (`RENAMED`).
- `add_config_arguments` and `read_config` fill several dataclasses ("blocks"). No two blocks have an option of the same name, so a
  file may group options by block or list them flat. Arguments override the file; the file overrides the defaults.
"""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any

from .option_types import BOOLEANS, Range, convert, convert_to_kinds, field_kinds, is_kind, kinds_of, option_ranges


Blocks = dict[str, type]  # name of a block to its dataclass

# Old option name to current name. The old name works for one more release, with a warning.
RENAMED = {
    "stop_if_flat_steps": "chance_loss_patience",
    "crop_min_area": "rrc_scale_min",
    "crop_max_ratio": "rrc_ratio_max",
    "erasing_probability": "random_erasing_prob",
    "mix_probability": "mixup_prob",
    "validation_share": "validation_fraction",
    "max_bad_share": "max_corrupt_fraction",
    "on_bad_video": "on_corrupt_video",
    "bad_video_report": "corrupt_videos_file",
    "fit": "resize_mode",
    "min_time_share": "min_temporal_span",
    "resume": "resume_from_checkpoint",
    "video_folder": "video_root",
    "lora_modules": "lora_target_modules",
    "scale_tubes_from": "tube_checkpoint",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
RENAMED_VALUES = {"resize_mode": {"squeeze": "stretch"}}  # option to old value to current value
# Recipes of the last release that differed only in the number of classes: pattern and current name.
RENAMED_RECIPES = (re.compile(r"(joint-imagenet-)?kinetics[467]00-(base|large|huge)"), r"\1kinetics-\2")
MODEL_NAMES = ("model", "model_name_or_path")  # accepted by each command, in place of the name that it declares:
DECLARED_MODEL_NAMES = (*MODEL_NAMES, "models")
MAX_LISTED = 40  # names that an error lists, at most
RENAMED_BLOCKS = {"evaluation": "training", "run": "training"}  # in files of earlier releases
FREE_FORM = "trainer"  # until the last release, the mapping of further TrainingArguments fields
ALTERNATIVES = ("preset", "model_name_or_path")  # an argument for one removes the other, which a recipe may set


# Renamed options


def current_name(name: str, known: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    """The name in `known` for a renamed option (with a warning), a synonym, or a name with dashes for underscores."""
    name = str(name).replace("-", "_")
    new = RENAMED.get(name)
    if new is not None and new in known:
        warn_renamed(name, new)
        return new
    if name in MODEL_NAMES and name not in known:
        return next((each for each in DECLARED_MODEL_NAMES if each in known), name)
    return name


def _current_value(name: str, value: Any) -> Any:
    """The current value of an option; a renamed value is replaced with a warning."""
    new = RENAMED_VALUES.get(name, {}).get(value) if isinstance(value, str) else None
    if new is None:
        return value
    warn_renamed(f"{name}={value}", f"{name}={new}")
    return new


def warn_renamed(old: str, new: str) -> None:
    """Print one line, on the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {old} is now {new}; the next release removes {old}.", file=sys.stderr, flush=True)


def unknown_key(name: str, known: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    """The error for an unknown option, with the nearest known name."""
    known = sorted(set(known) - {"h", "help"})
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"the nearest is {close[0]!r}." if close else f"there are: {', '.join(known)}."
    if not close and len(known) > MAX_LISTED:
        hint = "`--help` lists the options."
    return f"There is no option {name!r}; {hint}"


# The command line of every command


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
    declared = {action.dest: action for action in parser._actions if action.option_strings}
    declared |= {
        text.lstrip("-").replace("-", "_"): each for each in declared.values() for text in each.option_strings
    }
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
    """An option as `action` reads it; nothing for a switch that is given as false."""
    text = next(
        each for each in action.option_strings if each.lstrip("-").replace("-", "_") == name or name == action.dest
    )
    if action.nargs != 0 or not equals:
        return [f"{text}{equals}{value}"]
    if value.lower() not in BOOLEANS:
        raise ValueError(f"{name} must be true or false, got {value!r}.")
    return [text] if BOOLEANS[value.lower()] else []


# Dataclasses from a file and the command line


def add_config_arguments(parser: argparse.ArgumentParser, blocks: Blocks) -> None:
    """
    Add `--config`, `option=value` and the options of each dataclass, as `HfArgumentParser` declares them, in groups. An option
    that is not given is absent from the result, so that `read_config` can tell it from one that is.
    """
    from transformers.hf_argparser import HfArgumentParser

    parser.usage = parser.usage or f"{parser.prog} [--config FILE] [OPTION=VALUE | --OPTION VALUE ...]"
    parser.add_argument(
        "overrides", nargs="*", metavar="OPTION=VALUE", help="any option; OPTION.KEY=VALUE sets an entry of a mapping"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with options, or the name of a recipe")
    for name, block in blocks.items():
        own, hidden = block.__annotations__, vars(block).get("UNSUPPORTED", ())
        group = parser.add_argument_group(name, (block.__doc__ or "").strip().splitlines()[0])
        inherited = None
        of_name, ranges = {each.name: each for each in fields(block)}, option_ranges(block)
        for action in HfArgumentParser(block, add_help=False)._actions:
            if action.dest in RENAMED or action.dest in hidden:
                action.help = argparse.SUPPRESS
            if action.dest not in own and inherited is None and action.help is not argparse.SUPPRESS:
                inherited = parser.add_argument_group(
                    f"{name}, more", "Further fields of Transformers' TrainingArguments."
                )
            _describe_action(action, of_name[action.dest], ranges.get(action.dest))
            (group if action.dest in own or inherited is None else inherited)._add_action(action)


def _describe_action(action: argparse.Action, each: Field, allowed: Range | None) -> None:
    """Leave conversion and defaults to `make_config`; show choices, range and default in the help, each once."""
    action.option_strings = action.option_strings[:1]  # `parse_arguments` accepts dashes as well
    choices = [str(getattr(choice, "value", choice)) for choice in action.choices or ()]
    action.default, action.type, action.choices = argparse.SUPPRESS, None, None
    if action.nargs == 0:
        action.help = f"same as --{each.name}=false"
        return
    kinds = kinds_of(each.type)
    action.const = each.metadata.get("const", "true" if bool in kinds else None)
    action.nargs = None if action.const is None else "?"
    if action.help is argparse.SUPPRESS:
        return
    action.metavar = {bool: "BOOL", int: "N", float: "X"}.get(kinds[0], "VALUE")
    text = " ".join(str(each.metadata.get("help", "")).split())
    if all(f"{choice}: " in text for choice in choices):
        pass  # no choices, or the help explains each
    elif len(choices) > 6:
        text += f"; choices: {', '.join(choices)}"
    else:
        action.metavar = "{" + ",".join(choices) + "}"
    if "default:" not in text and "efaults to" not in text and "default is" not in text:
        text += f" (default: {_default_text(each)})"
    if allowed is not None:
        text = text.replace("(default:", f"({allowed}; default:")
    action.help = text


def read_config(args: argparse.Namespace, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """
    Block name to dataclass, from the options of `add_config_arguments`.

    recipes: folder of YAML files that `--config` finds by name, without folder and suffix.

    Raises `ValueError` or `TypeError` in one line, for an unknown option with the nearest one.
    """
    return make_config(read_options(args, blocks, recipes), blocks)


def read_options(args: argparse.Namespace, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """Option name to unconverted value, for the options that a file or an argument gives."""
    owners = _owners(blocks)
    values = load_config_file(args.config, blocks, recipes) if args.config else {}
    given = {name: value for name, value in vars(args).items() if name in owners}
    for pair in args.overrides:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} does not have the form option=value.")
        given[_full_name(key.strip().lstrip("-").replace("-", "_"), blocks, owners)] = text
    for name, other in (ALTERNATIVES, ALTERNATIVES[::-1]):
        if name in given and other not in given:
            values.pop(other, None)
    for key, text in given.items():
        _override(values, key, text, blocks)
    return values


def _full_name(key: str, blocks: Blocks, owners: Mapping[str, str]) -> str:
    """`option` or `mapping.entry` for `block.option`, `trainer.option` and renamed options."""
    first, dot, rest = key.partition(".")
    own = current_name(rest.partition(".")[0], owners) if dot else ""
    if first == FREE_FORM and first not in owners and own in owners:
        warn_renamed(f"{FREE_FORM}.{own}", own)
    is_old = first not in owners and (RENAMED_BLOCKS.get(first) in blocks or first == FREE_FORM)
    if dot and first == FREE_FORM and is_old and own not in owners:
        raise ValueError(unknown_key(own, owners))
    if own in owners and (first in blocks or is_old):
        return ".".join([own, *rest.split(".")[1:]])
    return current_name(first, owners) + dot + rest


def make_config(values: Mapping[str, Any], blocks: Blocks) -> dict[str, Any]:
    """Block name to dataclass. values: option name to value; other options have their defaults. Checks names, types and ranges."""
    values = current_options(values, blocks)
    config = {}
    for block_name, block in blocks.items():
        mine = {name: kinds for name, kinds in field_kinds(block).items() if name in values}
        config[block_name] = block(
            **{name: convert_to_kinds(_current_value(name, values[name]), kinds, name) for name, kinds in mine.items()}
        )
    return config


def convert_options(values: Mapping[str, Any], blocks: Blocks) -> dict[str, Any]:
    """Option name to converted value for all options of `blocks`, from `values` and the defaults. Creates no dataclass."""
    values, result = current_options(values, blocks), {}
    for block in blocks.values():
        for each in fields(block):
            kinds = field_kinds(block)[each.name]
            default = each.default if each.default is not MISSING else None
            result[each.name] = (
                convert_to_kinds(_current_value(each.name, values[each.name]), kinds, each.name)
                if each.name in values
                else default
            )
    return result


def current_options(values: Mapping[str, Any], blocks: Blocks) -> dict[str, Any]:
    """
    `values` with renamed options under their current names. Raises `ValueError` for unknown options, and for an option given
    under two names.
    """
    owners, result = _owners(blocks), {}
    for name, value in values.items():
        pairs = {name: value}
        if name == FREE_FORM and name not in owners:
            pairs = as_mapping(value, name)
            for each in pairs:
                warn_renamed(f"{FREE_FORM}.{each}", each)
        for own, each in pairs.items():
            current = current_name(own, owners)
            if current not in owners:
                raise ValueError(unknown_key(own, owners))
            if current in result:
                raise ValueError(f"{current} is given twice" + (f", also as {own}." if own != current else "."))
            result[current] = each
    return result


def load_config_file(name: str, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """
    Option name to value of a YAML file, whose options may be grouped by block. Raises `ValueError` for unknown keys, and
    for a file that is not YAML.
    """
    path = _find_file(name, recipes)
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must contain options as `name: value`, got a {type(content).__name__}.")
    owners, values = _owners(blocks), {}
    for key, value in content.items():
        block = key if key in blocks else RENAMED_BLOCKS.get(key)
        is_block = block in blocks and (key == block or key not in owners) and isinstance(value, (dict, type(None)))
        for own, each in (value or {}).items() if is_block else [(key, value)]:
            current = current_name(own, owners)
            is_free_form = own == FREE_FORM and own not in owners
            if not is_free_form and (current not in owners or (is_block and owners[current] != block)):
                known = {each.name for each in fields(blocks[block])} if is_block else {*owners, *blocks}
                where = f"{path}, block {key}" if is_block else str(path)
                belongs = f" It belongs to the block {owners[current]}." if current in owners else ""
                raise ValueError(f"{where}: {unknown_key(own, known)}{belongs}")
            given = current_options({own: each}, blocks) if is_free_form else {current: each}
            for name, each in given.items():
                if name in values:
                    raise ValueError(f"{path} gives {name} twice.")
                values[name] = each
    return values


def load_yaml(path: Path) -> Any:
    """The content of a YAML file. `1e-3` is a number, unlike in YAML 1.1; a repeated key raises."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if repeated := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(f"{path}, line {node.start_mark.line + 1}: the key {repeated[0]!r} is given twice.")
            return super().construct_mapping(node, deep)

    exponent = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+0123456789"))
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.load(file, Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def write_yaml(path: Path, config: Mapping[str, Any]) -> None:
    """Write blocks of options in the form that `load_config_file` reads."""
    import yaml

    content = {name: as_options(block) for name, block in config.items()}
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def as_options(block: Any) -> dict[str, Any]:
    """Option name to value of a dataclass. Dataclasses that change their fields after construction have a method `to_options`."""
    return block.to_options() if hasattr(block, "to_options") else asdict(block)


def option_values(block: Any) -> dict[str, Any]:
    """The options of a dataclass that differ from their defaults."""
    defaults = {each.name: each.default for each in fields(block)}
    return {name: value for name, value in as_options(block).items() if value not in (defaults[name], {})}


def find_recipe(name: str, recipes: Path) -> Path | None:
    """The file of a recipe, by its name without folder and suffix; `None` if there is none."""
    path = recipes / f"{name}.yaml"
    return path if re.fullmatch(r"[\w-]+", name) and path.is_file() else None


def _find_file(name: str, recipes: Path | None) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    pattern, current = RENAMED_RECIPES
    if recipes is not None and pattern.fullmatch(name):
        new = pattern.sub(current, name)
        warn_renamed(f"--config {name}", f"--config {new}")
        name = new
    if recipes is not None and (found := find_recipe(name, recipes)):
        return found
    names = sorted(each.stem for each in recipes.glob("*.yaml")) if recipes else []
    close = difflib.get_close_matches(name, names, n=1)
    hint = (
        f"; did you mean the recipe {close[0]!r}?"
        if close
        else f"; recipes are: {', '.join(names)}."
        if names
        else "."
    )
    raise FileNotFoundError(f"--config {name}: there is no such file{hint}")


def _override(values: dict[str, Any], key: str, value: Any, blocks: Blocks) -> None:
    """Set `values[key]`; `key.entry` (or `key.entry.entry`) sets an entry of a mapping."""
    import yaml

    owners = _owners(blocks)
    first, dot, rest = key.partition(".")
    if first == FREE_FORM and first not in owners and not dot:
        values |= current_options({first: value}, blocks)
        return
    if first not in owners:
        raise ValueError(unknown_key(first, owners))
    if not dot:
        values[first] = value
        return
    if not any(is_kind(kind, dict) for kind in field_kinds(blocks[owners[first]])[first]):
        raise ValueError(f"{key}: {first} is not a mapping and has no entries.")
    entries = convert(values.get(first) or {}, dict, first)
    try:
        number = float(value)
        entry = int(number) if value.strip("+-").isdecimal() else number
    except ValueError:
        entry = yaml.safe_load(value)
    values[first] = _with_entry(entries, rest.split("."), entry, key)


def _with_entry(mapping: dict[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """A copy of a nested mapping with `value` at `path`, the list of keys."""
    name, *rest = path
    if rest:
        inner = mapping.get(name) or {}
        if not isinstance(inner, dict):
            raise ValueError(f"{key}: {name} is not a mapping and has no entries.")
        value = _with_entry(inner, rest, value, key)
    return {**mapping, name: value}


def _owners(blocks: Blocks) -> dict[str, str]:
    """Option name to block name."""
    return {each.name: name for name, block in blocks.items() for each in fields(block)}


def _default_text(each: Field) -> Any:
    value = each.default if each.default is not MISSING else each.default_factory()
    value = value.value if isinstance(value, Enum) else value
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else value


# Smaller helpers


def one_line(error: BaseException) -> str:
    """The message of an error on one line; the name of its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


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


def as_mapping(value: dict | str | None, name: str) -> dict[str, Any]:
    """A mapping that may be given as JSON or YAML text."""
    import yaml

    try:
        value = yaml.safe_load(value) if isinstance(value, str) else value or {}
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a mapping, or a mapping written as JSON.")
    return value


def parse_names(text: str) -> list[str]:
    """
    The names in a comma-separated list.

    >>> parse_names("videomae, vivit")
    ['videomae', 'vivit']
    """
    return [name.strip() for name in text.split(",") if name.strip()]
