# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Open a video with PyAV: a path, a URL, bytes, a file object, or a row of a `datasets` Video column.

Adds two protections to `av.open`: a path is always a path (FFmpeg would interpret "concat:a|b" as a protocol), and only
video formats are tried (a playlist may refer to other files or hosts, and FFmpeg renders plain text as a video).
"""

import http.client
import io
import os
import re
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import NamedTuple


DOWNLOAD_TIMEOUT_SECONDS = 30

# FFmpeg's names of the formats that are tried. Still images and playlists are deliberately excluded.
VIDEO_FORMATS = (
    "apng,asf,av1,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,swf,vc1,"
    "wtv,yuv4mpegpipe"
)
# Codecs whose decoder FFmpeg must open to compute frame times that the container does not state.
PROBED_CODECS = "h263,mpeg4"
MULTIPART = "multipart"  # type of an HTTP response of pictures that replace each other, without an end (motion JPEG)
AVIF_ANIMATION = "avis"  # major brand of an AVIF file with an animation
ATTACHED_PICTURE = 1 << 10  # FFmpeg's flag for the cover picture of an audio file


class VideoDecodeError(ValueError):
    """
    A video cannot be read. The message is one line: which video, why, and how many frames were decoded; then `hint`, an argument of the
    decoder that would help. The attribute `reason` is the message without the hint, for a reader who has no such argument.
    """

    def __init__(self, reason: str, hint: str | None = None):
        super().__init__(reason if hint is None else f"{reason} {hint}")
        self.reason = reason


class DecodeLimits(NamedTuple):
    """
    Largest videos of unknown origin that are decoded. The two checks raise `VideoDecodeError`.

    pixels: height times width of a frame. duration: seconds of video.
    """

    pixels: int
    duration: float

    def check_size(self, name: str, height: int, width: int) -> None:
        if height * width > self.pixels:
            raise VideoDecodeError(f"{name} has frames of {width}x{height} pixels, more than {self.pixels:,}.")

    def check_duration(self, name: str, seconds: float) -> None:
        if seconds > self.duration:
            raise VideoDecodeError(f"{name} is {seconds:.1f} s long, longer than {self.duration:g} s.")


def import_av():
    """Import PyAV when the first video is read, because it loads all FFmpeg libraries. Raises `ImportError` without it."""
    try:
        import av
        import av.video.reformatter
        from av.sidedata.sidedata import Type
    except ImportError as error:
        raise ImportError("Reading videos needs PyAV: pip install av") from error
    # PyAV 18 names 28 of FFmpeg's types of side data and cannot read the side data of a frame that has another, such as the EXIF
    # data of motion JPEG or the views of HEVC.
    Type._missing_ = classmethod(_unnamed_type)  # type: ignore[method-assign, assignment]
    return av


def _unnamed_type(types, value):
    """A member of PyAV's enumeration of types of side data for a `value` that it does not name."""
    member = object.__new__(types)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


def resolve_source(source) -> tuple[str | io.IOBase, str]:
    """`(file, name)`: an object that PyAV can open repeatedly, and the name of `source` in error messages.

    `source` is a path or file:// URL, an http or https URL (downloaded into memory), bytes, a binary file object (read
    from its start and left open; read into memory if it cannot seek), or `{"path": ..., "bytes": ...}` as returned by
    `datasets` for `Video(decode=False)`, where bytes take precedence. Raises FileNotFoundError, IsADirectoryError or
    PermissionError for a path, VideoDecodeError for an empty source or a failed download, TypeError for another type.
    """
    if isinstance(source, dict):
        return _resolve_row(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _in_memory(bytes(source), f"<{len(source)} bytes>")
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        name = without_secrets(source)
        data = download(source, name)
        if data is None:
            raise VideoDecodeError(f"{name} is a live stream without an end; `tubevit watch` reads such a stream.")
        return _in_memory(data, name)
    if isinstance(source, str) and source.lower().startswith("file://"):
        address = urllib.parse.urlsplit(source)
        if address.netloc.lower() not in ("", "localhost"):
            raise VideoDecodeError(f"{source} is a file on another machine; only file:///PATH can be read.")
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
    """Open `file` and yield `(container, video stream)`. `file` and `name` are the results of `resolve_source`.

    By default FFmpeg decodes the first frames to complete the stream information. `probe=False` skips this if the codec
    allows it; the pixel format and similar properties are then unknown. Raises `VideoDecodeError`.
    """
    av = import_av()
    if not isinstance(file, str):
        file.seek(0)
    try:
        # Metadata tags may have any encoding; an invalid one must not make the video unreadable.
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


def open_url(url: str, name: str, timeout: float = DOWNLOAD_TIMEOUT_SECONDS) -> http.client.HTTPResponse:
    """
    The response of an http(s) URL, whose user name and password answer its server if that asks for them (Basic or Digest), and no other
    server: see `_Login`.

    name: the URL in messages. timeout: seconds without data. Raises `VideoDecodeError` for an invalid URL, and an `OSError` or
    `http.client.HTTPException` if there is no connection, or for a status of an error.
    """
    handlers: list[urllib.request.BaseHandler] = []
    try:
        parts = urllib.parse.urlsplit(url)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        if parts.username is not None:
            user, password = (urllib.parse.unquote(each or "") for each in (parts.username, parts.password))
            login = _Login(address, user, password)
            handlers = [urllib.request.HTTPBasicAuthHandler(login), urllib.request.HTTPDigestAuthHandler(login)]
        request = urllib.request.Request(address, headers={"User-Agent": "tubevit"})
        return urllib.request.build_opener(*handlers).open(request, timeout=timeout)
    except (ValueError, http.client.InvalidURL):  # their messages and tracebacks contain the parts removed from `name`
        why = "the URL is invalid"
        if handlers:
            why += ", its server asks for a login other than Basic or Digest (MD5, SHA-1), or it redirects to a server that asks for one"
        raise VideoDecodeError(f"{name} could not be downloaded: {why}.") from None


def download(url: str, name: str, needs_length: bool = False) -> bytes | None:
    """
    The file of an http(s) URL, or `None` for a live stream: motion JPEG, and with `needs_length` a response without Content-Length.

    Raises `VideoDecodeError`; `name` is the URL in its message.
    """
    try:
        with open_url(url, name) as response:
            is_jpegs = response.headers.get_content_maintype() == MULTIPART
            return None if is_jpegs or (needs_length and response.length is None) else response.read()
    except (OSError, http.client.HTTPException) as error:
        raise VideoDecodeError(f"{name} could not be downloaded: {error}.") from error


class _Login(urllib.request.HTTPPasswordMgr):
    """
    User name and password for the server of `url`. A redirect to another host, port or scheme does not receive them: urllib's own classes
    send those of https://host/ to http://host/ in plain text.
    """

    def __init__(self, url: str, user: str, password: str):
        super().__init__()
        self.server, self.user_and_password = urllib.parse.urlsplit(url)[:2], (user, password)

    def find_user_password(self, realm: str, authuri: str) -> tuple[str | None, str | None]:
        return self.user_and_password if urllib.parse.urlsplit(authuri)[:2] == self.server else (None, None)


def without_secrets(url: str) -> str:
    """A URL without its user name, password and query, for messages and files: a query may hold a token or a passphrase."""
    url = re.sub(r"//[^/]*@", "//", url)  # a password may contain the "?" that begins a query
    return re.sub(r"//.*@", "//", url.split("?")[0])


def reason(error: Exception) -> str:
    """FFmpeg's description of an error: the last line of its log if logging is enabled, else the text of the error."""
    log = getattr(error, "log", None)
    return (log[2].strip() if log else getattr(error, "strerror", None)) or type(error).__name__


def _video_stream(container, name: str):
    """
    The first video stream that is not a cover picture; in an AVIF animation the one with the most frames, because the first is a
    still picture. Raises `VideoDecodeError` if there is none or no decoder.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & ATTACHED_PICTURE]
    if container.metadata.get("major_brand") == AVIF_ANIMATION:
        streams.sort(key=lambda stream: -stream.frames)
    if not streams:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoDecodeError(f"{name} has no video stream (it holds {found}).")
    if streams[0].codec_context is None:
        raise VideoDecodeError(f"{name} has a video codec that this FFmpeg build cannot decode.")
    return streams[0]


class _Reader:
    """A minimal file object for PyAV, which rejects some `name` and `mode` attributes and a `seek` that returns None."""

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
        raise ValueError(
            f"A video given as a dict needs 'bytes' or 'path'; both are missing or None (its keys: {sorted(row)})."
        )
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
        raise TypeError(f"{name} is opened in text mode; open it in binary mode ('rb').")
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
