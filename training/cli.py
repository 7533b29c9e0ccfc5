# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The `tubevit` command: a table of subcommands, each a module with `add_arguments(parser)` and `run(args)`.

A module is imported when its subcommand is called, and imports torch when it runs, so that help comes at once. `run`
returns the exit code (`None` for 0). Whatever the user can mend arrives here as a `ValueError`, `TypeError`, `OSError` or
`ImportError` and becomes one line; `--traceback` shows the rest.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from .option_files import parse_arguments
from .options import one_line


COMMANDS = {
    "demo": (
        "tubevit.training.commands.demo",
        "train a tiny TubeViT on moving shapes or on your own videos, and draw what it sees",
    ),
    "predict": ("tubevit.training.commands.predict", "name what happens in videos and images"),
    "train": ("tubevit.training.run_video_classification", "fine-tune a classifier on videos, images, or both"),
    "train-loop": (
        "tubevit.training.run_video_classification_no_trainer",
        "the same as train, by a plain loop on Accelerate that is there to be changed",
    ),
    "eval": (
        "tubevit.training.evaluate_video_classification",
        "score a video classifier, ours or another, on a data set",
    ),
    "check-data": ("tubevit.training.data.check_data", "find the files of a data set that cannot be read"),
    "prepare": ("tubevit.training.data.prepare", "copy a folder of videos to a form that decodes faster"),
    "make-data": ("tubevit.training.synthetic.synthesize", "write a data set in which motion alone decides the class"),
    "baselines": (
        "tubevit.training.experiments.linear_baselines",
        "score linear classifiers of one frame and of motion energy, to compare a model with",
    ),
    "convert": (
        "tubevit.training.commands.convert",
        "make a TubeViT out of an image model: ViT, DeiT, DINO, SigLIP, CLIP",
    ),
    "export": (
        "tubevit.training.commands.export",
        "write a checkpoint with its code, to be loaded without this package",
    ),
    "info": (
        "tubevit.training.commands.info",
        "print tokens, parameters and GFLOPs of the named sizes, or of a checkpoint",
    ),
    "ablations": (
        "tubevit.training.experiments.ablations",
        "list the paper's ablations, each a configuration, with its numbers",
    ),
    "sweep": (
        "tubevit.training.experiments.sweep",
        "train the paper's ablations at a small size, and compare the order of rows",
    ),
    "compare": (
        "tubevit.training.experiments.compare",
        "race against the library's video models with equal training FLOPs",
    ),
    "results": (
        "tubevit.training.experiments.results",
        "make RESULTS.md out of result files: of sweep, compare, baselines and finished runs",
    ),
    "show": (
        "tubevit.training.commands.show",
        "draw the tubes on a clip, the kernels, the positions or the attention",
    ),
    "bench": (
        "tubevit.training.benchmarks.bench",
        "time the model, its tokenizer, decoding and pipeline, and compare them",
    ),
    "doctor": (
        "tubevit.training.commands.doctor",
        "look at this machine and its installation: versions, speed, known traps",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tubevit` with `argv` (the process's arguments by default) and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a label that the terminal cannot show is no reason to stop
    argv = list(sys.argv[1:] if argv is None else argv)
    name = _parse_command_name(argv[:1])
    if name is None:
        return 0
    module_name, summary = COMMANDS[name]
    module = import_module(module_name)
    parser = _Parser(prog=f"tubevit {name}", description=summary[0].upper() + summary[1:] + ".")
    module.add_arguments(parser)
    parser.add_argument("--traceback", action="store_true", help="on an error, show where it happened")
    shows_traceback = "--traceback" in argv
    try:
        return module.run(parse_arguments(parser, argv[1:])) or 0
    except KeyboardInterrupt:
        print(f"\ntubevit {name}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError) as error:
        if shows_traceback:
            raise
        print(f"tubevit {name}: error: {one_line(error)}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments on one line, like every other error, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        if message.startswith("unrecognized arguments: -"):
            close = difflib.get_close_matches(unknown, self._option_string_actions, n=1)
            message = f"there is no option {unknown}" + (f", the nearest is {close[0]}" if close else "")
        self.exit(2, f"{self.prog}: error: {message} (`{self.prog} --help` lists all there is)\n")


def _parse_command_name(argv: Sequence[str]) -> str | None:
    """The subcommand that `argv`, at most one argument, asks for; `None` if it asked for help, which is printed."""
    table = "\n".join(f"  {name:<12}{summary}" for name, (_, summary) in COMMANDS.items())
    parser = _Parser(
        prog="tubevit",
        usage="tubevit COMMAND [...]",
        description="TubeViT: sparse video tubes, one set of weights for images and videos.",
        epilog=f"commands:\n{table}\n\n`tubevit COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tubevit {version('tubevit')}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    name = parser.parse_args(argv).command
    if name is None:
        parser.print_help()
    elif name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(COMMANDS)}."
        parser.error(f"there is no command {name!r}; {hint}")
    return name
