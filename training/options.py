# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Options in dataclasses ("blocks"), filled from a YAML file and from the arguments of a command (`command_line`).

No two blocks have an option of the same name, so a file may group options by block or list them flat. Arguments override the file;
the file overrides the defaults.
"""

import argparse
import difflib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from .option_names import (
    FREE_FORM,
    RENAMED_BLOCKS,
    RENAMED_RECIPES,
    current_name,
    current_value,
    unknown_key,
    warn_renamed,
)
from .option_types import convert, convert_to_kinds, field_kinds, is_kind


Blocks = dict[str, type]  # name of a block to its dataclass

# Options that arguments without a name give, in this order, to their names in the help.
UNNAMED = {"model_name_or_path": "MODEL", "data": "DATA"}
FROM_RANDOM_WEIGHTS = "from_random_weights"  # key of a file: options that --preset adds
ALTERNATIVES = ("preset", "model_name_or_path")  # an argument for one removes the other, which a recipe may set


def read_config(args: argparse.Namespace, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """
    Block name to dataclass, from the options of `add_config_arguments`.

    recipes: folder of YAML files that `--config` finds by name, without folder and suffix.

    Raises `ValueError` or `TypeError` in one line, for an unknown option with the nearest one.
    """
    return make_config(read_options(args, blocks, recipes), blocks)


def read_options(args: argparse.Namespace, blocks: Blocks, recipes: Path | None = None) -> dict[str, Any]:
    """
    Option name to unconverted value, for the options that a file or an argument gives. Arguments without `=` are the model and the
    data, in this order, as far as the blocks have these options.
    """
    owners = _owners(blocks)
    given = {name: value for name, value in vars(args).items() if name in owners}
    unnamed = []
    for pair in args.overrides:
        key, equals, text = pair.partition("=")
        if current_name(pair, owners) in owners:
            raise ValueError(f"{pair!r} does not have the form option=value.")
        if not equals or os.path.exists(pair):
            unnamed.append(pair)
        else:
            given[_full_name(key.strip().lstrip("-").replace("-", "_"), blocks, owners)] = text
    free = [name for name in UNNAMED if name in owners and name not in given]
    if len(unnamed) > len(free):
        places = f" ({', '.join(free)})" if free else ""
        raise ValueError(
            f"{unnamed[len(free)]!r} does not have the form option=value, and names no further option{places}."
        )
    given |= dict(zip(free, unnamed, strict=False))
    starts_random = given.get("preset") is not None
    values = load_config_file(args.config, blocks, recipes, starts_random) if args.config else {}
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
        raise ValueError(_unknown_option(own, blocks))
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
            **{name: convert_to_kinds(current_value(name, values[name]), kinds, name) for name, kinds in mine.items()}
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
                convert_to_kinds(current_value(each.name, values[each.name]), kinds, each.name)
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
                raise ValueError(_unknown_option(own, blocks))
            if current in result:
                raise ValueError(f"{current} is given twice" + (f", also as {own}." if own != current else "."))
            result[current] = each
    return result


def load_config_file(
    name: str, blocks: Blocks, recipes: Path | None = None, starts_random: bool = False
) -> dict[str, Any]:
    """
    Option name to value of a YAML file, whose options may be grouped by block. Raises `ValueError` for unknown keys, and
    for a file that is not YAML.

    starts_random: the options under the key `from_random_weights`, if the file has it, replace the others of the same name.
    """
    path = _find_file(name, recipes)
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must contain options as `name: value`, got a {type(content).__name__}.")
    from_random_weights = _flatten(content.pop(FROM_RANDOM_WEIGHTS, {}), f"{path}, {FROM_RANDOM_WEIGHTS}", blocks)
    return _flatten(content, str(path), blocks) | (from_random_weights if starts_random else {})


def _flatten(content: dict[str, Any], path: str, blocks: Blocks) -> dict[str, Any]:
    """Option name to value of options that may be grouped by block. path: the file, for errors."""
    owners, values = _owners(blocks), {}
    for key, value in content.items():
        block = key if key in blocks else RENAMED_BLOCKS.get(key)
        is_block = block in blocks and (key == block or key not in owners) and isinstance(value, (dict, type(None)))
        for own, each in (value or {}).items() if is_block else [(key, value)]:
            current = current_name(own, owners)
            is_free_form = own == FREE_FORM and own not in owners
            if not is_free_form and (current not in owners or (is_block and owners[current] != block)):
                known = {each.name for each in fields(blocks[block])} if is_block else {*owners, *blocks}
                where = f"{path}, block {key}" if is_block else path
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
    """The file of a recipe, by its name without suffix, such as "uniformerv2/k400_b16_f8x224"; `None` if there is none."""
    path = recipes / f"{name}.yaml"
    return path if re.fullmatch(r"([\w-]+/)?[\w+-]+", name) and path.is_file() else None


def recipe_names(recipes: Path) -> list[str]:
    """The names that `find_recipe` finds."""
    return sorted(path.relative_to(recipes).with_suffix("").as_posix() for path in recipes.rglob("*.yaml"))


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
    names = recipe_names(recipes) if recipes else []
    close = difflib.get_close_matches(name, names, n=1)
    counts = Counter(each.partition("/")[0] for each in names if "/" in each)
    listed = [each for each in names if "/" not in each] + [f"{folder}/... ({n})" for folder, n in counts.items()]
    hint = (
        f"; did you mean the recipe {close[0]!r}?"
        if close
        else f"; recipes are: {', '.join(listed)}."
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
        raise ValueError(_unknown_option(first, blocks))
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


def _unknown_option(name: str, blocks: Blocks) -> str:
    """The error for an unknown option, with the nearest of those that `--help` shows."""
    shown = {
        name
        for block in blocks.values()
        for name in field_kinds(block).keys() - vars(block).get("UNSUPPORTED", {}).keys()
    }
    return unknown_key(name, shown)


def _owners(blocks: Blocks) -> dict[str, str]:
    """Option name to block name."""
    return {each.name: name for name, block in blocks.items() for each in fields(block)}


# Smaller helpers


def one_line(error: BaseException) -> str:
    """The message of an error on one line; the name of its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


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
