# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Records the files and folders from which annotations are read, with fingerprints that tell whether they have changed since.

The functions that read a file or list a folder of a data set call `record_file` or `record_folder` before. The index
(`annotation_index`) stores the fingerprints and is used as long as they hold.
"""

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path


MAX_HASHED_BYTES = 1 << 28  # a larger file is compared by its size and time of change
MISSING = "missing"
FILE, FOLDER, FRAMES, SHARD, REMOTE_SHARDS = "file", "folder", "frame folder", "shard", "remote folder of shards"


def fingerprint_file(path: str | Path) -> str:
    """A hash of the content of a file; for a file above 256 MiB its size and time of change; `MISSING` if there is no file."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_HASHED_BYTES:
                return f"{status.st_size}/{status.st_mtime_ns}"
            return blake2b(file.read(), digest_size=16).hexdigest()
    except OSError:
        return MISSING


def fingerprint_folder(path: str | Path) -> str:
    """
    A hash of the names in a folder, of their kinds (file, folder, link) and of the targets of links; `MISSING` if there is no
    folder. No file is opened, and no look-up is made for a name except for links: the folder may hold 240,000 files on a network.
    """
    try:
        with os.scandir(path) as entries:
            names = [_describe(entry) for entry in entries]
    except OSError:
        return MISSING
    content = "\0".join(sorted(names)).encode(errors="surrogateescape")
    return blake2b(content, digest_size=16).hexdigest()


def _describe(entry: os.DirEntry) -> str:
    if entry.is_symlink():
        return f"{entry.name}\0{os.readlink(entry.path)}"
    return f"{entry.name}/" if entry.is_dir() else entry.name


def time_of_change(path: str | Path) -> str:
    """The time at which a name in a folder was last added, removed or changed, in nanoseconds; `MISSING` if there is no folder."""
    try:
        return str(os.stat(path).st_mtime_ns)
    except OSError:
        return MISSING


def size_and_time(path: str | Path) -> str:
    """Size and time of change of a file that is too large to be hashed; `MISSING` if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return MISSING
    return f"{status.st_size}/{status.st_mtime_ns}"


# `shards` adds the function of REMOTE_SHARDS.
FINGERPRINTS: dict[str, Callable[[str], str]] = {
    FILE: fingerprint_file,
    FOLDER: fingerprint_folder,
    FRAMES: time_of_change,
    SHARD: size_and_time,
}


class RecordedInputs:
    """Files and folders with their fingerprints: `entries` maps (kind, absolute path or URL) to a fingerprint."""

    def __init__(self, entries: dict[tuple[str, str], str] | None = None):
        self.entries = {} if entries is None else entries
        self.begin = time.time_ns()

    def add(self, kind: str, path: str | Path) -> None:
        key = (kind, str(path) if kind == REMOTE_SHARDS else os.path.abspath(path))
        if key not in self.entries:
            self.entries[key] = FINGERPRINTS[kind](key[1])

    def watch_times(self, folders: Iterable[str]) -> None:
        """
        Compare frame folders by their time of change instead of their names: 240,000 folders hold 70 million pictures. A folder that
        changed while the annotations were read counts as changed.
        """
        for folder in folders:
            path = os.path.abspath(folder)
            self.entries.pop((FOLDER, path), None)
            fingerprint = time_of_change(path)
            is_new = fingerprint != MISSING and int(fingerprint) >= self.begin
            self.entries[FRAMES, path] = MISSING if is_new else fingerprint

    def find_change(self) -> str | None:
        """The first path that has changed since it was recorded, in words; `None` if none has."""
        for (kind, path), fingerprint in self.entries.items():
            if FINGERPRINTS[kind](path) != fingerprint:
                return f"the {kind} {path} has changed"
        return None

    def to_bytes(self) -> bytes:
        fields = [field for (kind, path), fingerprint in self.entries.items() for field in (kind, fingerprint, path)]
        return zlib.compress("\0".join(fields).encode(errors="surrogateescape"))

    @classmethod
    def from_bytes(cls, content: bytes) -> "RecordedInputs":
        fields = zlib.decompress(content).decode(errors="surrogateescape").split("\0")
        triples = zip(fields[::3], fields[1::3], fields[2::3], strict=False)
        return cls({(kind, path): fingerprint for kind, fingerprint, path in triples})


_CURRENT: ContextVar[RecordedInputs | None] = ContextVar("recorded_inputs", default=None)


@contextmanager
def record_inputs() -> Iterator[RecordedInputs]:
    """Record what is read and listed within the context."""
    inputs = RecordedInputs()
    token = _CURRENT.set(inputs)
    try:
        yield inputs
    finally:
        _CURRENT.reset(token)


def record_file(path: str | Path) -> None:
    """Called before a file is read, or before its existence decides about something."""
    if (inputs := _CURRENT.get()) is not None:
        inputs.add(FILE, path)


def record_folder(path: str | Path) -> None:
    """Called before a folder is listed."""
    if (inputs := _CURRENT.get()) is not None:
        inputs.add(FOLDER, path)


def record_shard(path: str | Path) -> None:
    """Called before a shard is read: its size and time of change are recorded."""
    if (inputs := _CURRENT.get()) is not None:
        inputs.add(SHARD, path)


def record_remote_shards(url: str) -> None:
    """Called before a folder of shards with a manifest is read in remote storage."""
    if (inputs := _CURRENT.get()) is not None:
        inputs.add(REMOTE_SHARDS, url)
