# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Detection of truncated video files (an interrupted download, a full disk), for which FFmpeg reports no error.

Some formats state their length in the first bytes, which is compared with the size of the file; others end with a marker.
"""

import os
from contextlib import nullcontext


HEAD_BYTES, PNG_TAIL_BYTES = 128, 4096
GIF_TAIL_BYTES = 64  # few: the end marker has two bytes, which also occur in pixel data
IVF_FRAME_HEADER_BYTES = 12
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


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
    # An EBML number: its first byte has as many leading zeros as bytes follow it; all ones mean "unknown".
    start = segment + 4
    num_bytes = 9 - head[start].bit_length()
    value_bits = 7 * num_bytes
    length = int.from_bytes(head[start : start + num_bytes], "big") & ((1 << value_bits) - 1)
    return 0 if length == (1 << value_bits) - 1 else start + num_bytes + length
