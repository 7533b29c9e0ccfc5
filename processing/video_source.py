# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Where a video comes from: a path, a URL, bytes, a file object or a row of a `datasets` Video column, opened by PyAV.

Two guards that a bare `av.open` lacks. A path is only ever a path (FFmpeg would read "concat:a|b" as a command), and
only formats that hold a video are tried: a playlist may name other files or hosts, and FFmpeg draws plain text as a
video.
"""

import http.client
import io
import os
import re
import urllib.parse
import urllib.request
from contextlib import contextmanager


DOWNLOAD_TIMEOUT_SECONDS = 30

# FFmpeg's names of the formats that are tried. Still images and playlists are left out on purpose.
VIDEO_FORMATS = (
    "apng,asf,av1,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,swf,vc1,"
    "wtv,yuv4mpegpipe"
)
# Codecs of which FFmpeg must have opened a decoder to tell frames' times from a container that does not state them all.
PROBED_CODECS = "h263,mpeg4"
ATTACHED_PICTURE = 1 << 10  # FFmpeg's flag for the cover picture of a piece of music


class VideoDecodeError(ValueError):
    """A video that cannot be read, in one line: which one, why, and how far decoding came."""


def import_av():
    """The `av` package (PyAV), imported when a video is first read because it loads all of FFmpeg."""
    try:
        import av
        import av.video.reformatter
    except ImportError as error:
        raise ImportError("Reading videos needs PyAV: pip install av") from error
    return av


def resolve_source(source) -> tuple[str | io.IOBase, str]:
    """What PyAV can open for `source`, more than once if need be, and the name to use for it in errors.

    `source` is a path or file:// URL, an http or https URL (downloaded into memory), bytes, a binary file object (read from its
    start and left open; one that cannot seek is read into memory) or `{"path": ..., "bytes": ...}` as `datasets`
    gives for `Video(decode=False)`, where bytes win. Raises FileNotFoundError, IsADirectoryError or PermissionError
    for a path, VideoDecodeError for an empty source or a failed download, TypeError for anything else.
    """
    if isinstance(source, dict):
        return _resolve_row(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _in_memory(bytes(source), f"<{len(source)} bytes>")
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        # A query may hold an access token and the host's name a password, which have no place in a log.
        name = re.sub(r"//.*@", "//", source.split("?")[0])
        return _in_memory(_download(source, name), name)
    if isinstance(source, str) and source.lower().startswith("file://"):
        address = urllib.parse.urlsplit(source)
        if address.netloc.lower() not in ("", "localhost"):
            raise VideoDecodeError(f"{source} is a file of another machine; only file:///PATH can be read.")
        source = urllib.request.url2pathname(address.path)
    if isinstance(source, (str, os.PathLike)):
        return _resolve_path(os.fsdecode(source))
    if hasattr(source, "read"):
        return _resolve_file_object(source)
    raise TypeError(
        f"A video must be a path, an http(s) URL, bytes, a binary file object or a dict with 'path' and 'bytes', "
        f"not {type(source).__name__}."
    )


@contextmanager
def open_container(file, name: str, probe: bool = True):
    """The opened container and its video stream. `file` and `name` come from `resolve_source`.

    FFmpeg decodes the first frames to complete what the file says of itself, which takes as long as a few frames do.
    With `probe=False` that is left out where the codec allows it; pixel format and the like are then unknown.
    """
    av = import_av()
    if not isinstance(file, str):
        file.seek(0)
    try:
        # Tags are free text in any encoding; one that is not UTF-8 is no reason to refuse the video.
        container = av.open(
            file,
            metadata_errors="replace",
            container_options={"format_whitelist": VIDEO_FORMATS},
            options={} if probe else {"codec_whitelist": PROBED_CODECS, "skip_frame": "all"},
        )
    except av.FFmpegError as error:
        raise VideoDecodeError(f"{name} is not a video file, or it is damaged or cut off: {reason(error)}.") from error
    with container:
        yield container, _video_stream(container, name)


def reason(error: Exception) -> str:
    """FFmpeg's own words for what went wrong: the last line it logged if it was logging, else its error text."""
    log = getattr(error, "log", None)
    return (log[2].strip() if log else getattr(error, "strerror", None)) or type(error).__name__


def _video_stream(container, name: str):
    """The first video stream that is no cover picture and that this FFmpeg can decode."""
    streams = [stream for stream in container.streams.video if not stream.disposition & ATTACHED_PICTURE]
    if not streams:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoDecodeError(f"{name} has no video stream (it holds {found}).")
    if streams[0].codec_context is None:
        raise VideoDecodeError(f"{name} is encoded in a way that this FFmpeg cannot decode.")
    return streams[0]


class _Reader:
    """What PyAV needs of a file object. It takes offence at some names and modes, and at a `seek` that returns nothing."""

    def __init__(self, file):
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.file.seek(offset, whence)
        return self.file.tell()


def _resolve_row(row: dict):
    if row.get("bytes") is not None:
        file, name = resolve_source(row["bytes"])
        return file, row.get("path") or name
    if row.get("path") is None:
        raise ValueError(f"A video given as a dict needs 'bytes' or 'path'; this one has {sorted(row)}, both unset.")
    return resolve_source(row["path"])


def _resolve_path(path: str):
    with open(path, "rb") as file:  # Python's own errors: no such file, a directory, no permission
        if not file.read(1):
            raise VideoDecodeError(f"{path} is empty.")
    return f"file:{path}", path


def _resolve_file_object(file):
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else f"<{type(file).__name__}>"
    if not isinstance(file.read(0), bytes):
        raise TypeError(f"{name} is open as text; open it in binary mode ('rb').")
    if not (hasattr(file, "seek") and hasattr(file, "tell") and getattr(file, "seekable", lambda: True)()):
        return _in_memory(file.read(), name)
    file.seek(0)
    if not file.read(1):
        raise VideoDecodeError(f"{name} is empty.")
    return _Reader(file), name


def _in_memory(data: bytes, name: str):
    if not data:
        raise VideoDecodeError(f"{name} is empty.")
    return io.BytesIO(data), name


def _download(url: str, name: str) -> bytes:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "tubevit"})
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:
            return response.read()
    except (ValueError, http.client.InvalidURL):  # which quote what `name` leaves out, and so does a traceback
        raise VideoDecodeError(f"{name} could not be downloaded: this is not a valid address.") from None
    except (OSError, http.client.HTTPException) as error:
        raise VideoDecodeError(f"{name} could not be downloaded: {error}.") from error
