# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The index: the rows of a data set in one Arrow file, which all processes and all later runs map into memory.

Reading the annotations of 240,000 videos takes some 10 s and 300 MB in each process. The first process reads them and writes the
index; the others wait for its lock and map the file. A later run maps it too if the annotation files, the names in the folders and
the options are the same (`recorded_inputs`).

Files in `index/` of the cache folder (`cache_folder`), because a data set may be on a read-only disk:

    <hash of the data's paths>/<hash of the options>.json   name of the rows' file
    <hash of the content>.arrow                             rows of all splits; class names, messages and inputs in its metadata

A file of rows is never changed, because running processes read it: a changed data set gets a new file. Both kinds of files are
written under another name and renamed when they are complete.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..environment import cache_folder
from .data_config import VideoData
from .dataset_columns import GROUP, arrow_column, without_group
from .media_files import MEDIA_SUFFIXES
from .recorded_inputs import RecordedInputs


MIN_ROWS = 1000  # fewer rows are read faster than the index is checked
ROWS_PER_BATCH = 10_000
DAYS_UNUSED = 30  # after which the rows' file of an old index is removed
METADATA, INPUTS = b"tubevit", b"tubevit_inputs"


class InvalidIndex(ValueError):
    """The index must not be used. The message is the reason."""


class AnnotationIndex:
    """
    The index of the annotations at `paths`, read with `options`.

    paths: files and folders that the user gave.
    options: all that determines the rows besides the content of files and folders, as JSON types.

    Attributes: `reason`, why `find` returned nothing, `None` if there was no index yet; `error`, why no index can be written.
    """

    def __init__(self, paths: list[str], options: dict[str, Any]):
        self.root = cache_folder() / "index"
        is_relative = any(not os.path.isabs(path) for path in paths)
        options = options | {"folder": os.getcwd() if is_relative else None, "code": _hash_code()}
        self.folder = self.root / _hash_json([os.path.abspath(path) for path in paths])
        self.pointer = self.folder / f"{_hash_json(options)}.json"
        self.reason: str | None = None
        self.error: str | None = None

    def find(self) -> VideoData | None:
        """The data set, if there is an index and it is valid."""
        self.reason = None
        if not self.pointer.exists():
            has_other = self.folder.is_dir() and any(self.folder.glob("*.json"))
            self.reason = "the options or the version of TubeViT have changed" if has_other else None
            return None
        try:
            return self._open()
        except InvalidIndex as error:
            self.reason = str(error)
        except OSError as error:
            self.reason = f"it cannot be read ({error})"
        return None

    def _open(self) -> VideoData:
        content = self.pointer.read_bytes()
        try:
            file = self.root / json.loads(content)["rows"]
        except (ValueError, KeyError, TypeError):
            raise InvalidIndex(f"{self.pointer} is damaged") from None
        if not file.is_file() or f"{_hash_file(file)}.arrow" != file.name:
            raise InvalidIndex(f"{file} is missing or damaged")
        if change := RecordedInputs.from_bytes(_read_metadata(file)[INPUTS]).find_change():
            raise InvalidIndex(change)
        return _map_rows(file)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time is in this context, unless the cache cannot be written. A process that is killed leaves it."""
        from huggingface_hub.utils import WeakFileLock

        with ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(WeakFileLock(self.folder / "lock"))
            except OSError as error:
                self.error = f"{self.folder} cannot be written ({error.strerror or error})"
            yield

    def store(self, data: VideoData, inputs: RecordedInputs, seconds: float) -> VideoData:
        """
        Write the index, and return `data` mapped from it; `data` itself if it is small or if the cache cannot be written.

        seconds: the time that reading took, for a message.
        """
        number = sum(map(len, data.splits.values()))
        if number < MIN_ROWS:
            return data
        paths = [path for rows in data.splits.values() for path in arrow_column(rows, data.media, "path").to_pylist()]
        inputs.watch_times(path for path in paths if os.path.splitext(path)[1].lower() not in MEDIA_SUFFIXES)
        try:
            if self.error is None:
                file = self._write(data, inputs)
        except OSError as error:
            self.error = f"{self.root} cannot be written ({error.strerror or error})"
        if self.error is not None:
            data.messages.append(f"{self.error}: each process reads the annotations again at each start.")
            return data
        mapped = _map_rows(file)
        reason = f", because {self.reason}" if self.reason else ""
        mapped.messages[-1] = (
            f"The annotations of {number:,} {data.media}s were read in {seconds:.0f} s{reason}; later runs map them from {file}."
        )
        return mapped

    def _write(self, data: VideoData, inputs: RecordedInputs) -> Path:
        import pyarrow

        metadata = {name: value for name, value in vars(data).items() if name not in ("index", "groups")}
        metadata["splits"] = {split: len(rows) for split, rows in data.splits.items()}
        splits = [rows.add_column(GROUP, data.groups[split]) for split, rows in data.splits.items()]
        schema = max(splits, key=lambda rows: len(rows.features)).features.arrow_schema  # a split may have no segments
        tables = [rows.with_format("arrow")[:] for rows in splits]
        table = pyarrow.concat_tables(tables, promote_options="default").select(schema.names).cast(schema)
        own = {METADATA: json.dumps(metadata).encode(), INPUTS: inputs.to_bytes()}
        table = table.replace_schema_metadata({**schema.metadata, **own})
        with _new_file(self.root) as new:
            with pyarrow.OSFile(str(new), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=ROWS_PER_BATCH)
            file = self.root / f"{_hash_file(new)}.arrow"
            os.replace(new, file)
        with _new_file(self.folder) as new:
            new.write_text(json.dumps({"rows": file.name}), encoding="utf-8")
            os.replace(new, self.pointer)
        _remove_unused(self.root)
        return file


def _read_metadata(file: Path) -> dict[bytes, bytes]:
    import pyarrow

    with pyarrow.memory_map(str(file)) as source:
        return pyarrow.ipc.open_stream(source).schema.metadata


def _map_rows(file: Path) -> VideoData:
    from datasets import Dataset

    metadata = json.loads(_read_metadata(file)[METADATA])
    created = file.stat().st_mtime
    with suppress(PermissionError):  # the cache of another user
        os.utime(file, (time.time(), created))  # the time of access, for `_remove_unused`
    numbers, start = metadata.pop("splits"), 0
    data, every_row = VideoData(splits={}, index=file, **metadata), Dataset.from_file(str(file))
    for split, number in numbers.items():
        rows = every_row.select(range(start, start + number))
        data.groups[split], data.splits[split] = rows[GROUP], without_group(rows)
        start += number
    data.messages.append(
        f"The annotations are mapped from the index of {time.strftime('%Y-%m-%d %H:%M', time.localtime(created))} ({file}): "
        "files, folders and options are unchanged."
    )
    return data


@contextmanager
def _new_file(folder: Path) -> Iterator[Path]:
    """A path for a new file, which is removed if it still exists at the end."""
    path = folder / f"unfinished-{uuid4().hex}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _remove_unused(root: Path) -> None:
    """Remove files of rows that no run has mapped for `DAYS_UNUSED` days, and what killed processes left."""
    oldest = time.time() - 86_400 * DAYS_UNUSED
    for file in (*root.glob("*.arrow"), *root.glob("**/unfinished-*")):
        with suppress(FileNotFoundError):  # another process has removed it
            if file.stat().st_atime < oldest:
                for each in (file, file.with_suffix(".checked.json")):
                    each.unlink(missing_ok=True)


def _hash_file(path: Path) -> str:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _hash_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True).encode(errors="surrogateescape")
    return blake2b(text, digest_size=16).hexdigest()


def _hash_code() -> str:
    """A hash of the modules that read annotations, so that no index outlives a change of them."""
    from tubevit.processing import frame_folders

    digest = blake2b(sys.version.encode(), digest_size=16)
    for path in (*sorted(Path(__file__).parent.rglob("*.py")), Path(frame_folders.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()
