# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Finds the videos and labels in tar files of the WebDataset convention: members with one name up to the first dot are one sample,
such as `a/0001.mp4`, `a/0001.cls` and `a/0001.json`.

The headers of a tar are read once, and the contents of its labels. The result is stored in the cache of this user until the tar
changes, so that a later start reads no tar. A tar that is cut off or holds members that cannot be videos raises an error.
"""

import hashlib
import json
import os
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..environment import cache_folder
from .media_files import VIDEO_SUFFIXES, is_utf8
from .recorded_inputs import record_shard
from .shards import NUM_THREADS, ShardError, filesystem, is_remote


LABEL_SUFFIXES = (".cls", ".json", ".txt")  # the preferred first
MAX_LABEL_BYTES = 2**20
NUM_SNIFFED = 20  # members
END = bytes(512)  # two such blocks end a tar
MAX_PADDING = 2**20  # bytes after the end; tar programs fill the last record


class TarMember(NamedTuple):
    """A member of a tar. offset, size: of its content, in bytes. text: the content of a label; `None` for other members."""

    name: str
    offset: int
    size: int
    text: str | None


def holds_videos(path: str | Path) -> bool:
    """Whether one of the first members of a local tar is a video; `False` for a file that cannot be read."""
    try:
        with tarfile.open(path, "r:") as archive:
            for number, member in enumerate(archive):
                if suffix_of(member.name) in VIDEO_SUFFIXES:
                    return True
                if number == NUM_SNIFFED:
                    return False
        return False
    except (tarfile.TarError, OSError):  # the reader tells what is wrong
        return False


def suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def scan_tars(shards: Sequence[str]) -> Iterator[tuple[str, list[TarMember]]]:
    """
    Each tar with its members, in the order of `shards`. Several tars in remote storage are read at the same time.

    Raises `ShardError` for a tar that is cut off, is compressed, or holds a video that is not a plain file, and
    `FileNotFoundError` for a missing one.
    """
    for shard in shards:
        if not is_remote(shard):
            record_shard(shard)
    num_threads = NUM_THREADS if any(map(is_remote, shards)) else 1
    with ThreadPoolExecutor(num_threads) as pool:
        yield from zip(shards, pool.map(_scan_cached, shards), strict=True)


def _scan_cached(shard: str) -> list[TarMember]:
    version = _version(shard)
    cache = cache_folder() / "tar_index" / f"{hashlib.sha256(shard.encode()).hexdigest()[:32]}.json"
    if cache.is_file():
        try:
            content = json.loads(cache.read_text(encoding="utf-8"))
        except ValueError:  # of a process that was ended while it wrote
            content = {}
        if content.get("version") == version:
            return [TarMember(*member) for member in content["members"]]
    members = _scan(shard)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cache.with_name(f"{cache.name}.{os.getpid()}")
        unfinished.write_text(json.dumps({"shard": shard, "version": version, "members": members}), encoding="utf-8")
        os.replace(unfinished, cache)
    except OSError as error:
        warnings.warn(
            f"{cache} cannot be written ({error.strerror}): the next start reads {shard} again.", stacklevel=2
        )
    return members


def _version(shard: str) -> str:
    """What changes when a shard changes: size and time of a file, or what the storage states."""
    if not is_remote(shard):
        try:
            status = os.stat(shard)
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no shard {shard}.") from None
        return f"{status.st_size} {status.st_mtime_ns}"
    fs, path = filesystem(shard)
    with _named_errors(shard):
        info = fs.info(path)
        # `ukey` of a web server is its address alone. A server that states none of these has no version but the size.
        if "http" in fs.protocol:
            return str([info.get(name) for name in ("size", "ETag", "Last-Modified", "Content-MD5", "Digest")])
        return str(fs.ukey(path))


@contextmanager
def _named_errors(shard: str, members: Sequence[TarMember] = ()) -> Iterator[None]:
    """Errors of remote storage, of which each has its own, become a `ShardError` that names the shard and the last member read."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no shard {shard}.") from None
    except (ShardError, tarfile.TarError):
        raise
    except Exception as error:
        if not is_remote(shard) and not isinstance(error, OSError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(f"The shard {shard} cannot be read {_after(members)} ({reason}).") from error


def _open(shard: str) -> Any:
    if not is_remote(shard):
        return open(shard, "rb")
    fs, path = filesystem(shard)
    return fs.open(path, "rb")


def _scan(shard: str) -> list[TarMember]:
    members: list[TarMember] = []
    with _named_errors(shard, members), _open(shard) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for entry in archive:
                    if not entry.isdir():
                        members.append(_member(entry, archive, shard))
                end = archive.offset
        except tarfile.TarError as error:
            raise ShardError(
                f"{shard} is not a plain tar file, or it is damaged {_after(members)}: {error}."
            ) from error
        size = file.seek(0, os.SEEK_END)
        size = file.tell() if size is None else size
        file.seek(end)
        block = file.read(len(END))
        if block != END:  # `tarfile` takes a cut or a damaged header for the end
            where = "is cut off" if len(block) < len(END) else f"is damaged at byte {end:,}"
            raise ShardError(f"The shard {shard} {where} {_after(members)}: its end mark is missing.")
        if size - end > MAX_PADDING:
            raise ShardError(
                f"The shard {shard} holds {size - end:,} bytes behind its end {_after(members)}: tar files that were joined "
                "must be written again as one."
            )
    return members


def _after(members: Sequence[TarMember]) -> str:
    return f"after {members[-1].name}" if members else "at its start"


def _member(entry: tarfile.TarInfo, archive: tarfile.TarFile, shard: str) -> TarMember:
    suffix = suffix_of(entry.name)
    if not is_utf8(entry.name) and (suffix in VIDEO_SUFFIXES or suffix in LABEL_SUFFIXES):
        name = os.fsencode(entry.name).decode(errors="backslashreplace")
        raise ShardError(
            f"The shard {shard} holds {name}, whose name is not UTF-8: rename it and write the tar again."
        )
    if not entry.isreg() or entry.sparse is not None:
        if suffix in VIDEO_SUFFIXES or suffix in LABEL_SUFFIXES:
            kind = "a link" if entry.islnk() or entry.issym() else "no plain file"
            raise ShardError(f"The shard {shard} holds {entry.name}, which is {kind}: store the file itself.")
        return TarMember(entry.name, entry.offset_data, 0, None)
    text = None
    if suffix in LABEL_SUFFIXES:
        if entry.size > MAX_LABEL_BYTES:
            raise ShardError(f"The shard {shard} holds {entry.name} of {entry.size:,} bytes, too large for a label.")
        content = archive.extractfile(entry).read()
        if len(content) < entry.size:
            raise ShardError(f"The shard {shard} is cut off in {entry.name}.")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise ShardError(f"The shard {shard} holds {entry.name}, which is not UTF-8 text.") from None
    return TarMember(entry.name, entry.offset_data, entry.size, text)
