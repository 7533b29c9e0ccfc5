# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The `tubevit` command: a table of sub-commands, each a module with `add_arguments(parser)` and `run(args)`.

A module is imported when its sub-command is called, so `tubevit --help` imports neither torch nor Transformers. `run` returns
the exit code (`None` means 0). An error for the user (`errors.is_user_error`) is printed on one line, with exit code 2; with
`--traceback` it shows its traceback. A programming error always shows its traceback.
"""

import argparse
import difflib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

import tubevit

from .command_line import parse_arguments
from .errors import error_message, is_user_error
from .launch import (
    INTERRUPTED,
    IS_LAUNCHED,
    add_launch_arguments,
    end_processes,
    launch,
    pop_launch_options,
    report,
    should_launch,
)
from .option_names import nearest_names


OUTPUT_CLOSED = 141  # exit code after SIGPIPE, as shells report it
# Title of a group in the help to its commands: name to module under tubevit.training and summary.
GROUPS = {
    "everyday": {
        "train": ("run_video_classification", "fine-tune a classifier of videos, of images, or of both together"),
        "train-loop": (
            "run_video_classification_no_trainer",
            "fine-tune with a plain Accelerate loop, written to be copied and changed",
        ),
        "eval": (
            "evaluate_video_classification",
            "evaluate a classifier on a data set, with several views per video",
        ),
        "predict": ("commands.predict", "classify videos and images"),
        "watch": ("commands.watch", "find events in a long video, a camera or a network stream"),
        "serve": ("commands.serve", "answer HTTP requests with the labels of uploaded videos"),
        "embed": ("commands.embed", "write the embeddings of a data set to a file"),
        "probe": (
            "commands.probe",
            "score embeddings by ridge regression, k-nearest neighbors and an attentive probe",
        ),
    },
    "models": {
        "convert": ("commands.convert", "convert an image ViT to TubeViT, or published UniFormerV2 and ViViT weights"),
        "export": ("commands.export", "write a checkpoint with its code, to load it without this package"),
        "info": ("commands.info", "print tokens, parameters and GFLOPs of the presets or of a checkpoint"),
        "show": ("commands.show", "draw tubes on a clip, kernels, position embeddings, or attention"),
    },
    "data": {
        "data check": ("data.check_data", "find the files of a data set that cannot be decoded"),
        "data prepare": ("data.prepare", "re-encode a folder of videos so that they decode faster"),
        "data shard": (
            "data.shard_writer",
            "write a data set into tar or Parquet files, for storage that is slow with many files",
        ),
        "data synthesize": ("synthetic.synthesize", "write a synthetic data set whose classes differ only in motion"),
    },
    "this installation": {
        "demo": ("commands.demo", "train a tiny TubeViT on synthetic clips or on your videos, and draw a report"),
        "doctor": ("commands.doctor", "check the installation: versions, codecs, attention backends, matmul speed"),
        "bench": ("benchmarks.bench", "measure speed and memory of models, decoding, data loading and start-up"),
    },
    "experiments": {
        "experiments ablations": (
            "experiments.ablations",
            "list the paper's ablations, or train them at a small size",
        ),
        "experiments compare": (
            "experiments.comparison",
            "compare TubeViT with video models of Transformers, trained with equal FLOPs",
        ),
        "experiments budgets": (
            "experiments.budgets",
            "train one TubeViT for a range of token budgets, and compare it with models of one budget",
        ),
        "experiments baselines": (
            "experiments.linear_baselines",
            "train and evaluate linear baselines on one frame and on motion energy",
        ),
        "experiments transfer": (
            "experiments.transfer",
            "from an image ViT to a classifier of clips, with folds, beside other models and probes",
        ),
        "experiments results": ("experiments.results", "write RESULTS.md from result files and run folders"),
    },
}
COMMANDS = {
    name: (f"tubevit.training.{module}", summary)
    for group in GROUPS.values()
    for name, (module, summary) in group.items()
}
PREFIXES = ("data", "experiments")  # first words of commands that have two

# Names of the previous release; the next one removes them.
RENAMED = {
    "check-data": "data check",
    "prepare": "data prepare",
    "make-data": "data synthesize",
    "ablations": "experiments ablations",
    "sweep": "experiments ablations --train",
    "experiments sweep": "experiments ablations --train",
    "compare": "experiments compare",
    "baselines": "experiments baselines",
    "results": "experiments results",
}
IN_SEVERAL_PROCESSES = ("train", "train-loop", "eval", "embed")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tubevit` with `argv` (the process's arguments by default) and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a label that the terminal cannot show must not end the command
    argv = list(sys.argv[1:] if argv is None else argv)
    name, arguments = find_command(argv)
    if name is None:
        return 0
    shows_traceback = "--traceback" in arguments  # until the arguments are parsed
    try:
        module, parser = make_parser(name)
        args = parse_arguments(parser, arguments)
        shows_traceback = args.traceback
        if name in IN_SEVERAL_PROCESSES:
            options = pop_launch_options(args)
            if should_launch(options):
                return launch(f"{__package__}.cli", [name, *arguments], options)
        exit_code = module.run(args) or 0
        sys.stdout.flush()
        if name in IN_SEVERAL_PROCESSES:
            end_processes()
    except KeyboardInterrupt:
        report(f"\ntubevit {name}: interrupted")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            return OUTPUT_CLOSED
        if not shows_traceback and is_user_error(error):
            report(f"tubevit {name}: error: {error_message(error)} (--traceback shows where)")
            return 2
        if IS_LAUNCHED in os.environ:
            report(traceback.format_exc().rstrip())
            return 1
        raise
    if exit_code and IS_LAUNCHED in os.environ:
        report("")
    return exit_code


def _output_is_closed() -> bool:
    """
    Whether the reader of stdout is gone, as after `| head`. If so, later output goes nowhere, so that Python ends quietly.

    Always False on Windows, whose pipes cannot be polled.
    """
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    is_closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if is_closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_closed


def make_parser(name: str) -> tuple[ModuleType, argparse.ArgumentParser]:
    """The module of a sub-command and the parser of its options."""
    module_name, summary = COMMANDS[name]
    module = import_module(module_name)
    parser = _Parser(prog=f"tubevit {name}", description=summary[0].upper() + summary[1:] + ".")
    module.add_arguments(parser)
    if name in IN_SEVERAL_PROCESSES:
        add_launch_arguments(parser)
    parser.add_argument("--traceback", action="store_true", help="if an error occurs, show where it was raised")
    return module, parser


def find_command(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """
    The current name of the sub-command at the start of `argv`, and its arguments.

    Without a sub-command, or with `data` or `experiments` only, prints the list of sub-commands and returns `None`.
    """
    first, rest = (argv[0], list(argv[1:])) if argv else (None, [])
    if first in COMMANDS:
        return first, rest
    if first in RENAMED:
        return _current_command(first, rest)
    prefix = first if first in PREFIXES else None
    parser = _overview_parser(prefix)
    word = parser.parse_args(rest[:1] if prefix else argv[:1]).command
    if word is None:
        parser.print_help()
        return None, []
    name = f"{prefix} {word}" if prefix else word
    if name in RENAMED:
        return _current_command(name, rest[1:])
    if name not in COMMANDS:
        parser.error(f"there is no command {name!r}; {_nearest_command(name, prefix)}")
    return name, rest[1:]


def _current_command(old: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The command and the arguments for an old name, with a warning. The new name may include an option."""
    new = RENAMED[old]
    if os.environ.get("RANK", "0") == "0":
        print(
            f"warning: `tubevit {old}` is now `tubevit {new}`; the next release removes the old name.", file=sys.stderr
        )
    name, dashes, option = new.partition(" --")
    return name, [f"--{option}", *arguments] if dashes else arguments


def _nearest_command(name: str, prefix: str | None) -> str:
    known = {each: each for each in COMMANDS if prefix is None or each.startswith(f"{prefix} ")}
    known |= {each.partition(" ")[2]: each for each in known if " " in each}
    if prefix is None:
        known |= {each: each for each in PREFIXES} | RENAMED
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {known[close[0]]!r}?"
    return f"there are: {', '.join(each for each in COMMANDS if each in known)}."


def _overview_parser(prefix: str | None) -> "_Parser":
    """The parser of `tubevit` itself, of `tubevit data` or of `tubevit experiments`."""
    shown = {
        title: {
            name: summary for name, (_, summary) in group.items() if prefix is None or name.startswith(f"{prefix} ")
        }
        for title, group in GROUPS.items()
    }
    lines = []
    for title, group in shown.items():
        if group:
            lines += [f"{title}:", *(f"  {name:<23}{summary}" for name, summary in group.items()), ""]
    prog = f"tubevit {prefix}" if prefix else "tubevit"
    parser = _Parser(
        prog=prog,
        usage=f"{prog} COMMAND [--option value | option=value ...]",
        description="TubeViT for Transformers: a ViT for images and videos with sparse video tubes."
        if prefix is None
        else f"The sub-commands of `{prog}`.",
        epilog="\n".join([*lines, "`tubevit COMMAND --help` explains the options of a command."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if prefix is None:
        parser.add_argument("--version", action="version", version=f"tubevit {tubevit.__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments on one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        if message.startswith("unrecognized arguments: -"):
            shown = [each for each in self._actions if each.help is not argparse.SUPPRESS and each.dest != "help"]
            known = {option.lstrip("-"): option for each in shown for option in each.option_strings}
            # `normalize_argv` takes a positional argument by its name, too.
            positional = [
                each for each in shown if not each.option_strings and each.dest not in ("overrides", "command")
            ]
            known |= {name: f"--{each.dest}" for each in positional for name in (each.dest, str(each.metavar).lower())}
            close = dict.fromkeys(known[each] for each in nearest_names(unknown.lstrip("-"), known))
            nearest = f", the nearest {'is' if len(close) == 1 else 'are'} {', '.join(close)}" if close else ""
            message = f"there is no option {unknown}{nearest}"
        listed = "commands" if self.prog.removeprefix("tubevit").strip() in ("", *PREFIXES) else "options"
        report(f"{self.prog}: error: {message} (`{self.prog} --help` lists the {listed})")
        self.exit(2)


if __name__ == "__main__":
    sys.exit(main())
