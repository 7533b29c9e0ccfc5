# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Whether a file is shorter than it says, as after a broken download: FFmpeg reads such a file to its end and reports nothing."""

import os
from contextlib import nullcontext


HEAD_BYTES, TAIL_BYTES = 4096, 64
IVF_FRAME_HEADER_BYTES = 12
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def ends_early(file) -> bool:
    """
    Whether a Matroska, WebM, AVI, GIF, APNG, IVF, WMV or ASF file breaks off. False if nothing tells where it should end.

    file: `"file:"` and a path, or a file object, whose position moves.
    """
    with open(file.removeprefix("file:"), "rb") if isinstance(file, str) else nullcontext(file) as data:
        num_bytes = data.seek(0, os.SEEK_END)
        data.seek(0)
        head = data.read(HEAD_BYTES)
        data.seek(max(0, num_bytes - TAIL_BYTES))
        tail = data.read(TAIL_BYTES)
        if head[:4] == b"GIF8":
            return tail.rstrip(b"\0\r\n ")[-1:] != b";"
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            return b"IEND" not in tail
        if head[:4] == b"DKIF":
            return num_bytes < _end_of_ivf_frames(data, num_bytes)
        return num_bytes < _announced_bytes(head)


def _end_of_ivf_frames(data, num_bytes: int) -> int:
    """Where the last frame of an IVF file ends by its header, if that lies in the file's `num_bytes`, which may be before."""
    data.seek(0)
    end = int.from_bytes(data.read(8)[6:], "little")
    while end + IVF_FRAME_HEADER_BYTES <= num_bytes:
        data.seek(end)
        end += IVF_FRAME_HEADER_BYTES + int.from_bytes(data.read(4), "little")
    return end


def _announced_bytes(head: bytes) -> int:
    """Length of a file by its first bytes: a RIFF chunk, a Matroska segment, or ASF's properties. 0 if not stated."""
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:16] == ASF_HEADER:
        return _announced_by_asf(head)
    if head[:4] == b"\x1aE\xdf\xa3":
        return _announced_by_matroska(head)
    return 0


def _announced_by_asf(head: bytes) -> int:
    start = head.find(ASF_FILE_PROPERTIES)
    properties = head[start : start + 92]
    is_stated = start >= 0 and len(properties) == 92 and not properties[88] & 1  # a broadcast does not know its length
    return int.from_bytes(properties[40:48], "little") if is_stated else 0


def _announced_by_matroska(head: bytes) -> int:
    segment = head.find(b"\x18S\x80g")
    if segment < 0 or segment + 5 > len(head):
        return 0
    # The segment's length: as many bytes as the first one has leading zeros, plus one; all ones mean "unknown".
    start = segment + 4
    num_bytes = 9 - head[start].bit_length()
    value_bits = 7 * num_bytes
    length = int.from_bytes(head[start : start + num_bytes], "big") & ((1 << value_bits) - 1)
    return 0 if length == (1 << value_bits) - 1 else start + num_bytes + length
