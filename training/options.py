# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Configuration of a command: dataclasses, filled from one YAML file and from `key=value` or `--key value` arguments.

Every option has one name, so a file may group options in blocks or list them flat, and an argument need not say the block.
A key that no option has is an error that names the nearest one. Dataclasses stay such that `HfArgumentParser` reads them too.
"""

import argparse
import difflib
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


Blocks = dict[str, type]  # name of a block to its dataclass
NOTHING = ("null", "none", "~")  # what `key=` may be given to mean None


def option(default: Any, text: str) -> Any:
    """A field of a configuration with its default and its help."""
    return field(default=default, metadata={"help": text})


def add_config_arguments(parser: argparse.ArgumentParser, blocks: Blocks) -> None:
    """
    Add `--config`, `key=value` and an option per field, in groups. Options that are not given leave no trace in the
    result, so that `read_config` can tell them from those that are.
    """
    parser.allow_abbrev = False
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="any option, as in the file")
    parser.add_argument("--config", metavar="FILE", help="YAML file with options, or the name of a recipe")
    for name, block in blocks.items():
        group = parser.add_argument_group(name, (block.__doc__ or "").strip().splitlines()[0])
        kinds_of = _field_kinds(block)
        for each in fields(block):
            kinds = kinds_of[each.name]
            names = list(dict.fromkeys([f"--{each.name}", f"--{each.name.replace('_', '-')}"]))
            text = f"{each.metadata['help']} (default: {_default(each)})".replace("%", "%%")
            switch = {"nargs": "?", "const": "true"} if bool in kinds else {}
            metavar = {bool: "BOOL", int: "N", float: "X"}.get(kinds[0], "VALUE")
            group.add_argument(
                *names, dest=f"option:{each.name}", default=argparse.SUPPRESS, metavar=metavar, help=text, **switch
            )


# One takes the other's place: a size that is given as an argument replaces the checkpoint that a recipe names.
ALTERNATIVES = ("preset", "model_name_or_path")


def read_config(args: argparse.Namespace, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """
    Block name to dataclass, from what `add_config_arguments` added: defaults, then the file, then arguments.

    recipes: folder of YAML files that may be named without folder and suffix.

    Raises `ValueError` or `TypeError` in one line, for an unknown key with the nearest one.
    """
    return make_config(read_options(args, blocks, recipes), blocks)


def read_options(args: argparse.Namespace, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """As `read_config`, but option name to value: those that were given, as they were."""
    values = load_config_file(args.config, blocks, recipes) if args.config else {}
    given = {name.removeprefix("option:"): text for name, text in vars(args).items() if name.startswith("option:")}
    for pair in args.overrides:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not of the form key=value.")
        given[key.strip().lstrip("-").replace("-", "_")] = text
    names = {key.rpartition(".")[2] for key in given}
    for name, other in (ALTERNATIVES, ALTERNATIVES[::-1]):
        if name in names and other not in names:
            values.pop(other, None)
    for key, text in given.items():
        _override(values, key, text, blocks)
    return values


def make_config(values: Mapping[str, Any], blocks: Blocks) -> dict[str, Any]:
    """Block name to dataclass, from option name to value; what is not given has its default. Checks names and types."""
    owners = _owners(blocks)
    for name in values:
        if name not in owners:
            raise ValueError(unknown_key(name, owners))
    config = {}
    for block_name, block in blocks.items():
        mine = {name: kinds for name, kinds in _field_kinds(block).items() if name in values}
        config[block_name] = block(**{name: _convert(values[name], kinds, name) for name, kinds in mine.items()})
    return config


def load_config_file(name: str, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """
    Option name to value of a YAML file, whose options may be grouped by block. Raises `ValueError` for keys that no block
    has, and for a file that is no YAML.
    """
    path = _find_file(name, recipes)
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold options, `name: value`, and holds {content!r}.")
    owners, values = _owners(blocks), {}
    for key, value in content.items():
        is_block = key in blocks and (value is None or isinstance(value, dict))
        for name, each in (value or {}).items() if is_block else [(key, value)]:
            if name not in owners or (is_block and owners[name] != key):
                known = {field.name for field in fields(blocks[key])} if is_block else {*owners, *blocks}
                where = f"{path}, block {key}" if is_block else str(path)
                belongs = f" It belongs to the block {owners[name]}." if name in owners else ""
                raise ValueError(f"{where}: {unknown_key(name, known)}{belongs}")
            if name in values:
                raise ValueError(f"{path} gives {name} twice.")
            values[name] = each
    return values


def load_yaml(path: Path) -> Any:
    """A YAML file. `1e-3` is a number, as everywhere but in YAML 1.1; a key that stands twice is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if repeated := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(
                    f"{path}, line {node.start_mark.line + 1}: the key {repeated[0]!r} stands there twice."
                )
            return super().construct_mapping(node, deep)

    exponent = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+0123456789"))
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.load(file, Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None


def write_yaml(path: Path, config: Mapping[str, Any]) -> None:
    """Blocks of options, in the form that `load_config_file` reads."""
    import yaml

    content = {name: asdict(block) for name, block in config.items()}
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def unknown_key(name: str, known: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    """What to say about a key that is not there."""
    close = difflib.get_close_matches(str(name), sorted(known), n=1)
    hint = f"the nearest is {close[0]!r}." if close else f"there are: {', '.join(sorted(known))}."
    return f"There is no option {name!r}; {hint}"


def convert(value: Any, annotation: Any, name: str) -> Any:
    """
    `value`, as YAML or a command line gives it, as the type of a field. Raises `TypeError` for what is no such value.

    >>> convert("1e-3", float, "learning_rate"), convert("null", int | None, "num_frames"), convert("yes", bool, "bf16")
    (0.001, None, True)
    """
    return _convert(value, _kinds(annotation), name)


def _convert(value: Any, kinds: tuple, name: str) -> Any:
    is_optional = type(None) in kinds
    if is_optional and isinstance(value, str) and value.lower() in NOTHING:
        return None
    if value is None:
        if is_optional:
            return None
        raise TypeError(f"{name} must be {_wanted(kinds)}, got nothing.")
    for kind in kinds:
        try:
            return _convert_to(value, kind)
        except (TypeError, ValueError):
            continue
    raise TypeError(f"{name} must be {_wanted(kinds)}, got {value!r}.")


def _convert_to(value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
    elif kind is bool:
        known = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        return known[str(value).lower()] if str(value).lower() in known else _fail()
    elif kind is int and not isinstance(value, bool):
        number = float(value)
        return int(value) if isinstance(value, str) and value.strip("+-").isdecimal() else _whole(number)
    elif kind is float and not isinstance(value, bool):
        return float(value)
    elif kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    elif kind is dict:
        import yaml

        value = yaml.safe_load(value) if isinstance(value, str) else value
        if isinstance(value, dict):
            return value
    return _fail()


def _whole(number: float) -> int:
    return int(number) if number == int(number) else _fail()


def _fail() -> Any:
    raise ValueError


def _kinds(annotation: Any) -> tuple:
    """The types that a field may have, a mapping first, since any text is a `str`."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    kinds = get_args(annotation) if is_union else (annotation,)
    return tuple(sorted(kinds, key=lambda kind: (kind is type(None), kind is str)))


def _field_kinds(block: type) -> dict[str, tuple]:
    """Types of the fields of a dataclass, by name. Not from the fields themselves, whose `type` HfArgumentParser overwrites."""
    hints = get_type_hints(block)
    return {each.name: _kinds(hints[each.name]) for each in fields(block)}


def _wanted(kinds: tuple) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping"}
    words = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words.append(f"one of {', '.join(map(str, get_args(kind)))}")
        elif not (kind is str and dict in kinds):
            words.append("null" if kind is type(None) else names[kind])
    return " or ".join(words)


def _override(values: dict[str, Any], key: str, text: str, blocks: Blocks) -> None:
    """Set `values[key]`; `block.key` is the same, and `key.entry` (`key.entry.entry`) sets an entry of a mapping."""
    import yaml

    owners = _owners(blocks)
    first, dot, rest = key.partition(".")
    if dot and first in blocks and rest.partition(".")[0] in owners:
        return _override(values, rest, text, blocks)
    if first not in owners:
        raise ValueError(unknown_key(first, owners))
    if not dot:
        values[first] = text
        return None
    if dict not in _field_kinds(blocks[owners[first]])[first]:
        raise ValueError(f"{key}: {first} is no mapping and has no entries.")
    entries = convert(values.get(first) or {}, dict, first)
    try:
        number = float(text)
        value = int(number) if text.strip("+-").isdecimal() else number
    except ValueError:
        value = yaml.safe_load(text)
    values[first] = _with_entry(entries, rest.split("."), value, key)
    return None


def _with_entry(mapping: dict[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """A copy of `mapping` in which the entry at `path`, a name on each level, is `value`."""
    name, *rest = path
    if rest:
        inner = mapping.get(name) or {}
        if not isinstance(inner, dict):
            raise ValueError(f"{key}: {name} is no mapping and has no entries.")
        value = _with_entry(inner, rest, value, key)
    return {**mapping, name: value}


def _owners(blocks: Blocks) -> dict[str, str]:
    """Option name to block name."""
    return {each.name: name for name, block in blocks.items() for each in fields(block)}


def _find_file(name: str, recipes: Path | None) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    names = sorted(each.stem for each in recipes.glob("*.yaml")) if recipes else []
    if name in names:
        return recipes / f"{name}.yaml"
    close = difflib.get_close_matches(name, names, n=1)
    hint = (
        f"; did you mean the recipe {close[0]!r}?"
        if close
        else f"; recipes are: {', '.join(names)}."
        if names
        else "."
    )
    raise FileNotFoundError(f"--config {name}: there is no such file{hint}")


def _default(each: Field) -> Any:
    value = each.default if each.default is not MISSING else each.default_factory()
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else value


def option_values(block: Any) -> dict[str, Any]:
    """The options of a block that are not at their defaults."""
    defaults = {each.name: each.default for each in fields(block)}
    return {name: value for name, value in vars(block).items() if value not in (defaults[name], {})}


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def whole_number(minimum: int) -> Callable[[str], int]:
    """A type of command line arguments: whole numbers from `minimum` on."""

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
    """A mapping that may be given as JSON."""
    try:
        value = json.loads(value) if isinstance(value, str) else value or {}
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a mapping, or one written as JSON.")
    return value


def check_at_least(config: Any, minimum: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}.")
