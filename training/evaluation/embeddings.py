# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Files of embeddings: a Parquet table with a row per video, or an array (`.npy`) with the other columns in a JSON file beside it.

A run saves its embeddings in parts, in the folder `FILE.parts`, so that it can be resumed after it was stopped, with any number of
processes. The parts are merged into the file when all videos are done.
"""

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..options import one_line
from ..run_folder import write_json
from .results import valid_text


SUFFIXES = (".parquet", ".npy")
EMBEDDING = "embedding"  # column of a Parquet file
METADATA = b"tubevit"  # key of the settings in the metadata of a Parquet file
SETTINGS_FILE = "settings.json"  # of a folder of parts
VIDEOS_PER_PART, BYTES_PER_PART, SECONDS_PER_PART = 256, 1 << 26, 60.0
BYTES_PER_GROUP = 1 << 26  # of the rows that are written at once

Key = tuple[str, str]  # split and id of a video


class Row(NamedTuple):
    """A video of the file. label: class name, a list of names for several labels, `None` if unknown. group: `None` if unknown."""

    video_id: str
    split: str
    label: str | list[str] | None
    group: str | None
    path: str

    @property
    def key(self) -> Key:
        return self.split, self.video_id


@dataclass
class Embeddings:
    """
    The content of a file.

    columns: name to values, one for each video: those of `Row`; in a Parquet file of another program, its columns.
    vectors: float32 `(videos, *shape)`. settings: the model and the clips, by `tubevit embed`; empty for another program.
    """

    columns: dict[str, list]
    vectors: np.ndarray
    settings: dict[str, Any] = field(default_factory=dict)


def check_name(path: Path) -> None:
    """Raise `ValueError` for a name that does not end with one of `SUFFIXES`, or `OSError` for a folder that does not exist."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"output={path} must end with {' or '.join(SUFFIXES)}.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"output={path}: there is no folder {path.parent}.")


def files_of(path: Path) -> list[Path]:
    """The files that hold the embeddings: `path`, and for an array the JSON file beside it."""
    return [path] if path.suffix == ".parquet" else [path, path.with_suffix(".json")]


def parts_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


def check_new(path: Path) -> None:
    """Raise `FileExistsError` if the file exists, or parts of a run that was stopped."""
    for each in files_of(path):
        if each.exists():
            raise FileExistsError(
                f"{each} exists: name another output, or add the videos that it lacks with --resume."
            )
    if has_parts(path):
        raise FileExistsError(
            f"{parts_folder(path)} holds the embeddings of a run that was stopped: continue it with --resume, or remove the folder."
        )


def has_parts(path: Path) -> bool:
    """Whether a run that was stopped left embeddings of the file `path`."""
    return any(parts_folder(path).glob("*.arrow"))


def is_complete(path: Path) -> bool:
    """
    Whether the file exists, with the JSON file of an array.

    Raises `FileExistsError` for one of the two files without parts of a run: it is not of `tubevit embed`, and would be overwritten.
    """
    found = [each for each in files_of(path) if each.exists()]
    if 0 < len(found) < len(files_of(path)) and not has_parts(path):
        (missing,) = set(files_of(path)) - set(found)
        raise FileExistsError(f"{found[0]} exists, and there is no {missing.name} beside it: name another output.")
    return len(found) == len(files_of(path))


def check_resumed(path: Path, settings: dict[str, Any], keys: Collection[Key]) -> list[str]:
    """
    What is resumed: the file `path`, parts of it, or nothing.

    settings: of this run. keys: of its videos.

    Raises `ValueError` that names the first setting that differs, or a video of the file that this run does not have.
    """
    found, folder = {}, parts_folder(path)
    if is_complete(path):
        found[str(path)] = read_settings(path)
    if has_parts(path):
        with _readable(folder / SETTINGS_FILE):
            found[str(folder)] = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    for where, saved in found.items():
        for name, value in json.loads(json.dumps(settings)).items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{where} was written with {name}={saved.get(name)!r}, and this run has {name}={value!r}: name another output."
                )
    if lost := [key for key in SavedVectors(path).places if key not in keys]:
        raise ValueError(
            f"{' and '.join(found)} hold {len(lost)} videos that this run does not have, such as {lost[0][1]} of the split {lost[0][0]}: "
            "name another output."
        )
    return list(found)


class PartWriter:
    """
    Saves the embeddings of one process in parts.

    path: of the final file. rank: of the process. settings: saved with the parts. The parts of an earlier run are kept.
    """

    def __init__(self, path: Path, rank: int, settings: dict[str, Any]):
        self.folder, self.rank, self.settings = parts_folder(path), rank, settings
        self.number = len(list(self.folder.glob(f"rank{rank}-*.arrow")))
        self.rows: list[tuple[str, str, str]] = []
        self.vectors: list[np.ndarray] = []
        self.shape: tuple[int, ...] | None = None
        self.last = time.monotonic()

    def add(self, split: str, video_id: str, path: str, vector: np.ndarray) -> None:
        """Raises `ValueError` for a vector of another shape than that of the first video."""
        self.shape = self.shape or vector.shape
        if vector.shape != self.shape:
            raise ValueError(
                f"The embedding of {path or video_id} has the shape {vector.shape}, that of the first video {self.shape}: frames of several "
                "sizes have several numbers of tokens; set level=pooled."
            )
        self.rows.append((split, valid_text(video_id), valid_text(path)))
        self.vectors.append(vector)
        is_full = len(self.rows) >= VIDEOS_PER_PART or len(self.rows) * vector.nbytes >= BYTES_PER_PART
        if is_full or time.monotonic() - self.last >= SECONDS_PER_PART:
            self.flush()

    def close(self) -> None:
        """Save the rest, also when the run is interrupted."""
        self.flush()

    def flush(self) -> None:
        """Write the videos since the last part. A part is complete, or it does not exist."""
        if self.rows:
            import pyarrow as pa

            splits, ids, paths = zip(*self.rows, strict=True)
            table = pa.table(
                {"split": splits, "video_id": ids, "path": paths, EMBEDDING: as_lists(np.stack(self.vectors))}
            )
            self._write_settings()
            target = self.folder / f"rank{self.rank}-{self.number:06d}.arrow"
            temporary = target.with_suffix(".tmp")
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            os.replace(temporary, target)
            self.number += 1
            self.rows, self.vectors = [], []
        self.last = time.monotonic()

    def _write_settings(self) -> None:
        if not (self.folder / SETTINGS_FILE).exists():
            self.folder.mkdir(exist_ok=True)
            temporary = self.folder / f"rank{self.rank}.tmp"
            write_json(temporary, self.settings)
            os.replace(temporary, self.folder / SETTINGS_FILE)


class SavedVectors:
    """The embeddings of the parts and of an earlier file, by key. Those of the parts stay on the disk."""

    def __init__(self, path: Path):
        import pyarrow as pa

        self.places: dict[Key, tuple[np.ndarray, int, str]] = {}
        if is_complete(path):
            earlier = read_embeddings(path)
            self._add(earlier.columns, earlier.vectors)
        for part in sorted(parts_folder(path).glob("*.arrow")):
            with _readable(part):
                table = pa.ipc.open_file(pa.memory_map(str(part))).read_all()
            columns = {name: table[name].to_pylist() for name in ("split", "video_id", "path")}
            self._add(columns, from_lists(table[EMBEDDING]))

    def _add(self, columns: dict[str, list], vectors: np.ndarray) -> None:
        for index, (split, video_id, path) in enumerate(
            zip(columns["split"], columns["video_id"], columns["path"], strict=True)
        ):
            self.places[split, video_id] = vectors, index, path

    def vector(self, key: Key) -> np.ndarray:
        vectors, index, _ = self.places[key]
        return vectors[index]

    def path(self, key: Key) -> str:
        return self.places[key][2]


def finish(path: Path, rows: Sequence[Row], settings: dict[str, Any]) -> tuple[int, ...]:
    """
    Write the embeddings of `rows`, all of which are saved, in this order, and remove the parts. Returns the shape of an embedding.

    Raises `ValueError` if two videos have embeddings of different shapes.
    """
    saved = SavedVectors(path)
    shapes = {saved.vector(row.key).shape for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"The embeddings have the shapes {', '.join(map(str, sorted(shapes)))}: frames of several sizes have several numbers of "
            "tokens; set level=pooled."
        )
    (shape,) = shapes
    rows = [row._replace(path=saved.path(row.key)) for row in rows]
    step = max(1, BYTES_PER_GROUP // (4 * int(np.prod(shape))))

    def groups() -> Iterator[tuple[Sequence[Row], np.ndarray]]:
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            yield part, np.stack([saved.vector(row.key) for row in part])

    settings = {**settings, "shape": list(shape), "num_videos": len(rows)}
    temporary = [each.with_name(f"{each.name}.tmp") for each in files_of(path)]
    if path.suffix == ".parquet":
        _write_parquet(temporary[0], groups(), settings)
    else:
        _write_array(temporary, rows, groups(), shape, settings)
    for source, target in zip(temporary, files_of(path), strict=True):
        os.replace(source, target)
    shutil.rmtree(parts_folder(path), ignore_errors=not parts_folder(path).exists())
    return shape


def _write_parquet(path: Path, groups: Iterator[tuple[Sequence[Row], np.ndarray]], settings: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for rows, vectors in groups:
            label = pa.list_(pa.string()) if settings["multi_label"] else pa.string()
            types = {name: label if name == "label" else pa.string() for name in Row._fields}
            columns = {name: pa.array([getattr(row, name) for row in rows], kind) for name, kind in types.items()}
            table = pa.table({**columns, EMBEDDING: as_lists(vectors)})
            table = table.replace_schema_metadata({METADATA: json.dumps(settings)})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _write_array(
    paths: list[Path],
    rows: Sequence[Row],
    groups: Iterator[tuple[Sequence[Row], np.ndarray]],
    shape: tuple[int, ...],
    settings: dict[str, Any],
) -> None:
    array = np.lib.format.open_memmap(paths[0], mode="w+", dtype=np.float32, shape=(len(rows), *shape))
    first = 0
    for part, vectors in groups:
        array[first : first + len(part)] = vectors
        first += len(part)
    array.flush()
    write_json(paths[1], {"settings": settings, "rows": [row._asdict() for row in rows]})


def read_settings(path: Path) -> dict[str, Any]:
    """
    The settings of a file of `tubevit embed`; empty for a Parquet file of another program.

    Raises `ValueError` for a file that is damaged.
    """
    if path.suffix == ".npy":
        return _read_rows(path.with_suffix(".json"))[0]
    import pyarrow.parquet as pq

    with _readable(path):
        return json.loads((pq.read_schema(path).metadata or {}).get(METADATA, b"{}"))


def read_embeddings(path: Path) -> Embeddings:
    """
    Read a file of `tubevit embed`, or a Parquet table of another program with a column `embedding` of lists of equal length.

    Raises `OSError` for a missing file, and `ValueError` for one that is damaged or does not hold embeddings, or holds NaN or inf.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is not a file of embeddings, which end with {' or '.join(SUFFIXES)}.")
    for each in files_of(path):
        if not each.is_file():
            hint = f" Run tubevit embed again with --resume: it goes on from {parts_folder(path)}."
            raise FileNotFoundError(f"There is no file {each}.{hint if parts_folder(path).is_dir() else ''}")
    if path.suffix == ".npy":
        settings, columns = _read_rows(path.with_suffix(".json"))
        with _readable(path), path.open("rb") as file:
            vectors = np.lib.format.read_array(file, allow_pickle=False)
        if vectors.ndim == 0 or len(columns["video_id"]) != len(vectors):
            raise ValueError(
                f"{path} has {len(np.atleast_1d(vectors))} embeddings and {path.with_suffix('.json')} {len(columns['video_id'])} rows: the "
                "two files do not belong together."
            )
        return Embeddings(columns, _checked(path, vectors), settings)
    import pyarrow.parquet as pq

    with _readable(path):
        table = pq.read_table(path)
    if EMBEDDING not in table.column_names:
        raise ValueError(f"{path} has no column {EMBEDDING!r}; it has: {', '.join(table.column_names)}.")
    columns = {name: table[name].to_pylist() for name in table.column_names if name != EMBEDDING}
    return Embeddings(columns, _checked(path, from_lists(table[EMBEDDING])), read_settings(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise `ValueError` of one line for a file whose content cannot be parsed, within the context."""
    try:
        yield
    except ValueError as error:  # of json, NumPy and Arrow
        raise ValueError(
            f"{path} cannot be read: it is damaged, or not of this format ({one_line(error)})."
        ) from error


def _read_rows(path: Path) -> tuple[dict[str, Any], dict[str, list]]:
    """The settings and the columns of the JSON file beside an array. Raises `ValueError` for other content."""
    with _readable(path):
        content = json.loads(path.read_text(encoding="utf-8"))
    try:
        settings, columns = content["settings"], {name: [row[name] for row in content["rows"]] for name in Row._fields}
    except (KeyError, TypeError):
        raise ValueError(f"{path} does not hold the settings and rows that tubevit embed writes.") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path} does not hold the settings and rows that tubevit embed writes.")
    return settings, columns


def _checked(path: Path, vectors: np.ndarray) -> np.ndarray:
    """`vectors` as float32. Raises `ValueError` if there are none, or if they are no finite numbers."""
    if not np.issubdtype(vectors.dtype, np.floating) and not np.issubdtype(vectors.dtype, np.integer):
        raise ValueError(f"The embeddings of {path} have the type {vectors.dtype}; real numbers are needed.")
    if not vectors.size:
        raise ValueError(f"{path} holds no numbers: its embeddings have the shape {vectors.shape}.")
    vectors = vectors.astype(np.float32, copy=False)
    is_finite = np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    if not is_finite.all():
        raise ValueError(
            f"{path} has NaN or inf in {(~is_finite).sum()} of {len(vectors)} embeddings; the first is that of row {is_finite.argmin()}, "
            "counted from 0."
        )
    return vectors


def as_lists(vectors: np.ndarray) -> Any:
    """float32 `(videos, *shape)` as an Arrow array of nested lists of fixed sizes."""
    import pyarrow as pa

    array = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    for size in reversed(vectors.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def from_lists(column: Any) -> np.ndarray:
    """The inverse of `as_lists` for an Arrow column; lists of variable type must have equal lengths."""
    import pyarrow as pa

    if not len(column):
        return np.empty((0,), np.float32)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    shape = [len(array)]
    while pa.types.is_nested(array.type):
        if pa.types.is_fixed_size_list(array.type):
            size = array.type.list_size
        else:
            sizes = set(array.value_lengths().to_pylist())
            if len(sizes) != 1 or None in sizes:
                raise ValueError(f"The lists of the column {EMBEDDING!r} do not have equal lengths.")
            (size,) = sizes
        shape.append(size)
        array = array.flatten()
    if not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        raise ValueError(f"The column {EMBEDDING!r} has the type {column.type}; lists of real numbers are needed.")
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(shape)


def make_row(video_id: str, split: str, label: Any, group: str | None, class_names: list[str]) -> Row:
    """A row of the file; its path is set when its embedding is there. label: class index, a list of indices, or `None`."""
    names: Any = None
    if label is not None:
        names = class_names[label] if isinstance(label, int) else [class_names[each] for each in label]
    return Row(valid_text(video_id), split, names, group, "")
