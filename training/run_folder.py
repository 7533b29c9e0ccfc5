# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The folder that a command writes: found to be usable before any work is done, and never one that holds something."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


def check_new_folder(path: Path, hint: str = "name a new folder", may_hold: Collection[str] = ()) -> None:
    """
    Raise an `OSError` of one line for a folder to write that is a file or not empty.

    hint: what to do where it is not. may_hold: names of files that are no reason.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; a folder is needed.")
    if path.is_dir() and any(each.name not in may_hold for each in path.iterdir()):
        raise FileExistsError(f"{path} is not empty: {hint}.")


def make_writable(path: Path) -> None:
    """Make the folder if it is not there yet. Raises an `OSError` of one line if it cannot be written, or the disk is full."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror or error}.") from None


@contextmanager
def made_writable(path: Path) -> Iterator[None]:
    """As `make_writable`; new folders that nothing was written to are gone afterwards."""
    new = [folder for folder in [path, *path.parents] if not folder.exists()]
    try:
        make_writable(path)
        yield
    finally:
        for folder in new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def untouched(path: Path) -> Iterator[Path]:
    """For a dry run: `path` is found to be writable, and left as it is; a temporary folder is there to write to."""
    with made_writable(path), tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
