# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Index of a video stream: the packet of each frame, from one pass over the packet headers, without decoding.

A file stores packets in decoding order; frames are presented in the order of their presentation times (pts). The two
differ with B-frames. The index maps frame i (presentation order) to its packet and to the key frame from which decoding
must start. It is exact if every packet decodes to one frame with the pts of the packet. If that is not certain,
`VideoIndex.unreliable_reason` says why, and the caller decodes the stream in order from its start instead.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


# Streams up to this size stay in memory between indexing and decoding; packets of larger ones are read again when needed.
MAX_CACHED_PACKET_BYTES = 64 * 2**20

# Bits of the first byte of a VP8 packet: set if the frame is shown; set if it is not a key frame. Key frames are always shown.
VP8_SHOW_FRAME, VP8_INTER_FRAME = 0x10, 0x01

# Encoders write a "not coded" picture of a few bytes as a placeholder; in MPEG-4 it decodes to no frame.
MIN_PICTURE_BYTES = 16


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
    unreliable_reason: str | None  # why packets and frames may not correspond; None if the index is reliable
    may_hide_frames: bool  # a packet may contain hidden frames only (VP9)
    is_truncated: bool  # the file is shorter than it states
    last_duration: int  # duration of the last frame; 0 if unknown
    time_base: Fraction  # seconds per unit of time
    frame_rate: Fraction | None  # frames per second, stated by the file or estimated by FFmpeg from its first frames
    width: int  # of the first frame as stored; pixels need not be square
    height: int
    sample_aspect_ratio: Fraction | None  # width of a pixel over its height; None if not stated

    def guaranteed_times(self) -> list[int]:
        """
        Presentation times at which an undamaged, progressive video must have a frame.

        Excluded are packets of a few bytes, which may be placeholders, and leading pictures (after a key frame in the file,
        before it in presentation), whose references may have been removed by cutting the video.
        """
        if self.unreliable_reason is not None or self.may_hide_frames:
            return []
        times, key_time = [], self.headers[0].time
        for header in self.headers:
            key_time = header.time if header.is_key else key_time
            if header.is_shown and header.time >= key_time and header.size >= MIN_PICTURE_BYTES:
                times.append(header.time)
        return times

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
    num_cached_bytes, last_is_damaged = 0, False
    is_vp8 = stream.codec_context.name == "vp8"
    for packet in container.demux(stream):
        size = packet.size
        if not size:  # the end of the stream, or a repeated frame in AVI
            continue
        # VP8 stores hidden reference frames in packets of their own.
        is_hidden = is_vp8 and bytes(packet)[0] & (VP8_SHOW_FRAME | VP8_INTER_FRAME) == VP8_INTER_FRAME
        is_shown = not packet.is_discard and not is_hidden
        headers.append(PacketHeader(packet.pts, packet.dts, packet.duration or 0, size, packet.is_keyframe, is_shown))
        last_is_damaged = packet.is_corrupt
        num_cached_bytes += size
        if packets is not None:
            packets.append(packet)
            packets = packets if num_cached_bytes <= MAX_CACHED_PACKET_BYTES else None
    is_truncated = _is_truncated(container, stream, len(headers), last_is_damaged, file_is_truncated)
    if is_truncated and last_is_damaged:  # the last packet is incomplete and would decode to part of a picture
        headers, packets = headers[:-1], packets and packets[:-1]
    unreliable_reason = _unreliable_reason(container, stream, headers)
    shown = [position for position, header in enumerate(headers) if header.is_shown]
    if unreliable_reason is None:
        shown.sort(key=lambda position: headers[position].time)
    return VideoIndex(
        headers=headers,
        packets=packets,
        frame_packets=shown,
        key_packets=[position for position, header in enumerate(headers) if header.is_key],
        unreliable_reason=unreliable_reason,
        may_hide_frames=stream.codec_context.name == "vp9",
        is_truncated=is_truncated,
        last_duration=headers[shown[-1]].duration if shown else 0,
        time_base=stream.time_base,
        frame_rate=stream.average_rate or stream.guessed_rate,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        sample_aspect_ratio=stream.sample_aspect_ratio,
    )


def _is_truncated(container, stream, num_packets: int, last_is_damaged: bool, file_is_truncated: bool) -> bool:
    if has_format(container, "mov"):  # its header (at the start or the end of the file) lists all samples
        return last_is_damaged or sum(entry.size > 0 for entry in stream.index_entries) > num_packets
    if has_format(container, "avi"):  # AVI headers often state a wrong length, so frames must be missing too
        return file_is_truncated and num_packets < stream.frames
    return file_is_truncated


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
    if not (has_format(container, "mov") or has_format(container, "matroska")):
        return "only MP4, MOV, Matroska, WebM and AVI are known to store one frame per packet"
    return None


def has_format(container, name: str) -> bool:
    """Whether FFmpeg's name for the format of `container` is `name`: "mov" includes MP4, "matroska" includes WebM."""
    return name in container.format.name.split(",")
