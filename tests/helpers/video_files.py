"""Small video files for tests, written with PyAV in many containers, codecs and settings.

The frames of `moving_frames` all differ, so that a test fails if a decoder returns a neighboring frame. `write_video` encodes
them, `full_decode` decodes a whole file as the reference.
"""

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch


TIME_BASE = Fraction(1, 90_000)  # fine enough for all frame times in tests


def moving_frames(num_frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A bright square that moves over a color gradient: uint8 `(frames, height, width, 3)`, all frames differ."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    start, velocity = rng.uniform(0, 1, 2), rng.uniform(0.03, 0.06, 2)
    side = max(2, min(height, width) // 4)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for index in range(num_frames):
        ramp = (rows * 2 + columns + index * 3) % 256
        frames[index] = np.stack([ramp, 255 - ramp, (ramp // 2 + 5 * index) % 256], axis=-1)
        top, left = ((start + velocity * index) % 1 * (height - side, width - side)).astype(int)
        frames[index, top : top + side, left : left + side] = rng.integers(128, 256, 3)
    return frames


def write_video(
    path,
    frames: np.ndarray,
    *,
    fps=25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int = 0,
    times=None,
    start: float = 0.0,
    rotation: int = 0,
    sample_aspect_ratio=None,
    audio: bool = False,
    container_format: str | None = None,
    options: dict | None = None,
    container_options: dict | None = None,
) -> Path:
    """Encode `frames`, uint8 `(frames, height, width, 3)` or 4 channels for alpha, and return `path` as a `Path`.

    The container follows the suffix of `path` (.mp4, .mkv, .webm, .avi, .mov, ...), or `container_format`. `gop` is
    the distance of key frames, `times` the presentation time of each frame in seconds (variable frame rate; AVI holds
    constant rates only) in place of `fps`, `start` is added to every time. `rotation` is in degrees counterclockwise,
    as in `av.VideoFrame.rotation`; `sample_aspect_ratio` is width over height of a pixel. `audio` adds a silent track.
    A negative `start` gives MP4 an edit list that hides the frames before 0. `options` are the encoder's,
    `container_options` the muxer's.
    """
    path = Path(path)
    pixels = "rgba" if frames.shape[-1] == 4 else "rgb24"
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        # Timed frames get a fine time base; otherwise one tick per frame, the only choice that AVI takes.
        time_base = 1 / Fraction(fps) if times is None and not start else TIME_BASE
        stream = container.add_stream(codec, rate=Fraction(fps), options=_codec_options(codec, options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(sample_aspect_ratio)
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            sound = container.add_stream("aac" if path.suffix not in (".webm", ".mkv") else "libopus", rate=48_000)
            container.mux(_silence(sound, len(frames) / float(fps)))
        for index, pixels_of_frame in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_of_frame), format=pixels)
            frame = frame.reformat(format=pix_fmt)
            seconds = start + (times[index] if times is not None else index / Fraction(fps))
            frame.pts, frame.time_base = round(seconds / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_audio(path, seconds: float = 0.5) -> Path:
    """A file that holds a silent audio track and no video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        container.mux(_silence(stream, seconds))
    return Path(path)


def add_exif(source: Path, path: Path) -> Path:
    """A copy of a motion JPEG file whose frames have EXIF data, which says that they are to be rotated by 90 degrees."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"  # orientation = 6
    exif = b"Exif\0\0MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    with av.open(str(source)) as plain, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.size:
                content = bytes(packet)
                edited = av.Packet(content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:])
                edited.pts, edited.dts, edited.time_base = packet.pts, packet.dts, packet.time_base
                edited.is_keyframe, edited.stream = True, stream
                target.mux(edited)
    return path


def full_decode(path) -> torch.Tensor:
    """Every frame, decoded by PyAV only, uint8 `(frames, 3, height, width)`."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def some_selections(num_frames: int, seed: int, count: int) -> list[list[int]]:
    """Random selections of frame indices: single frames, unordered ones with repeats, and ranges with a stride."""
    rng = random.Random(seed)
    selections = [[rng.randrange(num_frames) for _ in range(rng.choice([1, 1, 2, 7]))] for _ in range(count)]
    return selections + [list(range(rng.randrange(num_frames), num_frames, rng.choice([1, 2, 5]))) for _ in range(3)]


def _codec_options(codec: str, options: dict | None) -> dict:
    """Fast settings of each encoder, overridden by `options`. Key frames occur at the gop distance only, not at cuts."""
    quick = {
        "libx264": {"preset": "veryfast", "crf": "20", "x264-params": "scenecut=0:log-level=none"},
        "libx265": {"preset": "ultrafast", "crf": "20", "x265-params": "scenecut=0:log-level=none:pools=1"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "500k"},
        "mpeg4": {"qscale": "4", "sc_threshold": "1000000000"},
    }
    return {**quick.get(codec, {}), **(options or {})}


def _silence(stream, seconds: float) -> list:
    """Encoded packets of a silent stereo track."""
    packets, size = [], stream.codec_context.frame_size or 1024
    for first in range(0, int(seconds * 48_000), size):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, size), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, first
        packets += stream.encode(frame)
    return packets + stream.encode(None)
