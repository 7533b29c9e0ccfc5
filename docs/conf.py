"""Sphinx configuration, and what it generates: the help of every command, the recipes, and docstrings in the style of Transformers."""

import contextlib
import inspect
import io
import os
import re
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
os.environ |= {"COLUMNS": "110", "NO_COLOR": "1"}  # of the help of commands

project = "TubeViT"
author = "The TubeViT authors"
copyright = "2026, the TubeViT authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "TubeViT for Transformers"
html_copy_source = False
default_role = "code"  # docstrings have single backticks
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the types stand in the docstrings
autodoc_class_signature = "separated"
napoleon_use_param = False
napoleon_use_rtype = False


def help_of(*words: str) -> str:
    from tubevit.training.cli import main

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return f"```text\n{shown.getvalue().strip()}\n```\n"


def command_line() -> str:
    """The help of every command, as the terminal shows it."""
    from tubevit.training.cli import GROUPS

    text = ["# Command line\n"]
    text += [
        "Every option is accepted as `--option value` or `option=value`, with dashes or underscores.\n",
        help_of(),
    ]
    for name in (name for commands in GROUPS.values() for name in commands):
        text += [f"## tubevit {name}\n", help_of(*name.split())]
    return "\n".join(text)


def recipes() -> str:
    """The comment at the head of each recipe: its purpose, its source, its score."""
    folder = ROOT / "training" / "recipes"
    text = [
        "# Recipes\n",
        "`tubevit train --config NAME` reads one of these files. Options on the command line win.\n",
    ]
    for path in sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.relative_to(folder).parts), path)):
        lines = path.read_text(encoding="utf-8").splitlines()
        head = lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]
        text += [f"## {path.relative_to(folder).with_suffix('').as_posix()}\n", "```text"]
        text += [*(line.removeprefix("#").removeprefix(" ") for line in head), "```\n"]
    return "\n".join(text)


def generate_pages(app) -> None:
    for name, page in {"command-line": command_line(), "recipes": recipes()}.items():
        path = Path(app.srcdir, "reference", f"{name}.md")
        if not path.is_file() or path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")


ENTRY = re.compile(r"^\*{0,2}\w+ \(.*\):$")  # name (`type`, *optional*, defaults to ...):
ITEM = re.compile(r"^(\w+(?:, \w+)*): ")  # name, name: text
LINK = re.compile(r"\[`~?([\w.]+)`\](?![\[(])")  # [`Class`]


def convert_docstring(app, what, name, object_, options, lines: list[str]) -> None:
    """The lists of parameters in our docstrings and in Transformers', and their blocks of code, as Sphinx knows them."""
    names = parameter_names(object_)
    found, in_list, in_code, is_indented = [], "", False, False
    for line in lines:
        line = LINK.sub(r"`\1`", line)
        item = ITEM.match(line)
        if line.strip().startswith("```"):
            in_code = not in_code
            found += ["", ".. code-block:: python", ""] if in_code else [""]
        elif in_code:
            found.append(f"    {line}")
        elif ENTRY.match(line) or (item and item[1].split(", ")[0] in names):
            found += [] if in_list else ["", "Args:"]
            in_list = "ours" if item else "theirs"
            found.append(f"    {line}")
        elif in_list and (line.startswith(" ") or (in_list == "ours" and line)):
            found.append(f"    {line}" if line.startswith(" ") else f"        {line}")
        else:
            in_list = in_list if in_list == "theirs" and not line else ""
            if line.startswith("    ") and not in_list and found and not found[-1].strip() and not is_indented:
                found += [".. code-block:: python", ""]
            is_indented = (line.startswith("    ") or (is_indented and not line)) and not in_list
            found.append(line)
    lines[:] = found


def parameter_names(object_) -> set[str]:
    """Names of the parameters of a function, or of the fields and parameters of a class."""
    try:
        names = set(inspect.signature(object_).parameters)
    except (TypeError, ValueError):
        names = set()
    return names | set(getattr(object_, "__annotations__", {}))


def skip_constructor(app, what, name, object_, skip, options) -> bool | None:
    """The parameters stand in the docstring of the class."""
    return True if name in ("__init__", "__new__") else None


def setup(app) -> None:
    app.connect("builder-inited", generate_pages)
    app.connect("autodoc-skip-member", skip_constructor)
    app.connect("autodoc-process-docstring", convert_docstring, priority=400)  # before napoleon
