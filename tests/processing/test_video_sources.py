"""Sources of videos. A source that cannot be read raises an error of one line, leaves no file open and does not crash."""

import ast
import contextlib
import gzip
import http.server
import io
import mmap
import os
import random
import re
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from video_files import moving_frames, write_audio, write_video

from tubevit.processing import clip_assembly, decoder_setup, video_decoding, video_index, video_source
from tubevit.processing.video_decoding import VideoDecodeError, decode_video, probe_video


FRAMES = moving_frames(30, 48, 64)
FASTSTART = {"movflags": "faststart"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """An MP4 file with the index at its start, so that a truncated file can be read."""
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, b_frames=2, container_options=FASTSTART)


@pytest.fixture(scope="module")
def frames(path):
    return decode_video(path)[0]


def error_of(source, **settings) -> str:
    """The message of the VideoDecodeError that decoding `source` raises: one line, naming the source if it has a name."""
    with pytest.raises(VideoDecodeError) as caught:
        decode_video(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    if isinstance(source, (str, os.PathLike)):
        assert os.fspath(source).split("?")[0] in message
    return message


# Sources


class OneWay(io.RawIOBase):
    """A stream that can only be read forward, like a pipe or an HTTP response."""

    def __init__(self, data: bytes):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.data.readinto(buffer)


def test_every_source_type_gives_the_same_frames(path, frames):
    data = path.read_bytes()
    sources = [str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data), OneWay(data)]
    sources += [{"path": str(path), "bytes": None}, {"path": None, "bytes": data}, {"path": "gone.mp4", "bytes": data}]
    for source in sources:
        assert torch.equal(decode_video(source)[0], frames), source


def test_a_file_object_is_read_from_its_start_and_left_open(path, frames):
    with open(path, "rb") as file:
        file.seek(100)
        assert torch.equal(decode_video(file)[0], frames)
        assert torch.equal(decode_video(file, lambda metadata: [4])[0], frames[4:5])
        assert not file.closed


def test_file_objects(tmp_path, path, frames):
    data = path.read_bytes()
    with gzip.open(tmp_path / "clip.gz", "wb") as file:
        file.write(data)
    with tempfile.SpooledTemporaryFile() as spooled, path.open("rb") as file, path.open("a+b") as appended:
        spooled.write(data)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with gzip.open(tmp_path / "clip.gz") as unpacked:
            for source in (spooled, mapped, appended, unpacked):
                assert torch.equal(decode_video(source)[0], frames)
    assert path.read_bytes() == data


def test_a_file_url_is_a_path(tmp_path, path, frames):
    odd = tmp_path / "a clip#1.mp4"
    odd.write_bytes(path.read_bytes())
    assert torch.equal(decode_video(odd.as_uri())[0], frames)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@localhost:1/clip.mp4",
        "http://user:secret?x@localhost:1/clip.mp4",
        "http://user:sec/ret@localhost/clip.mp4",
        "http://localhost:1/a b.mp4?token=secret",
        "http://localhost:1/vidéo.mp4",
        "http://[::1/x",
    ],
)
def test_failed_download_raises_one_line_without_password(url):
    with pytest.raises(VideoDecodeError, match="could not be downloaded") as caught:
        decode_video(url)
    assert not any(part in str(caught.value) for part in ("\n", "sec", "ret"))


def test_path_is_never_a_protocol(tmp_path, path, frames, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "-i.mp4", "http:x.mp4", "%03d.mp4"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert torch.equal(decode_video(name)[0], frames)


@pytest.fixture
def server(path):
    """`server(name)` is a URL of a small web server that has "clip.mp4" and "short.mp4", whose response is incomplete."""
    data = path.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path.startswith(("/clip.mp4", "/short.mp4"))
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(data) if found else 0))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if "short" in self.path else data if found else b"")

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield lambda name: f"http://127.0.0.1:{running.server_port}/{name}"
        running.shutdown()


def test_url(server, frames, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    assert torch.equal(decode_video(server("clip.mp4?token=secret"))[0], frames)
    assert "404" in error_of(server("gone.mp4?token=secret"))
    assert "secret" not in error_of(server("gone.mp4?token=secret"))
    assert "could not be downloaded" in error_of(server("short.mp4"))
    assert "could not be downloaded" in error_of("http://127.0.0.1:1/clip.mp4")


def test_a_file_object_larger_than_any_buffer(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), np.uint8)
    for name in ("noise.mkv", "noise.avi"):
        path = write_video(tmp_path / name, noise, codec="ffv1", pix_fmt="yuv444p")
        assert path.stat().st_size > 2**20
        with open(path, "rb") as file:
            assert torch.equal(decode_video(file)[0], decode_video(path)[0])


@pytest.mark.parametrize("source", [3, None, ["clip.mp4"], np.zeros(3)])
def test_other_source_types_raise_type_error(source):
    with pytest.raises(TypeError, match="must be a path, an http"):
        decode_video(source)


def test_a_row_without_a_video_and_a_text_file_object(path):
    with pytest.raises(ValueError, match="needs 'bytes' or 'path'"):
        decode_video({"path": None, "bytes": None})
    with open(path, encoding="latin-1") as file, pytest.raises(TypeError, match="binary mode"):
        decode_video(file)


# Files without a video


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        decode_video(tmp_path / "gone.mp4")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        decode_video(tmp_path)


def test_empty(tmp_path):
    (tmp_path / "empty.mp4").touch()
    for source in (tmp_path / "empty.mp4", b"", io.BytesIO(), OneWay(b""), {"path": None, "bytes": b""}):
        assert "is empty" in error_of(source)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("noise.mp4", random.Random(0).randbytes(5000)),
        ("text.txt", b"FFmpeg would draw this text as a video.\n" * 50),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nclip.mp4\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile clip.mp4\n"),
    ],
)
def test_files_that_are_not_videos_raise(tmp_path, path, name, content):
    (tmp_path / "clip.mp4").write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    assert "is not a video file" in error_of(tmp_path / name)
    assert "is not a video file" in error_of(content)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("png", "rgb24"), ("mjpeg", "yuvj420p")])
def test_still_image_raises(tmp_path, codec, pix_fmt):
    write_video(tmp_path / "image", FRAMES[:1], codec=codec, pix_fmt=pix_fmt, container_format="image2pipe")
    assert "is not a video file" in error_of(tmp_path / "image")


def test_sound_only(tmp_path):
    assert "no video stream (it holds audio)" in error_of(write_audio(tmp_path / "sound.mp4"))


@pytest.mark.parametrize("name", ["none.mp4", "none.mkv"])
def test_no_frames(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    assert error_of(tmp_path / name)


def test_complete_header_without_frames(path):
    first, _ = packets_of(path)[0]
    assert "has a video stream without frames" in error_of(path.read_bytes()[:first])


def test_video_formats_are_ffmpeg_names():
    known = {name for names in av.formats_available for name in names.split(",")}
    assert set(video_source.VIDEO_FORMATS.split(",")) <= known


# Frames that do not exist


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([30], "frame 30 does not exist; the video has frames 0 to 29"),
        ([0, -1], "frame -1 does not exist"),
        ([0.0, 1.0], "must be integers, not float64"),
        ([True], "must be integers, not bool"),
        ([], "at least one"),
        ([[0, 1]], "must be a list"),
        (None, "must be a list"),
    ],
)
def test_wrong_indices(path, indices, message):
    assert message in error_of(path, sample_indices_fn=lambda metadata: indices)


def test_indices_may_be_a_list_an_array_or_a_tensor(path, frames):
    for indices in ([2, 5], (2, 5), np.array([2, 5], np.uint8), torch.tensor([2, 5])):
        assert torch.equal(decode_video(path, lambda metadata, chosen=indices: chosen)[0], frames[[2, 5]])


def test_errors_of_callbacks_propagate(path):
    def fail(*arguments, **settings):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        decode_video(path, fail)
    with pytest.raises(KeyError, match="mine"):
        decode_video(path, frame_transform=fail)


# Damaged files


def packets_of(path) -> list[tuple[int, int]]:
    """`(position, size)` of each packet in the file, in decoding order."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


@pytest.fixture
def damaged(tmp_path):
    """A file of 30 frames without B-frames whose 20th packet is destroyed: only the first 19 frames can be decoded."""
    whole = write_video(tmp_path / "whole.mp4", FRAMES, gop=250)
    data = bytearray(whole.read_bytes())
    position, size = packets_of(whole)[19]
    data[position : position + size] = b"\xff" * size
    (tmp_path / "damaged.mp4").write_bytes(data)
    return tmp_path / "damaged.mp4", decode_video(whole)[0]


def test_damaged_file_raises_with_number_of_decoded_frames(damaged):
    path, _ = damaged
    message = error_of(path)
    assert "decoding stops after 19 of 30 frames" in message and "allow_partial=True" in message


def test_frames_before_the_damage_are_returned(damaged):
    path, frames = damaged
    assert torch.equal(decode_video(path, lambda metadata: [3, 18], num_threads=1)[0], frames[[3, 18]])


@pytest.mark.parametrize("num_threads", [1, 4])
def test_allow_partial_samples_from_decoded_frames(damaged, num_threads):
    path, frames = damaged
    asked = []

    def sample(metadata):
        asked.append(metadata.total_num_frames)
        return [0, metadata.total_num_frames - 1]

    decoded, metadata = decode_video(path, sample, allow_partial=True, num_threads=num_threads)
    assert asked == [30, 19]
    assert metadata.total_num_frames == len(metadata.timestamps) == 19
    assert torch.equal(decoded, frames[[0, 18]])
    assert torch.equal(decode_video(path, allow_partial=True)[0], frames[:19])


def test_file_without_decodable_frames_always_raises(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", FRAMES, gop=250)
    data = bytearray(whole.read_bytes())
    for position, size in packets_of(whole):
        data[position : position + size] = b"\xff" * size
    assert "none of its 30 frames can be decoded" in error_of(bytes(data), allow_partial=True)


def every_frame(counts: list, metadata):
    """A `sample_indices_fn` that selects all frames and appends their number to `counts`."""
    counts.append(metadata.total_num_frames)
    return range(metadata.total_num_frames)


CONTAINERS = [
    ("clip.mp4", {"b_frames": 2, "container_options": FASTSTART}),
    ("clip.mkv", {"b_frames": 2}),
    ("clip.webm", {"codec": "libvpx-vp9"}),
    ("clip.avi", {"codec": "mpeg4"}),
    ("fragmented.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
]


@pytest.mark.parametrize(("name", "settings"), CONTAINERS)
def test_truncated_file_raises_unless_allow_partial(tmp_path, name, settings):
    whole = write_video(tmp_path / name, FRAMES, **settings)
    frames, data = decode_video(whole)[0], whole.read_bytes()
    (position, size) = packets_of(whole)[20]
    for end, expected in ((position + size // 2, {20}), (position + size, {20, 21})):  # half a packet gives no frame
        assert "is cut off" in error_of(data[:end])
        counts = []
        decoded, metadata = decode_video(data[:end], partial(every_frame, counts), allow_partial=True)
        assert counts == [len(decoded)] == [metadata.total_num_frames] and len(decoded) in expected
        assert torch.equal(decoded[:12], frames[:12])


def test_file_without_index_raises(tmp_path):
    whole = write_video(tmp_path / "clip.mp4", FRAMES)  # the index is at the end of the file
    assert "cut off" in error_of(whole.read_bytes()[:-400])


@pytest.mark.parametrize(("name", "settings"), CONTAINERS[:4])
def test_random_damage_gives_frames_or_a_one_line_error(tmp_path, name, settings):
    data, rng = write_video(tmp_path / name, FRAMES[:20], **settings).read_bytes(), random.Random(0)
    for attempt in range(60):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 3, 30])):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        broken = bytes(broken[: rng.randrange(1, len(broken))] if attempt % 3 == 0 else broken)
        for allow_partial in (False, True):
            try:
                frames, metadata = decode_video(broken, num_threads=1 + attempt % 2, allow_partial=allow_partial)
            except VideoDecodeError as error:
                assert "\n" not in str(error)
            else:
                assert frames.shape == (metadata.total_num_frames, 3, metadata.height, metadata.width)


def test_unsupported_color_matrix_raises(tmp_path):
    path = tmp_path / "ycgco.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "log-level=none"})
        stream.height, stream.width, stream.pix_fmt = *FRAMES.shape[1:3], "yuv444p"
        stream.codec_context.colorspace = 8  # YCgCo, which libswscale does not support
        container.mux(stream.encode(av.VideoFrame.from_ndarray(FRAMES[0], format="rgb24").reformat(format="yuv444p")))
        container.mux(stream.encode(None))
    assert "cannot be converted to RGB" in error_of(path)


# Open files, output and imports


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count open files")
def test_every_file_is_closed(tmp_path, damaged, path):
    sources = [
        path,
        damaged[0],
        write_audio(tmp_path / "sound.mp4"),
        write_video(tmp_path / "b.avi", FRAMES, codec="mpeg4", b_frames=2),
    ]
    before = len(os.listdir("/proc/self/fd"))
    for source in sources:
        for indices in ([3], [29], [99]):
            with contextlib.suppress(VideoDecodeError):
                decode_video(source, lambda metadata, chosen=indices: chosen)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_printed(damaged, capfd):
    error_of(damaged[0])
    decode_video(damaged[0], allow_partial=True)
    assert capfd.readouterr() == ("", "")


def test_pyav_is_imported_only_when_a_video_is_read():
    for module in (clip_assembly, decoder_setup, video_decoding, video_index, video_source):
        top_level = ast.parse(Path(module.__file__).read_text()).body
        imported = [alias.name for node in top_level if isinstance(node, ast.Import) for alias in node.names]
        assert "av" not in imported


def test_without_pyav_the_error_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match="pip install av"):
        probe_video(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mkv", "mpeg2video"), ("clip.webm", "libvpx"), ("clip.mp4", "libx265")]
)
def test_packets_without_a_frame_are_damage(tmp_path, name, codec):
    path = write_video(tmp_path / name, FRAMES, codec=codec, gop=250)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[15:]:  # zeros, as in an interrupted download into a preallocated file
        # HEVC: a NAL unit of an unknown type, which decoders skip silently
        empty = (len(packet) - 4).to_bytes(4, "big") + b"\x7e" + bytes(len(packet) - 5)
        data = data.replace(packet, empty if codec == "libx265" else bytes(len(packet)))
    assert re.search(r"only 15 of \d+ frames can be decoded|stops after 15 of", error_of(data))
    assert len(decode_video(data, allow_partial=True)[0]) == 15


@pytest.mark.parametrize(
    ("name", "settings", "num_bytes"),
    [
        ("clip.gif", {"codec": "gif", "pix_fmt": "rgb8"}, 1),
        ("clip.apng", {"codec": "apng", "pix_fmt": "rgb24"}, 12),
        ("clip.ivf", {"codec": "libvpx"}, 1),
        ("clip.wmv", {"codec": "wmv2"}, 2000),
    ],
)
def test_formats_that_state_their_length(tmp_path, name, settings, num_bytes):
    data = write_video(tmp_path / name, FRAMES, **settings).read_bytes()
    for whole in (data, data + b"\0\0junk"):
        assert len(decode_video(whole)[0]) == len(FRAMES)
    assert "is cut off" in error_of(data[:-num_bytes])
    assert len(decode_video(data[:-num_bytes], allow_partial=True)[0]) >= 15


def test_second_stream_in_the_middle_of_a_file_raises(tmp_path):
    first = write_video(tmp_path / "first.ts", FRAMES, codec="mpeg2video")
    second = write_video(
        tmp_path / "second.ts",
        FRAMES,
        codec="mpeg2video",
        container_options={"mpegts_start_pid": "400", "mpegts_pmt_start_pid": "5000"},
    )
    assert "starts another stream in its middle" in error_of(first.read_bytes() + second.read_bytes())


def test_frames_with_concealed_damage_raise_unless_allow_partial(tmp_path):
    """Overwrite a part of the file at several positions: frames that the decoder flags as damaged are reported."""
    data = write_video(tmp_path / "whole.mp4", moving_frames(60, 120, 160), gop=30, b_frames=2).read_bytes()
    messages = []
    for position in range(len(data) // 6, len(data) - 2000, len(data) // 12):
        path = tmp_path / f"{position}.mp4"
        path.write_bytes(data[:position] + bytes(300) + data[position + 300 :])
        try:
            decode_video(path)
        except VideoDecodeError as error:
            messages.append(str(error))
            assert len(decode_video(path, allow_partial=True)[0]) > 0
    assert any("had to conceal missing parts of frame" in message for message in messages)
    assert all("is damaged" in message for message in messages)
