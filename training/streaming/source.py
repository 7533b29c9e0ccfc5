# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Frames of a file, a camera or a network stream, in order. A live source that disconnects or stalls is reopened.

An http(s) URL is a file if its response states a length, and is downloaded. Otherwise it is a live stream: motion JPEG (a response of many
parts), or a response of unknown length in a container such as MPEG-TS. A response of unknown length that begins with the same bytes when it is
opened again is a file after all: it is not read twice.
"""

import http.client
import io
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
from tubevit.processing.video_source import (
    MULTIPART,
    VIDEO_FORMATS,
    download,
    import_av,
    open_container,
    open_url,
    reason,
    resolve_source,
    without_secrets,
)


HTTP = re.compile(r"https?://", re.IGNORECASE)
LIVE = re.compile(r"(rtsp|rtsps|rtmp|rtmps|rtp|udp|tcp|srt)://")
CAMERA = re.compile(r"camera:(\d+)")
CAMERA_FORMATS = {
    "Linux": ("v4l2", "/dev/video{}"),
    "Darwin": ("avfoundation", "{}"),
    "Windows": ("dshow", "video={}"),
}
MAX_PAUSE = 30.0  # seconds between two attempts to open a source
BEGINNING = (
    1 << 16
)  # bytes of a response that are compared with those of the next; the header of a container is shorter


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

    name: a path or URL of a file; `camera:0`; a URL of a live stream (rtsp, rtmp, rtp, udp, tcp, srt, http, https).
    max_reconnects: consecutive attempts to reopen a live source. stall_seconds: seconds without data after which a live source counts as
        lost.
    on_message: called with one line each time a live source is lost or its clock jumps, and once for motion JPEG.

    Its attribute `name` is for messages and files: a URL there has no user name, password or query. `num_damaged` counts the frames that
    are left out because FFmpeg reports damage. `is_complete` tells whether a live http(s) stream is over: its server has ended it, or it is a file.

    Raises an `OSError` for a file that does not exist, and `VideoDecodeError` for an http(s) URL that cannot be opened. The iterator raises
    `VideoDecodeError` if a file cannot be read to its end, or if a live source cannot be opened (again).
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
        self.num_damaged, self.is_complete, self.is_told_of_times = 0, False, False
        self.beginning, self.has_ended = b"", False  # of the http(s) response that gave the last frame
        self.is_live = LIVE.match(name) is not None or CAMERA.fullmatch(name) is not None
        self.name, self.file = without_secrets(name), None
        if HTTP.match(name):
            data = download(name, self.name, needs_length=True)
            if data is None:
                self.is_live = True
            else:
                self.file = io.BytesIO(data), self.name
        elif not self.is_live:
            self.file = resolve_source(name)
            self.name = self.file[1]

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
                if self.is_complete:
                    return
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

    def _http_frames(self) -> Iterator[SourceFrame]:
        """
        Frames of a live stream over http(s). A chunked response says where it ends, so that a lost connection is no end.

        Raises `VideoDecodeError` for a file, a response that begins as the last one, whose connection broke off.
        """
        av = import_av()
        try:
            response = open_url(self.location, self.name, self.stall_seconds)
        except http.client.HTTPException as error:
            raise OSError(f"the server does not answer in HTTP: {type(error).__name__}") from error
        is_jpeg = response.headers.get_content_maintype() == MULTIPART
        if is_jpeg and not self.is_told_of_times:
            self.is_told_of_times = True
            self.on_message(
                f"{self.name} is motion JPEG without times: the time of a frame is the one at which it is read."
            )
        with response:
            body, is_read = Body(response, self.stall_seconds), False
            if not is_jpeg and self.beginning and body.begins_with(self.beginning):
                if not self.has_ended:
                    raise VideoDecodeError(
                        f"{self.name} cannot be read to its end: the connection broke off, and its response begins anew."
                    )
                self.on_message(f"{self.name} is a file, and has ended: its response begins as before.")
                self.is_complete = True
                return
            settings = {"format": "mpjpeg"} if is_jpeg else {"container_options": {"format_whitelist": VIDEO_FORMATS}}
            try:
                with av.open(body, metadata_errors="replace", **settings) as container:
                    if not container.streams.video:
                        raise VideoDecodeError(f"{self.name} has no video.")
                    for frame in self._frames(container, container.streams.video[0], has_times=not is_jpeg):
                        is_read, self.beginning, self.has_ended = True, body.beginning, False
                        yield frame
                        body.restart()
            except av.error.InvalidDataError as error:
                if is_read or is_jpeg:
                    raise
                raise OSError(
                    "no video that can be read as a stream; an MP4 file with its index at the end needs a response with Content-Length"
                ) from error
            self.has_ended, self.is_complete = True, response.chunked

    def _live_frames(self) -> Iterator[SourceFrame]:
        if HTTP.match(self.location):
            yield from self._http_frames()
            return
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

    def _frames(self, container: Any, stream: Any, has_times: bool = True) -> Iterator[SourceFrame]:
        """
        Frames in presentation order. A damaged packet or frame is left out and counted.

        has_times: whether the container states the times of frames; if not, a frame's time is the one at which it is read.
        """
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
                if not has_times:
                    seconds = time.monotonic()
                if seconds is None or (latest is not None and seconds <= latest):
                    seconds = 0.0 if latest is None else latest + step  # no time, or a clock that jumps back
                if self.is_live and latest is not None and seconds - latest > self.stall_seconds:
                    self.on_message(f"The clock of {self.name} jumps by {seconds - latest:.1f} s: windows begin anew.")
                    first = None
                is_first, first = first is None, seconds if first is None else first
                latest = seconds
                yield SourceFrame(_picture(convert, frame), seconds - first, is_first)


class Body:
    """
    The body of an HTTP response, as a file for FFmpeg. `read` raises `OSError` if the connection breaks off, and if `seconds` pass without
    data, or with data that give no frame: the user of the frames calls `restart` after each. `beginning` has the first bytes that were read.
    """

    def __init__(self, response: http.client.HTTPResponse, seconds: float):
        self.response, self.seconds = response, seconds
        self.beginning = self.waiting = b""  # waiting: read, and not yet given to FFmpeg
        self.restart()

    def restart(self) -> None:
        self.begin = time.monotonic()

    def begins_with(self, beginning: bytes) -> bool:
        """Whether the first bytes are `beginning`. `read` returns them again."""
        while len(self.waiting) < len(beginning) and beginning.startswith(self.waiting):
            data = self._receive(BEGINNING)
            if not data:
                break
            self.waiting += data
        return self.waiting.startswith(beginning)

    def read(self, size: int) -> bytes:
        data, self.waiting = self.waiting[:size], self.waiting[size:]
        data = data or self._receive(size)
        self.beginning += data[: BEGINNING - len(self.beginning)]
        return data

    def _receive(self, size: int) -> bytes:
        if time.monotonic() - self.begin > self.seconds:
            raise OSError(f"no frame for {self.seconds:g} s")
        try:
            return self.response.read1(size)  # `read` would wait for `size` bytes
        except TimeoutError as error:
            raise OSError(f"no data for {self.seconds:g} s") from error
        except http.client.HTTPException as error:
            raise OSError("the connection broke off") from error


def _picture(convert: FrameToRGB, frame: Any) -> Callable[[], np.ndarray]:
    return lambda: convert(frame).copy()
