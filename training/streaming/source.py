# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Frames of a file, a camera or a network stream, in order. A live source that disconnects or stalls is reopened."""

import platform
import re
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from tubevit.processing import VideoDecodeError
from tubevit.processing.clip_assembly import FrameToRGB
from tubevit.processing.decoder_setup import default_num_threads, set_decoder_threads
from tubevit.processing.video_source import import_av, open_container, reason, resolve_source, without_secrets


LIVE = re.compile(r"(rtsp|rtsps|rtmp|rtmps|rtp|udp|tcp|srt)://")
CAMERA = re.compile(r"camera:(\d+)")
CAMERA_FORMATS = {
    "Linux": ("v4l2", "/dev/video{}"),
    "Darwin": ("avfoundation", "{}"),
    "Windows": ("dshow", "video={}"),
}
MAX_PAUSE = 30.0  # seconds between two attempts to open a source


class SourceFrame(NamedTuple):
    """
    A decoded frame.

    picture: returns it as RGB, uint8 `(height, width, 3)`, upright, with square pixels. seconds: since the first frame after the source was
    opened. is_first: whether the source was opened for this frame.
    """

    picture: Callable[[], np.ndarray]
    seconds: float
    is_first: bool


class VideoSource:
    """
    The frames of a source, as an iterator of `SourceFrame`.

    name: a path or URL of a file; `camera:0`; a URL of a live stream (rtsp, rtmp, rtp, udp, tcp, srt).
    max_reconnects: consecutive attempts to reopen a live source. stall_seconds: seconds without data after which a live source counts as
        lost.
    on_message: called with one line each time a live source is lost.

    Its attribute `name` is for messages and files: a URL there has no user name, password or query. `num_damaged` counts the frames that
    are left out because FFmpeg reports damage.

    Raises an `OSError` for a file that does not exist. The iterator raises `VideoDecodeError` if a file cannot be read to its end, or if a
    live source cannot be opened (again).
    """

    def __init__(
        self,
        name: str,
        max_reconnects: int = 5,
        stall_seconds: float = 10.0,
        on_message: Callable[[str], None] = print,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.location, self.max_reconnects, self.stall_seconds = name, max_reconnects, stall_seconds
        self.on_message, self.sleep = on_message, sleep
        self.is_live = LIVE.match(name) is not None or CAMERA.fullmatch(name) is not None
        self.num_damaged = 0
        self.file = None if self.is_live else resolve_source(name)
        self.name = without_secrets(name) if self.file is None else self.file[1]

    def __iter__(self) -> Iterator[SourceFrame]:
        if self.file is not None:
            yield from self._file_frames(*self.file)
            return
        failures = 0
        while True:
            try:
                for frame in self._live_frames():
                    failures = 0
                    yield frame
                why = "it ended"
            except import_av().error.ExitError:  # raised when PyAV's timeouts end
                why = f"no data for {self.stall_seconds:g} s"
            except import_av().FFmpegError as error:
                why = reason(error)
            except OSError as error:  # the timeout of PyAV
                why = str(error) or type(error).__name__
            failures += 1
            if failures > self.max_reconnects:
                raise VideoDecodeError(
                    f"{self.name} is lost ({why}); attempts to open it again: {self.max_reconnects}."
                )
            pause = min(MAX_PAUSE, 2.0 ** (failures - 1))
            self.on_message(
                f"{self.name} is lost ({why}); attempt {failures} of {self.max_reconnects} in {pause:g} s."
            )
            self.sleep(pause)

    def _file_frames(self, file: Any, name: str) -> Iterator[SourceFrame]:
        with open_container(file, name) as (container, stream):
            try:
                yield from self._frames(container, stream)
            except import_av().FFmpegError as error:
                raise VideoDecodeError(f"{name} cannot be read to its end: {reason(error)}.") from error

    def _live_frames(self) -> Iterator[SourceFrame]:
        av = import_av()
        location, settings = self.location, {}
        if camera := CAMERA.fullmatch(self.location):
            if platform.system() not in CAMERA_FORMATS:
                raise VideoDecodeError(f"Cameras of {platform.system()} are not supported; give the URL of a stream.")
            container_format, path = CAMERA_FORMATS[platform.system()]
            location, settings = path.format(camera[1]), {"format": container_format}
        if location.startswith("rtsp"):
            settings["options"] = {"rtsp_transport": "tcp"}
        with av.open(location, timeout=(self.stall_seconds, self.stall_seconds), **settings) as container:
            if not container.streams.video:
                raise VideoDecodeError(f"{self.name} has no video.")
            yield from self._frames(container, container.streams.video[0])

    def _frames(self, container: Any, stream: Any) -> Iterator[SourceFrame]:
        """Frames in presentation order. A damaged packet or frame is left out and counted."""
        set_decoder_threads(stream.codec_context, default_num_threads())
        convert: FrameToRGB | None = None
        first = latest = None
        base = stream.time_base or Fraction(1, 90_000)
        step = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except import_av().error.InvalidDataError:
                self.num_damaged += 1
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    self.num_damaged += 1
                    continue
                if convert is None:
                    convert = FrameToRGB(frame.width, frame.height, stream.sample_aspect_ratio)
                seconds = float(frame.pts * base) if frame.pts is not None else None
                if seconds is None or (latest is not None and seconds <= latest):
                    seconds = 0.0 if latest is None else latest + step  # no time, or a clock that jumps back
                if self.is_live and latest is not None and seconds - latest > self.stall_seconds:
                    self.on_message(f"The clock of {self.name} jumps by {seconds - latest:.1f} s: windows begin anew.")
                    first = None
                is_first, first = first is None, seconds if first is None else first
                latest = seconds
                yield SourceFrame(_picture(convert, frame), seconds - first, is_first)


def _picture(convert: FrameToRGB, frame: Any) -> Callable[[], np.ndarray]:
    return lambda: convert(frame).copy()
