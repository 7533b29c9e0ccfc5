# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Index of a video stream: the packet of each frame, from one pass over the packet headers, without decoding.

A file stores packets in decoding order; frames are presented in the order of their presentation times (pts). The two
differ with B-frames. The index maps frame i (presentation order) to its packet and to the key frame from which decoding
must start. It is exact if every packet decodes to one frame with the pts of the packet. If that is not certain,
`VideoIndex.unreliable_reason` says why, and the caller decodes the stream in order from its start instead.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np


# Streams up to this size stay in memory between indexing and decoding; packets of larger ones are read again when needed.
MAX_CACHED_PACKET_BYTES = 64 * 2**20

# Encoders write a "not coded" picture of a few bytes as a placeholder; in MPEG-4 it decodes to no frame.
MIN_PICTURE_BYTES = 16

# No codec moves a frame further than this between decoding and presentation order; H.264 and HEVC allow 16.
MAX_REORDERED_FRAMES = 32
# Codecs whose shown packets are in the order of presentation.
ORDERED_CODECS = {"vp8", "vp9", "libdav1d", "mjpeg", "png", "ffv1", "prores"}

# Codecs whose decoders drop a "random access skipped leading" picture if its references are missing.
RASL_CODECS = {"hevc", "vvc"}

# Bytes of a packet in which its first picture must start to be found. Parameter sets and captions may precede it.
PICTURE_HEADER_BYTES = 1024
START_CODE = re.compile(rb"\x00\x00\x01(...)", re.DOTALL)

# Markers of segments of a JPEG picture.
JPEG_QUANTIZATION, JPEG_HUFFMAN, JPEG_SCAN = 0xDB, 0xC4, 0xDA
JPEG_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)  # baseline, extended, progressive, lossless, JPEG-LS

# By the first 3 bytes of a unit of the stream: whether it is a picture from which no other picture is predicted; None for other
# units. Other codecs have no such pictures, or few; or their decoder learns from all pictures how the encoder wrote them (MPEG-4).
DISPOSABLE_PICTURES: dict[str, Callable[[bytes], bool | None]] = {
    "h264": lambda unit: unit[0] & 0x60 == 0 if unit[0] & 31 in (1, 2, 5) else None,
    "hevc": lambda unit: unit[0] >> 1 <= 14 and unit[0] & 2 == 0 if unit[0] >> 1 < 32 else None,
    "mpeg1video": lambda unit: unit[2] >> 3 & 7 == 3 if unit[0] == 0 else None,
    "mpeg2video": lambda unit: unit[2] >> 3 & 7 == 3 if unit[0] == 0 else None,
}


class IndexMismatch(Exception):
    """The decoded frames differ from the index. Internal: `decode_video` catches it and decodes without the index."""


class PacketHeader(NamedTuple):
    """What the file states about a packet before decoding. Times are in units of the stream's time base."""

    pts: int | None  # presentation time
    dts: int | None  # decoding time
    duration: int
    size: int  # bytes
    is_key: bool
    is_shown: bool  # False for hidden reference frames, from which other frames are predicted

    @property
    def time(self) -> int:
        """`pts` of a packet that has one, as all packets of a reliable index do."""
        assert self.pts is not None
        return self.pts


@dataclass
class Run:
    """A contiguous range of packets to decode, `first` to `last` (positions in decoding order), from a key frame on."""

    first: int
    last: int
    selected: set[int]  # positions of the packets with selected frames


@dataclass(frozen=True)
class VideoIndex:
    """The packets of a video stream in decoding order, and the packet of each frame in presentation order."""

    headers: list[PacketHeader]
    packets: list | None  # the packets; None if they exceed MAX_CACHED_PACKET_BYTES
    frame_packets: list[int]  # position of the packet of frame i; meaningless if the index is unreliable
    key_packets: list[int]  # positions of the key frames
    can_drop_leading: bool  # whether the decoder drops leading pictures in the middle of a healthy, joined video
    reorder_depth: int  # largest number of frames before a frame in decoding order that are shown after it
    unreliable_reason: str | None  # why packets and frames may not correspond; None if the index is reliable
    is_truncated: bool  # the file is shorter than it states
    corrupt_packets: list[int]  # positions of the packets that the container marks as corrupt
    num_lost: int  # packets that the index of an AVI file lists and that are not in the file
    last_duration: int  # duration of the last frame; 0 if unknown
    time_base: Fraction  # seconds per unit of time
    frame_rate: Fraction | None  # frames per second, stated by the file or estimated by FFmpeg from its first frames
    width: int  # of the first frame as stored; pixels need not be square
    height: int
    sample_aspect_ratio: Fraction | None  # width of a pixel over its height; None if not stated

    @property
    def frame_pts(self) -> list[int | None]:
        """The presentation time of each frame in units of `time_base`, in the order of the frames."""
        return [self.headers[packet].pts for packet in self.frame_packets]

    def guaranteed_times(self, packets: Iterable[int]) -> set[int]:
        """
        Presentation times at which an undamaged, progressive video must have a frame, of `packets` (ascending positions, the
        first is a key frame) of a reliable index.

        Excluded are packets of a few bytes, which may be placeholders, and leading pictures (after a key frame in the file,
        before it in presentation) whose references may be missing: those of the first packet, and with `can_drop_leading` all.
        """
        times, key_time = set(), None
        for header in (self.headers[packet] for packet in packets):
            if key_time is None or (header.is_key and self.can_drop_leading):
                key_time = header.time
            if header.is_shown and header.time >= key_time and header.size >= MIN_PICTURE_BYTES:
                times.add(header.time)
        return times

    def has_gaps(self, duration: float | None) -> bool:
        """
        Whether the distance of two frames, or of the last frame to the end, is more than 1.5 times the usual one. Then frames may be
        lost, the rate may vary, or the sound may be longer than the video.

        duration: of the file in seconds; `None` if it states none.
        """
        times = np.sort([header.pts for header in self.headers if header.pts is not None])
        if len(times) < 3:
            return True
        end = times[-1] if duration is None else duration / float(self.time_base)
        distances = np.diff(times)
        return max(distances.max(), end - times[-1], times[0]) > 1.5 * np.median(distances)

    def start_packet(self, packet: int) -> int:
        """Position of the key frame from which decoding gives the same frame for `packet` as from the start of the file.

        That is the last key frame before `packet` in both orders, because a leading picture of an open group of pictures
        (after its key frame in the file, before it in presentation) also refers to the previous group.
        """
        number = bisect_right(self.key_packets, packet)
        while number and self.headers[self.key_packets[number - 1]].time > self.headers[packet].time:
            number -= 1
        return self.key_packets[number - 1] if number else 0

    def runs(self, frames) -> list[Run]:
        """The packets to decode for `frames` (ascending), without the groups of pictures that contain none of them."""
        runs: list[Run] = []
        for packet in (self.frame_packets[frame] for frame in frames):
            start = self.start_packet(packet)
            if not runs or start > runs[-1].last + 1:
                runs.append(Run(start, packet, set()))
            runs[-1].last = max(runs[-1].last, packet)
            runs[-1].selected.add(packet)
        return runs

    def read(self, run: Run, container, stream) -> Iterator[tuple[int, object]]:
        """`(position, packet)` of each packet of `run`, from memory, or from the file after a seek.

        Raises `IndexMismatch` if the packets after the seek differ from the index.
        """
        if self.packets is not None:
            yield from zip(range(run.first, run.last + 1), self.packets[run.first : run.last + 1], strict=True)
            return
        key = self.headers[run.first]
        # Some formats seek by dts and some by pts: the earlier of the two never seeks past the key frame.
        container.seek(key.time if key.dts is None else min(key.time, key.dts), stream=stream)
        position = run.first
        for packet in container.demux(stream):
            if packet.size and packet.pts == self.headers[position].pts:
                yield position, packet
                position += 1
                if position > run.last:
                    return
            elif packet.size and position > run.first:
                break
        raise IndexMismatch("the packets after a seek differ from those of the index")


def build_index(container, stream, file_is_truncated: bool) -> VideoIndex:
    """Read the headers of all packets of `stream`, from the start of `container`. Raises FFmpeg's errors unchanged.

    `file_is_truncated` is the result of `truncation.is_truncated`.
    """
    headers: list[PacketHeader] = []
    packets: list | None = []
    starts_late = False
    num_cached_bytes, last_is_damaged = 0, False
    codec_name, corrupt = stream.codec_context.name, []
    for packet in container.demux(stream):
        size = packet.size
        if not size:  # the end of the stream, or a repeated frame in AVI
            continue
        if not headers and codec_name == "h264":
            starts_late = not _is_idr(packet, stream.codec_context)
        is_shown = not packet.is_discard and not (codec_name in ("vp8", "vp9") and _is_hidden(packet, codec_name))
        last_is_damaged = packet.is_corrupt
        if last_is_damaged:
            corrupt.append(len(headers))
        headers.append(PacketHeader(packet.pts, packet.dts, packet.duration or 0, size, packet.is_keyframe, is_shown))
        num_cached_bytes += size
        if packets is not None:
            packets.append(packet)
            packets = packets if num_cached_bytes <= MAX_CACHED_PACKET_BYTES else None
    is_truncated = _is_truncated(container, stream, len(headers), last_is_damaged, file_is_truncated)
    if is_truncated and last_is_damaged:  # the last packet is incomplete and would decode to part of a picture
        headers, packets, corrupt = headers[:-1], packets and packets[:-1], corrupt[:-1]
    unreliable_reason = _unreliable_reason(container, stream, headers)
    if starts_late:
        unreliable_reason = "the stream does not begin with an IDR picture, so the decoder may drop its first frames"
    reorder_depth = 0
    shown = [position for position, header in enumerate(headers) if header.is_shown]
    if unreliable_reason is None:
        shown.sort(key=lambda position: headers[position].time)
        rank_in_file = {packet: rank for rank, packet in enumerate(sorted(shown))}
        shifts = [rank_in_file[packet] - frame for frame, packet in enumerate(shown)]
        reorder_depth = max(shifts)
        if max(map(abs, shifts)) > (0 if codec_name in ORDERED_CODECS else MAX_REORDERED_FRAMES):
            unreliable_reason = "presentation times are far from decoding times"
    return VideoIndex(
        headers=headers,
        packets=packets,
        frame_packets=shown,
        key_packets=[position for position, header in enumerate(headers) if header.is_key],
        can_drop_leading=codec_name in RASL_CODECS,
        reorder_depth=reorder_depth,
        unreliable_reason=unreliable_reason,
        is_truncated=is_truncated,
        corrupt_packets=[packet for packet in corrupt if not _is_joint(headers, packet)],
        num_lost=_count_listed(stream) - len(headers) if has_format(container, "avi") else 0,
        last_duration=headers[shown[-1]].duration if shown else 0,
        time_base=stream.time_base,
        frame_rate=stream.average_rate or stream.guessed_rate,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        sample_aspect_ratio=stream.sample_aspect_ratio,
    )


def _is_hidden(packet, codec_name: str) -> bool:
    """Whether a packet of VP8 or VP9 holds a reference frame that is not shown, by its header bits, and nothing else."""
    data = memoryview(packet)
    first, last = data[0], data[-1]
    if codec_name == "vp8":  # an inter frame without the bit for "show"; key frames are always shown
        return first & 0x11 == 0x01
    # Two bits for a frame, "10", and two for the profile; bits for "show an earlier frame", "inter frame" and "show". Profile 3 has
    # another header: encoders of it are rare, and its packets count as shown.
    if first & 0xC0 != 0x80 or first & 0x30 == 0x30 or first & 0x0A:
        return False
    # Several frames in a packet, of which the last is shown, end with an index whose first and last byte are equal.
    index_bytes = 2 + ((last >> 3 & 3) + 1) * ((last & 7) + 1)
    return not (last & 0xE0 == 0xC0 and index_bytes <= len(data) and data[-index_bytes] == last)


def _is_truncated(container, stream, num_packets: int, last_is_damaged: bool, file_is_truncated: bool) -> bool:
    if has_format(container, "mov"):  # its header (at the start or the end of the file) lists all samples
        return last_is_damaged or _count_listed(stream) > num_packets
    if has_format(container, "avi"):  # AVI headers often state a wrong length, so frames must be missing too
        return file_is_truncated and num_packets < stream.frames
    return file_is_truncated


def _is_joint(headers: list[PacketHeader], packet: int) -> bool:
    """
    Whether MPEG transport streams were joined byte by byte after `packet`, or after the next one: time steps back to a key frame.
    FFmpeg marks a packet there as corrupt, because its counter of packets does not continue.
    """
    for before, after in zip(headers[packet : packet + 2], headers[packet + 1 : packet + 3], strict=False):
        if after.is_key and before.dts is not None and after.dts is not None and after.dts <= before.dts:
            return True
    return False


def _count_listed(stream) -> int:
    """Number of packets that the index of the file lists. Empty ones repeat the frame before."""
    return sum(entry.size > 0 for entry in stream.index_entries)


def _unreliable_reason(container, stream, headers: list[PacketHeader]) -> str | None:
    """Why packets and frames may not correspond one to one in the order of pts; None if they do."""
    codec = stream.codec_context
    if len({header.pts for header in headers} - {None}) < len(headers):
        return "presentation times are missing or repeated"
    times = [header.time for header in headers if header.is_shown]
    if not times or not headers[0].is_key or min(times) < headers[0].time:
        return "the stream does not begin with a key frame"
    if codec.has_b_frames and all(header.pts == header.dts for header in headers):
        return "frames are reordered, but the file states decoding times only"
    if codec.name == "mpeg4" and min(header.size for header in headers) < MIN_PICTURE_BYTES:
        return "some packets are placeholders without a frame"
    if has_format(container, "avi"):
        reordered = codec.has_b_frames or any(header.pts != header.dts for header in headers)
        return "AVI numbers packets in decoding order, and frames are reordered" if reordered else None
    if has_format(container, "mov") and _breaks_rate(headers):
        return "decoding times have a constant rate, and presentation times do not"
    if not (has_format(container, "mov") or has_format(container, "matroska")):
        return "only MP4, MOV, Matroska, WebM and AVI are known to store one frame per packet"
    return None


def _breaks_rate(headers: list[PacketHeader]) -> bool:
    """
    Whether decoding times have a constant distance and presentation times do not. In a healthy file both are the same set of times,
    up to a delay.
    """
    decoding = [header.dts for header in headers if header.dts is not None]
    times = [header.time for header in headers]
    if decoding == times or len(decoding) < len(times) or len(times) < 2:
        return False
    distances = np.diff(decoding)
    return bool((distances == distances[0]).all() and (np.diff(np.sort(times)) != distances[0]).any())


def has_format(container, name: str) -> bool:
    """Whether FFmpeg's name for the format of `container` is `name`: "mov" includes MP4, "matroska" includes WebM."""
    return name in container.format.name.split(",")


def jpeg_is_complete(packet, first_packet) -> bool:
    """
    Whether a JPEG picture states its size and all tables that its first scan uses. If damage removes them, FFmpeg's decoder uses those
    of a picture that it decoded before.

    first_packet: of the stream. Motion JPEG may omit the Huffman tables of all pictures and use the standard ones.
    """
    tables: set[tuple[int, int]] = set()  # (marker, number) of those that the picture defines
    used: set[tuple[int, int]] = set()
    frame = None  # marker of the frame header: baseline, extended, progressive, lossless, JPEG-LS
    for marker, content in _jpeg_segments(packet):
        if marker in (JPEG_QUANTIZATION, JPEG_HUFFMAN):
            tables |= {(marker, number) for number in _jpeg_table_numbers(marker, content)}
        elif marker in JPEG_FRAMES:
            frame = marker
            if marker in JPEG_FRAMES[:3]:  # the lossless ones do not quantize
                used |= {(JPEG_QUANTIZATION, content[position]) for position in range(8, len(content), 3)}
        elif marker == JPEG_SCAN and frame is not None:
            numbers = content[2 : 1 + 2 * content[0] : 2]  # of each component: high bits for DC, low bits for AC codes
            if frame in JPEG_FRAMES[:4]:
                used |= {(JPEG_HUFFMAN, number >> 4) for number in numbers}
            if frame in JPEG_FRAMES[:2]:  # the first scan of a progressive picture has no AC codes
                used |= {(JPEG_HUFFMAN, 16 | number & 15) for number in numbers}
            if not _has_huffman_tables(packet) and not _has_huffman_tables(first_packet):
                used = {table for table in used if table[0] != JPEG_HUFFMAN}
            return used <= tables
    return False


def _has_huffman_tables(packet) -> bool:
    return any(marker == JPEG_HUFFMAN for marker, _ in _jpeg_segments(packet))


def _jpeg_table_numbers(marker: int, content: memoryview) -> Iterator[int]:
    """Numbers of the tables in a segment; that of a Huffman table includes a bit for AC codes."""
    position = 0
    while position < len(content):
        first = content[position]
        if marker == JPEG_QUANTIZATION:
            yield first & 15
            position += 1 + (128 if first >> 4 else 64)  # words or bytes
        else:
            yield first
            position += 17 + sum(
                content[position + 1 : position + 17]
            )  # the number of codes of each length, and the codes


def _jpeg_segments(packet) -> Iterator[tuple[int, memoryview]]:
    """`(marker, content)` of the segments of a JPEG picture up to its first scan, or up to damage."""
    data = memoryview(packet)
    position = 2
    if bytes(data[:2]) != b"\xff\xd8":
        return
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if not position + 4 < end <= len(data):
            return
        yield marker, data[position + 4 : end]
        if marker == JPEG_SCAN:
            return
        position = end


def is_disposable(packet, codec) -> bool:
    """Whether no other picture is predicted from the picture in `packet`. False if that is not certain.

    codec: the codec context of the stream.
    """
    test = DISPOSABLE_PICTURES.get(codec.name)
    if test is None:
        return False
    for unit in _units(packet, codec):
        found = test(unit)
        if found is not None:
            return found
    return False


def _is_idr(packet, codec) -> bool:
    """Whether a packet of H.264 holds an IDR picture. True if its first picture is not found."""
    types = (unit[0] & 31 for unit in _units(packet, codec))
    return next((kind for kind in types if kind in (1, 2, 5)), 5) == 5


def length_bytes(codec) -> int:
    """Number of bytes before each unit of a packet of H.264 or HEVC that state its length; 0 if units begin with a start code."""
    data = codec.extradata or b""
    if codec.name == "h264" and len(data) > 4 and data[0] == 1:
        return (data[4] & 3) + 1
    if codec.name == "hevc" and len(data) > 21 and data[:3] > b"\0\0\1":
        return (data[21] & 3) + 1
    return 0


def _units(packet, codec) -> Iterator[bytes]:
    """The first 3 bytes of each unit at the beginning of a packet."""
    data, num_bytes = memoryview(packet)[:PICTURE_HEADER_BYTES].tobytes(), length_bytes(codec)
    if not num_bytes:
        yield from START_CODE.findall(data)
        return
    position = num_bytes
    while position + 3 <= len(data):
        yield data[position : position + 3]
        position += int.from_bytes(data[position - num_bytes : position], "big") + num_bytes
