# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Shards: tar or Parquet files that hold many videos each, on a disk or in remote storage (every URL that fsspec opens).

A video of a shard is read at its place in the file. Its path is an address such as `train-000003.tar#1536+48213:8f3a2b1c:x.mp4`:
shard, offset and size in bytes, CRC-32, name of the member. A data set in shards is therefore read by index like a folder of
files: splits, the check of the files, evaluation and resuming a run need no special code.

`tubevit data shard` (`shard_writer`) writes two files beside the shards: `shards.json` with settings, counts and checksums, and
`shards.parquet` with a row per clip. Tar files without them are scanned once (`tar_scan`).
"""

import hashlib
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .recorded_inputs import FINGERPRINTS, MISSING, REMOTE_SHARDS, record_file, record_remote_shards, record_shard
from .segments import Segment


MANIFEST, INDEX = "shards.json", "shards.parquet"
UNFINISHED = "unfinished"  # folder of shards that are still written, in the folder of the shards
FORMAT, VERSION = "tubevit shards", 1
TAR_BLOCK = 512  # bytes; the header of a member is in the block before its content
NUM_TRIES, SECONDS_BETWEEN_TRIES = 3, 1.0  # for a read from remote storage
NUM_THREADS = 16  # that read from remote storage
ADDRESS = re.compile(r"(?P<shard>.+)#(?P<offset>\d+)\+(?P<size>\d+):(?P<crc>[0-9a-f]{8}|-):(?P<name>[^/]+)", re.DOTALL)
SERIES = re.compile(r"\{(\d+)\.\.(\d+)\}")  # range of numbers, as in "train-{000..127}.tar"
PATTERN = re.compile(r"[*?\[]")
REMOTE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash suffices, because `Path` removes the second one


class ShardError(ValueError):
    """A shard or a member of it cannot be read. The message is one line and names both."""


class Address(NamedTuple):
    """
    The place of a video in a shard.

    shard: path or URL. offset, size: of its bytes. crc: their CRC-32; `None` if unknown, for a tar without a manifest. name: of the
    member of a tar, or of the video of a Parquet row.

    >>> address = Address("s3://b/a.tar", 512, 90, 0xBEEF, "run/x.mp4")
    >>> str(address), Address.parse(str(address)) == address
    ('s3://b/a.tar#512+90:0000beef:run%2Fx.mp4', True)
    """

    shard: str
    offset: int
    size: int
    crc: int | None
    name: str

    def __str__(self) -> str:
        crc = "-" if self.crc is None else f"{self.crc:08x}"
        # Without slashes, so that the folder of the address is that of the shard.
        name = self.name.replace("%", "%25").replace("/", "%2F")
        return f"{self.shard}#{self.offset}+{self.size}:{crc}:{name}"

    @classmethod
    def parse(cls, path: str | None) -> "Address | None":
        """The address in the path of a row; `None` for the path of a file."""
        match = ADDRESS.fullmatch(path) if path is not None and "#" in path else None
        if match is None:
            return None
        crc = None if match["crc"] == "-" else int(match["crc"], 16)
        name = match["name"].replace("%2F", "/").replace("%25", "%")
        return cls(match["shard"], int(match["offset"]), int(match["size"]), crc, name)

    def __repr__(self) -> str:
        return f"{self.name} in {self.shard}"


# Storage


def is_remote(location: str | Path) -> bool:
    """Whether a location is the URL of remote storage."""
    return REMOTE.match(str(location)) is not None


def is_several(location: str) -> bool:
    """Whether a location is a pattern or a numbered series of files."""
    return SERIES.search(location) is not None or (PATTERN.search(location) is not None and location.endswith(".tar"))


def as_location(path: str | Path) -> str:
    """
    A path or URL as text. `Path` removes one of the two slashes of a URL; this adds it again.

    >>> as_location(Path("s3://bucket/a")), as_location("file:///data/a"), as_location("/data/a")
    ('s3://bucket/a', '/data/a', '/data/a')
    """
    text = re.sub(r"^file:(//)?(?=/)", "", str(path))
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)", r"\1://", text)


def join(folder: str, name: str) -> str:
    """The location of a file in a folder, for paths and URLs."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def filesystem(location: str) -> tuple[Any, str]:
    """The fsspec file system of a location and its path there. Raises `ShardError` if a package is missing."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(location)
    except ImportError as error:
        raise ShardError(f"{location} cannot be opened: {error}.") from error


def _forget_event_loop() -> None:
    """In a forked process: fsspec 2025.3.0 keeps the event loop of the parent, whose thread is gone, and every read waits forever."""
    if "fsspec.asyn" in sys.modules:
        sys.modules["fsspec.asyn"].reset_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_event_loop)


def read_file(location: str) -> bytes:
    """The content of a file. Raises `OSError`."""
    if not is_remote(location):
        return Path(location).read_bytes()
    fs, path = filesystem(location)
    return fs.cat_file(path)


def read_member(address: Address) -> bytes:
    """
    The bytes of a video.

    Raises `FileNotFoundError` for a missing shard, and `ShardError` for a shard that is cut off, cannot be read, or was changed
    since it was indexed.
    """
    before = TAR_BLOCK if address.crc is None else 0  # with the header, which then tells whether the tar is unchanged
    start, stop = address.offset - before, address.offset + address.size
    data = _read_remote(address, start, stop) if is_remote(address.shard) else _read_local(address, start, stop)
    if len(data) < stop - start:
        raise ShardError(
            f"The shard {address.shard} is cut off: {address.name} ends at byte {stop:,}, the file at byte {start + len(data):,}."
        )
    content = data[before:]
    is_same = zlib.crc32(content) == address.crc if address.crc is not None else _is_header(data[:before], address)
    if not is_same:
        raise ShardError(
            f"The shard {address.shard} was changed since it was indexed: {address.name} is not at byte {address.offset:,}."
        )
    return content


def _is_header(block: bytes, address: Address) -> bool:
    """Whether a block is the header of the member of a tar: its checksum and the size of the member."""
    import tarfile

    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape").size == address.size
    except tarfile.HeaderError:
        return False


def _read_local(address: Address, start: int, stop: int) -> bytes:
    try:
        with open(address.shard, "rb") as file:
            file.seek(start)
            return file.read(stop - start)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no shard {address.shard}, which holds {address.name}.") from None
    except OSError as error:
        raise ShardError(f"The shard {address.shard} cannot be read ({error.strerror}): {address.name}.") from error


def _read_remote(address: Address, start: int, stop: int) -> bytes:
    for number in range(1, NUM_TRIES + 1):
        fs, path = filesystem(address.shard)
        try:
            data = fs.cat_file(path, start=start, end=stop)
            break
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no shard {address.shard}, which holds {address.name}.") from None
        except Exception as error:  # every storage has its own
            if number == NUM_TRIES:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ShardError(f"The shard {address.shard} cannot be read ({reason}): {address.name}.") from error
            time.sleep(SECONDS_BETWEEN_TRIES * number)
    # A web server may ignore the range and send the whole file.
    return data[start:stop] if len(data) > stop - start else data


def readable_path(path: str | None) -> str | None:
    """The path of a row as messages show it: of a video in a shard its name and the shard."""
    address = Address.parse(path)
    return path if address is None else repr(address)


def is_in_remote_shard(path: str | None) -> bool:
    """Whether the path of a row is an address in remote storage."""
    address = Address.parse(path)
    return address is not None and is_remote(address.shard)


def read_members(paths: Iterable[str | None]) -> dict[str, bytes | Exception]:
    """The videos with addresses in remote storage among `paths`, read at the same time, or the error of each; for `with_bytes`."""
    found = {path: Address.parse(path) for path in paths if is_in_remote_shard(path)}

    def read(address: Address) -> bytes | Exception:
        try:
            return read_member(address)
        except (ValueError, OSError) as error:
            return error

    return dict(zip(found, _pool(os.getpid()).map(read, found.values()), strict=True)) if found else {}


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process that read from remote storage; a process that was forked from another one has its own."""
    return ThreadPoolExecutor(NUM_THREADS)


def with_bytes(video: dict[str, Any], members: dict[str, bytes | Exception]) -> dict[str, Any]:
    """A row's source with the bytes in `members`, if they are there; the error is raised."""
    path = video.get("path")
    if path not in members:
        return video
    if isinstance(content := members[path], Exception):
        raise content
    return {**video, "path": repr(Address.parse(path)), "bytes": content}


# The manifest


class Clip(NamedTuple):
    """
    A row of the index: a clip of the data set and the place of its video.

    shard: position in `Manifest.shards`. name, offset, size, crc: as in `Address`. split, video_id, label, segment, group: as in
    `formats.samples.VideoSample`.
    """

    shard: int
    name: str
    offset: int
    size: int
    crc: int
    split: str
    video_id: str
    label: str | int | tuple | None
    segment: Segment | None
    group: str | None


class Manifest(NamedTuple):
    """
    The content of `shards.json`.

    folder: location of the shards. record: settings of the encoder and a digest of the source. class_names: in the order of
    integer labels; `None` if labels are names. multi_label: whether a clip has several labels. label_groups: as in
    `formats.registry.AnnotationFormat`. shards: for each, its `name`,
    `split`, numbers of videos and clips (`num_videos`, `num_clips`), `size` in bytes and `sha256`. index_sha256: of `shards.parquet`.
    """

    folder: str
    record: dict[str, Any]
    class_names: list[str] | None
    multi_label: bool
    label_groups: list[str]
    shards: list[dict[str, Any]]
    index_sha256: str = ""


def write_manifest(manifest: Manifest, clips: list[Clip]) -> None:
    """Write `shards.parquet` and then `shards.json` into the folder of a manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: [getattr(clip, name) for clip in clips] for name in Clip._fields}
    columns["label"] = [json.dumps(label) for label in columns["label"]]
    columns["segment"] = [None if each is None else json.dumps(each.given()) for each in columns["segment"]]
    types = {"shard": pa.int32(), "offset": pa.int64(), "size": pa.int64(), "crc": pa.int64()}
    table = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})
    index, unfinished = Path(manifest.folder) / INDEX, Path(manifest.folder) / f".{INDEX}.unfinished"
    pq.write_table(table, unfinished)
    os.replace(unfinished, index)
    content = {"format": FORMAT, "version": VERSION, **manifest._asdict()}
    content["index_sha256"] = hashlib.sha256(index.read_bytes()).hexdigest()
    del content["folder"]
    unfinished = Path(manifest.folder) / f".{MANIFEST}.unfinished"
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, Path(manifest.folder) / MANIFEST)


def read_manifest(location: str) -> Manifest | None:
    """
    The manifest of a folder of shards, by the location of the folder or of `shards.json`; `None` if there is none.

    Raises `ShardError` if it is damaged or of a newer version.
    """
    parent, _, name = location.rpartition("/")
    folder = (parent or ("/" if location.startswith("/") else ".")) if name == MANIFEST else location
    path = join(folder, MANIFEST)
    if not is_remote(path):
        record_file(path)
    else:
        record_remote_shards(folder)
    try:
        content = json.loads(read_file(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ShardError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ShardError(f"{path} is not a manifest of `tubevit data shard`.")
    if (version := content.pop("version", None)) != VERSION:
        raise ShardError(f"{path} has version {version}; this release reads version {VERSION}: update tubevit.")
    if content.keys() != set(Manifest._fields) - {"folder"}:
        raise ShardError(f"{path} is damaged: its entries are {', '.join(content) or 'missing'}.")
    return Manifest(folder, **content)


def read_clips(manifest: Manifest) -> Iterator[tuple[Address, Clip]]:
    """
    The clips of a manifest with the addresses of their videos.

    Raises `ShardError` if `shards.parquet` belongs to another manifest, and for a shard that is missing or has another size.
    """
    import io

    import pyarrow.parquet as pq

    path = join(manifest.folder, INDEX)
    content = read_file(path)
    if hashlib.sha256(content).hexdigest() != manifest.index_sha256:
        raise ShardError(f"{path} does not belong to {MANIFEST} beside it: copy both again.")
    _check_sizes(manifest)
    columns = pq.read_table(io.BytesIO(content)).to_pydict()
    labels = {text: json.loads(text) for text in set(columns["label"])}
    labels = {text: tuple(label) if isinstance(label, list) else label for text, label in labels.items()}
    columns["label"] = [labels[text] for text in columns["label"]]
    columns["segment"] = [None if text is None else Segment(**json.loads(text)) for text in columns["segment"]]
    shards = [join(manifest.folder, shard["name"]) for shard in manifest.shards]
    for clip in map(Clip, *(columns[name] for name in Clip._fields)):
        yield Address(shards[clip.shard], clip.offset, clip.size, clip.crc, clip.name), clip


def _check_sizes(manifest: Manifest) -> None:
    """Raise `ShardError` for a shard that is missing or has another size. Storage without a listing (http) is not checked."""
    if is_remote(manifest.folder):
        listed = _list_remote(manifest.folder)
        if listed is None:
            return
    else:
        with os.scandir(manifest.folder) as entries:
            listed = {
                entry.name: entry.stat().st_size for entry in entries if entry.name.endswith((".tar", ".parquet"))
            }
        for name in listed:
            record_shard(join(manifest.folder, name))
    for shard in manifest.shards:
        name, size = shard["name"], shard["size"]
        if name not in listed:
            raise ShardError(f"{manifest.folder} lacks the shard {name}, which {MANIFEST} lists: copy it again.")
        if listed[name] != size:
            raise ShardError(
                f"The shard {join(manifest.folder, name)} has {listed[name]:,} bytes, not {size:,} as {MANIFEST} states: it is "
                "cut off or was changed; copy it again."
            )


def _list_remote(folder: str) -> dict[str, int] | None:
    """Name and size of the files of a folder in remote storage; `None` for storage without a listing (http)."""
    fs, root = filesystem(folder)
    if "http" in fs.protocol:
        return None
    return {path.rpartition("/")[2]: info["size"] for path, info in fs.find(root, detail=True).items()}


def _fingerprint_remote(folder: str) -> str:
    """A hash of the manifest, which holds the checksums of shards and index, and of the listing; `MISSING` without a manifest."""
    try:
        content = read_file(join(folder, MANIFEST))
        listed = sorted((_list_remote(folder) or {}).items())
    except OSError:
        return MISSING
    return hashlib.sha256(content + json.dumps(listed).encode()).hexdigest()


FINGERPRINTS[REMOTE_SHARDS] = _fingerprint_remote
