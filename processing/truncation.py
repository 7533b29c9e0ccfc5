# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Detection of video files that are truncated (an interrupted download, a full disk) or whose structure is damaged, for which FFmpeg
reports no error.

Some formats state their length in the first bytes, which is compared with the size of the file; others end with a marker. After
damage, FFmpeg's Matroska reader searches for the next cluster and skips the frames before it. Its MP4 reader applies tables that
contradict each other, which gives frames the times of others.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np


HEAD_BYTES, PNG_TAIL_BYTES = 128, 4096
GIF_TAIL_BYTES = 64  # few: the end marker has two bytes, which also occur in pixel data
IVF_FRAME_HEADER_BYTES = 12
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")

SEGMENT, CLUSTER = bytes.fromhex("18538067"), bytes.fromhex("1f43b675")
# Void and checksum, which may be anywhere; seek head, info, tracks, cluster, cues, attachments, chapters, tags.
ANYWHERE = {b"\xec", b"\xbf"}
IN_SEGMENT = ANYWHERE | {
    bytes.fromhex(name)
    for name in ("114d9b74", "1549a966", "1654ae6b", "1f43b675", "1c53bb6b", "1941a469", "1043a770", "1254c367")
}
# Timestamp, silent tracks, position, previous size, simple block, block group, encrypted block.
IN_CLUSTER = ANYWHERE | {bytes.fromhex(name) for name in ("e7", "5854", "a7", "ab", "a3", "a0", "af")}

# Boxes of an MP4 or MOV file that hold the tables of a track, and the tables that standards define (ISO 14496-12, QuickTime).
MP4_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
MP4_TABLES = set(
    b"stsd stts ctts cslg stsc stsz stz2 stco co64 stss stps stsh stdp padb sdtp sbgp sgpd csgp subs saiz saio "
    b"free skip uuid udta".split()
)
MAX_MP4_BOXES = 10_000


class Mp4Fault(NamedTuple):
    """
    A fault in the tables of an MP4 or MOV file. `is_damage` is False if the file may be healthy: a table is short or unknown.
    """

    text: str
    is_damage: bool


def is_truncated(file) -> bool:
    """
    Whether a Matroska, WebM, AVI, GIF, APNG, IVF, WMV or ASF file is truncated. False for all other formats.

    file: `"file:PATH"`, or a binary file object; its position changes.
    """
    with open(file.removeprefix("file:"), "rb") if isinstance(file, str) else nullcontext(file) as data:
        num_bytes = data.seek(0, os.SEEK_END)
        data.seek(0)
        head = data.read(HEAD_BYTES)
        if head[:4] == b"GIF8":
            return b"\0;" not in _tail(data, num_bytes, GIF_TAIL_BYTES)
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            return b"IEND" not in _tail(data, num_bytes, PNG_TAIL_BYTES)
        if head[:4] == b"DKIF":
            return num_bytes < _end_of_ivf_frames(data, num_bytes)
        if head[:16] == ASF_HEADER:
            return num_bytes < _end_of_asf_data(data)
        return num_bytes < _stated_length(head)


def _tail(data, num_bytes: int, length: int) -> bytes:
    data.seek(max(0, num_bytes - length))
    return data.read(length)


def _end_of_ivf_frames(data, num_bytes: int) -> int:
    """Position at which the last frame ends according to its header; beyond `num_bytes` if the file is truncated in it."""
    data.seek(0)
    end = int.from_bytes(data.read(8)[6:], "little")
    while end + IVF_FRAME_HEADER_BYTES <= num_bytes:
        data.seek(end)
        end += IVF_FRAME_HEADER_BYTES + int.from_bytes(data.read(4), "little")
    return end


def _end_of_asf_data(data) -> int:
    """Position at which the data object of a WMV or ASF file ends according to its header; 0 if there is none."""
    data.seek(16)
    start = int.from_bytes(data.read(8), "little")
    data.seek(start)
    identifier, num_bytes = data.read(16), int.from_bytes(data.read(8), "little")
    return start + num_bytes if identifier == ASF_DATA else 0


def _stated_length(head: bytes) -> int:
    """Length in bytes that a RIFF chunk (AVI) or a Matroska segment after its EBML header states; 0 if it states none."""
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] != b"\x1aE\xdf\xa3":
        return 0
    segment = head.find(b"\x18S\x80g")
    if segment < 0 or segment + 5 > len(head):
        return 0
    size, start = _ebml_number(head, segment + 4)
    return 0 if size is None else start + size


def _ebml_number(data: bytes, position: int) -> tuple[int | None, int]:
    """The EBML number at `position`, and the position after it. `None` stands for "unknown", and for a number that is cut off."""
    # The first byte has as many leading zeros as bytes follow it; all ones mean "unknown".
    num_bytes = 9 - data[position].bit_length() if position < len(data) else 9
    end = position + num_bytes
    value_bits = 7 * num_bytes
    value = int.from_bytes(data[position:end], "big") & ((1 << value_bits) - 1)
    return (None if num_bytes > 8 or end > len(data) or value == (1 << value_bits) - 1 else value), end


def find_matroska_damage(file) -> int | None:
    """
    Position in a Matroska or WebM file at which its structure is damaged: an element that is unknown there or is longer than the
    element that holds it. `None` if there is no damage. The content of blocks is not looked at.

    file: `"file:PATH"`, or a binary file object, whose position does not change.
    """
    with open(file.removeprefix("file:"), "rb") if isinstance(file, str) else nullcontext(file) as data:
        before = data.tell()
        num_bytes = data.seek(0, os.SEEK_END)
        try:
            for position, is_valid in _matroska_elements(data, num_bytes):
                if not is_valid:
                    return position
            return None
        finally:
            data.seek(before)


def _matroska_elements(data, num_bytes: int) -> Iterator[tuple[int, bool]]:
    """`(position, is valid)` of the elements of the first segment and of its clusters, until one is not valid."""
    _, size, start = _element(data, 0)
    name, size, start = _element(data, start + (size or 0))
    if name != SEGMENT:
        yield 0, False
        return
    segment_end = num_bytes if size is None else min(num_bytes, start + size)
    position, cluster_end = start, None  # `cluster_end` is None outside of clusters
    while position < segment_end:
        if cluster_end is not None and position >= cluster_end:
            cluster_end = None
        name, size, start = _element(data, position)
        if name == CLUSTER:
            is_valid = (
                cluster_end is None or cluster_end == segment_end
            )  # a cluster of unknown size ends with the next
            cluster_end, end = (segment_end if size is None else start + size), start
        else:
            is_valid = name in (IN_SEGMENT if cluster_end is None else IN_CLUSTER)
            if not is_valid and cluster_end == segment_end and name in IN_SEGMENT:
                is_valid, cluster_end = True, None
            end = start + (size or 0)
            is_valid &= size is not None and end <= (cluster_end or num_bytes)
        yield position, is_valid
        if not is_valid:
            return
        position = end


def _element(data, position: int) -> tuple[bytes, int | None, int]:
    """Identifier of the EBML element at `position`, the size of its content (`None`: unknown), and where its content starts."""
    data.seek(position)
    head = data.read(12)
    num_bytes = 9 - head[0].bit_length() if head else 9
    size, length = _ebml_number(head, num_bytes)
    return head[:num_bytes], size, position + length


def find_mp4_fault(file) -> Mp4Fault | None:
    """
    A fault in the tables of an MP4 or MOV file that may give frames the times of others. `None` without a fault, and for other
    formats.

    file: `"file:PATH"`, or a binary file object; its position changes.
    """
    with open(file.removeprefix("file:"), "rb") if isinstance(file, str) else nullcontext(file) as data:
        num_bytes = data.seek(0, os.SEEK_END)
        data.seek(0)
        if data.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return None
        tracks: list[dict[bytes, int | None]] = []  # number of frames that each table states
        for parent, name, start, end in _mp4_boxes(data, num_bytes):
            if name == b"stbl":
                tracks.append({})
            elif parent == b"stbl":
                tracks[-1][name] = _frames_of_mp4_table(data, name, start, end)
    unknown = None
    for counts in tracks:
        num_timed, num_frames = counts.get(b"ctts"), counts.get(b"stsz", counts.get(b"stz2"))
        if num_timed is not None and num_frames is not None and num_timed != num_frames:
            text = f"its table of presentation times lists {num_timed:,} frames, that of sizes {num_frames:,}"
            return Mp4Fault(text, is_damage=num_timed > num_frames)  # some encoders omit the last frames
        unknown = next((name for name in counts if name not in MP4_TABLES), unknown)
    if unknown is None:
        return None
    is_name = all(32 <= byte < 127 for byte in unknown)
    return Mp4Fault(f"its index has an unknown table {unknown!r}", is_damage=not is_name)


def _frames_of_mp4_table(data, name: bytes, start: int, end: int) -> int | None:
    data.seek(start)
    if name in (b"stsz", b"stz2"):
        return int.from_bytes(data.read(12)[8:], "big")
    if (
        name == b"ctts"
    ):  # after 8 bytes, runs of frames: their number, and the distance of presentation and decoding time
        head = data.read(8)
        num_runs = min(int.from_bytes(head[4:], "big"), max(0, end - start - 8) // 8)
        return int(np.frombuffer(data.read(8 * num_runs), ">u4")[::2].sum(dtype=np.int64))
    return None


def _mp4_boxes(data, num_bytes: int) -> Iterator[tuple[bytes, bytes, int, int]]:
    """`(name of the parent, name, start of the content, end)` of the boxes up to the end of the index, `moov`."""
    pending = [(b"", 0, num_bytes)]  # parent, position of its next box, end
    for _ in range(MAX_MP4_BOXES):
        parent, position, parent_end = pending.pop()
        data.seek(position)
        head = data.read(16)
        size, name, start = int.from_bytes(head[:4], "big"), head[4:8], position + 8
        if size == 1:
            size, start = int.from_bytes(head[8:], "big"), position + 16
        end = parent_end if size == 0 else position + size
        if start <= end <= parent_end:
            yield parent, name, start, end
            if end + 8 <= parent_end and name != b"moov":
                pending.append((parent, end, parent_end))
            if name in MP4_CONTAINERS and start + 8 <= end:
                pending.append((name, start, end))
        if not pending:
            return
