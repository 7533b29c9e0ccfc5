# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Distinguish error messages for the user from programming errors.

A message is printed on one line, a programming error with its traceback. The type does not distinguish them: our checks raise
`ValueError`, and so does torch for a bug in our code. The place does: a message for the user comes from a `raise` statement of this
package, or of a library module that checks user input. Every other exception is a programming error.
"""

import dis
import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .options import one_line


# Modules of libraries whose `raise` statements report wrong options, files and names of the user.
CHECKING_MODULES = (
    "accelerate",
    "datasets",
    "huggingface_hub",
    "transformers.configuration_utils",
    "transformers.dynamic_module_utils",
    "transformers.hf_argparser",
    "transformers.modeling_utils",
    "transformers.models.auto",
    "transformers.pipelines",
    "transformers.training_args",
    "transformers.utils",
)
PACKAGE = __name__.partition(".")[0]


def is_user_error(error: Exception) -> bool:
    """Whether the message of `error` is meant for the user; see the module's docstring."""
    if isinstance(error, AssertionError):
        return False
    if isinstance(error, OSError) or type(error).__module__.startswith(f"{PACKAGE}."):
        return True
    if isinstance(error, ImportError) and error.name is not None:
        return (
            error.name.partition(".")[0] != PACKAGE
        )  # a missing or outdated package, not a name missing in this package
    remote = _worker_traceback(error)
    if remote is not None:
        return _ends_in_our_raise(remote)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and _is_raise(last) and _is_in(last, (PACKAGE, *CHECKING_MODULES))


def error_message(error: Exception) -> str:
    """The message of `error` on one line, without the traceback of a worker process."""
    remote = _worker_traceback(error)
    if remote is None:
        return one_line(error)
    message = remote.rstrip().rpartition("\n")[2]
    return re.sub(r"^[\w.]+(Error|Exception): ", "", message)


def with_name(name: str, function: Any, *args: Any) -> Any:
    """Call `function(*args)`; an error message for the user is raised again with the name of the data set."""
    try:
        return function(*args)
    except (ValueError, OSError) as error:
        if not is_user_error(error):
            raise
        raise (ValueError if isinstance(error, ValueError) else OSError)(f"datasets.{name}: {error}") from error


def run_script(main: Callable[[], int]) -> int:
    """The exit code of a script's `main`: 2 after an error of the user, whose message is printed on one line."""
    try:
        return main()
    except Exception as error:
        if not is_user_error(error):
            raise
        print(f"error: {error_message(error)}", file=sys.stderr)
        return 2


def _worker_traceback(error: Exception) -> str | None:
    """The traceback of a worker process, as text: a DataLoader puts it into the message, a process pool into the cause."""
    if re.match(r"Caught \w+ in DataLoader worker process", str(error)):
        return str(error)
    if type(error.__cause__).__name__ == "_RemoteTraceback":
        return str(error.__cause__).strip().strip('"')
    return None


def _ends_in_our_raise(traceback: str) -> bool:
    """Whether the last frame of a traceback, given as text, is a `raise` statement of this package."""
    frames = re.findall(r'^\s*File "(.*?)", line \d+.*\n\s*(.*)$', traceback, re.MULTILINE)
    if not frames:
        return False
    path, source = frames[-1]
    folders = [str(folder) for folder in _package_folders()]
    return source.startswith("raise ") and any(path.startswith(folder) for folder in folders)


def _package_folders() -> list[str]:
    """The folders of this package's modules: one in a wheel, three in a checkout."""
    import tubevit
    import tubevit.processing
    import tubevit.training

    return [folder for package in (tubevit, tubevit.processing, tubevit.training) for folder in package.__path__]


def _is_raise(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_code[frame.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _is_in(frame: TracebackType, modules: tuple[str, ...]) -> bool:
    name = frame.tb_frame.f_globals.get("__name__", "")
    return any(name == module or name.startswith(f"{module}.") for module in modules)
