# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Which packet of a video holds which frame, found by reading the packets' headers once, without decoding.

Packets lie in the file in decoding order, frames are shown in the order of their presentation times (pts); with
B-frames the two differ. The index maps frame i (presentation order) to its packet, and finds the key frame from which
decoding has to start to get it. It is exact as long as every packet gives one frame with the packet's own time. Where
that is not sure `VideoIndex.doubt` says why, and the caller decodes in order from the start instead.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


# Up to this size packets are kept from indexing to decoding; those of larger videos are read again where needed.
MAX_HELD_BYTES = 64 * 2**20

# Bits of a VP8 packet's first byte: set if its frame is shown, and if it is no key frame, which is always shown.
VP8_SHOW_FRAME, VP8_INTER_FRAME = 0x10, 0x01

# A picture that is "not coded" takes a few bytes and, in MPEG-4, gives no frame; encoders use it as a placeholder.
MIN_PICTURE_BYTES = 16


class IndexMismatch(Exception):
    """Decoding gave other frames than the index promised. Users never see it: decoding starts over without the index."""


class PacketHeader(NamedTuple):
    """What the file says about a packet before it is decoded. Times are in units of the stream's time base."""

    pts: int | None  # presentation time
    dts: int | None  # decoding time
    duration: int
    size: int  # bytes
    is_key: bool
    is_shown: bool  # False for frames that only serve to decode others


@dataclass
class Run:
    """Packets `first` to `last`, positions in decoding order: from a key frame to the last packet that is wanted."""

    first: int
    last: int
    wanted: set[int]  # positions of the packets whose frames are wanted


@dataclass(frozen=True)
class VideoIndex:
    """The packets of a video stream in decoding order, and the frames that they hold in presentation order."""

    headers: list[PacketHeader]
    packets: list | None  # the packets themselves; None if they are too large to hold
    frame_packets: list[int]  # position of the packet that holds frame i; meaningless where there is a doubt
    key_packets: list[int]  # positions of the key frames
    doubt: str | None  # why packets and frames may not correspond; None if the index can be relied on
    may_hide_frames: bool  # packets may hold nothing but frames that are not shown, as VP9's may
    is_cut_off: bool  # the file ends before the end that it announces
    last_duration: int  # how long the last frame is shown; 0 if unknown
    time_base: Fraction  # seconds in a unit of time
    frame_rate: Fraction | None  # as the file says, or as FFmpeg estimates from its start
    width: int  # of the first frame as stored, in pixels that need not be square
    height: int
    sample_aspect_ratio: Fraction | None  # width of a pixel over its height; None if not stated

    def sure_times(self) -> list[int]:
        """
        The presentation times at which a frame has to come, unless the video is interlaced.

        A few bytes may be a placeholder; and what follows a key frame and is shown before it refers to the group before, which
        may have been cut away.
        """
        if self.doubt is not None or self.may_hide_frames:
            return []
        times, key_time = [], self.headers[0].pts
        for header in self.headers:
            key_time = header.pts if header.is_key else key_time
            if header.is_shown and header.pts >= key_time and header.size >= MIN_PICTURE_BYTES:
                times.append(header.pts)
        return times

    def start_packet(self, packet: int) -> int:
        """Position of the key frame from which `packet` decodes as it does from the start of the file.

        That is the last key frame before it that is not shown after it: what follows the key frame of an open group
        in the file, but is shown before, refers to the group before.
        """
        number = bisect_right(self.key_packets, packet)
        while number and self.headers[self.key_packets[number - 1]].pts > self.headers[packet].pts:
            number -= 1
        return self.key_packets[number - 1] if number else 0

    def runs(self, frames) -> list[Run]:
        """What to decode for `frames` (ascending), leaving out the groups of pictures that hold none of them."""
        runs: list[Run] = []
        for packet in (self.frame_packets[frame] for frame in frames):
            start = self.start_packet(packet)
            if not runs or start > runs[-1].last + 1:
                runs.append(Run(start, packet, set()))
            runs[-1].last = max(runs[-1].last, packet)
            runs[-1].wanted.add(packet)
        return runs

    def read(self, run: Run, container, stream) -> Iterator[tuple[int, object]]:
        """`(position, packet)` of each packet of a run: those in hand, or else read from the file after a seek."""
        if self.packets is not None:
            yield from zip(range(run.first, run.last + 1), self.packets[run.first : run.last + 1], strict=True)
            return
        key = self.headers[run.first]
        # Some formats look up decoding times and some presentation times: the earlier one never lands too late.
        container.seek(key.pts if key.dts is None else min(key.pts, key.dts), stream=stream)
        position = run.first
        for packet in container.demux(stream):
            if packet.size and packet.pts == self.headers[position].pts:
                yield position, packet
                position += 1
                if position > run.last:
                    return
            elif packet.size and position > run.first:
                break
        raise IndexMismatch("the file gives other packets after seeking than from its start")


def build_index(container, stream, file_ends_early: bool) -> VideoIndex:
    """Read the headers of all packets of `stream`; `container` stands at its beginning. FFmpeg's errors pass through.

    `file_ends_early` says that the file is shorter than its first bytes announce.
    """
    headers, packets, num_held_bytes, is_damaged = [], [], 0, False
    is_vp8 = stream.codec_context.name == "vp8"
    for packet in container.demux(stream):
        size = packet.size
        if not size:  # the end of the stream, or a repeated frame that AVI stores as nothing
            continue
        # VP8 puts hidden reference frames into packets of their own.
        is_hidden = is_vp8 and bytes(packet)[0] & (VP8_SHOW_FRAME | VP8_INTER_FRAME) == VP8_INTER_FRAME
        is_shown = not packet.is_discard and not is_hidden
        headers.append(PacketHeader(packet.pts, packet.dts, packet.duration or 0, size, packet.is_keyframe, is_shown))
        is_damaged = packet.is_corrupt
        num_held_bytes += size
        if packets is not None:
            packets.append(packet)
            packets = packets if num_held_bytes <= MAX_HELD_BYTES else None
    is_cut_off = _is_cut_off(container, stream, len(headers), is_damaged, file_ends_early)
    if is_cut_off and is_damaged:  # the last packet is cut, too: half of it would give half a picture
        headers, packets = headers[:-1], packets and packets[:-1]
    doubt = _doubt(container, stream, headers)
    shown = [position for position, header in enumerate(headers) if header.is_shown]
    if doubt is None:
        shown.sort(key=lambda position: headers[position].pts)
    return VideoIndex(
        headers=headers,
        packets=packets,
        frame_packets=shown,
        key_packets=[position for position, header in enumerate(headers) if header.is_key],
        doubt=doubt,
        may_hide_frames=stream.codec_context.name == "vp9",
        is_cut_off=is_cut_off,
        last_duration=headers[shown[-1]].duration if shown else 0,
        time_base=stream.time_base,
        frame_rate=stream.average_rate or stream.guessed_rate,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        sample_aspect_ratio=stream.sample_aspect_ratio,
    )


def _is_cut_off(container, stream, num_packets: int, last_is_damaged: bool, file_ends_early: bool) -> bool:
    if has_format(container, "mov"):  # lists all its samples, wherever the list stands in the file
        return last_is_damaged or sum(entry.size > 0 for entry in stream.index_entries) > num_packets
    if has_format(container, "avi"):  # a wrong length in an AVI header is common; that frames are missing too is not
        return file_ends_early and num_packets < stream.frames
    return file_ends_early


def _doubt(container, stream, headers: list[PacketHeader]) -> str | None:
    """Why packets and frames may not correspond one to one, in the order of the packets' times. None if they do."""
    codec = stream.codec_context
    times = [header.pts for header in headers if header.is_shown]
    if None in (header.pts for header in headers) or len({header.pts for header in headers}) < len(headers):
        return "presentation times are missing or repeated"
    if not times or not headers[0].is_key or min(times) < headers[0].pts:
        return "the stream does not begin with a key frame"
    if codec.has_b_frames and all(header.pts == header.dts for header in headers):
        return "frames are reordered, but the file has decoding times only"
    if codec.name == "mpeg4" and min(header.size for header in headers) < MIN_PICTURE_BYTES:
        return "some packets are placeholders without a frame"
    if has_format(container, "avi"):
        reordered = codec.has_b_frames or any(header.pts != header.dts for header in headers)
        return "AVI counts packets in decoding order, and frames are reordered" if reordered else None
    if not (has_format(container, "mov") or has_format(container, "matroska")):
        return "only MP4, MOV, Matroska, WebM and AVI are known to store one frame in each packet"
    return None


def has_format(container, name: str) -> bool:
    """Whether FFmpeg reads `container` as this format; "mov" stands for MP4 too and "matroska" for WebM."""
    return name in container.format.name.split(",")
