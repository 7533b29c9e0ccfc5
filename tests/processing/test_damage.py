"""
Damaged files give right frames or an error.

Law: a frame is an error if FFmpeg flags it, or a frame from which it is decoded, as damaged; otherwise it is the frame of a decode
of the whole file. This depends on the file and the frame only, not on the other frames of the clip or the number of threads, so a
clip is an error if one of its frames is. A clip far from the damage is returned.

The fuzz test damages files of six containers at random. `make fuzz` runs it for longer (`SECONDS=600 SEED=1`); a failure names the
damaged file that it keeps and the seed that makes it again.
"""

import io
import os
import random
import time
from pathlib import Path
from typing import NamedTuple

import av
from video_files import moving_frames, write_video

from tubevit.processing.video_decoding import VideoDecodeError, decode_video


FRAMES = moving_frames(24, 64, 96)
KINDS = {
    "h264_b.mp4": {"b_frames": 2},
    "h264.mkv": {},
    "h264_b.mov": {"b_frames": 2},
    "h264.avi": {},
    "h264_b.ts": {"b_frames": 2},
    "h265_b.mp4": {"codec": "libx265", "b_frames": 2},
    "h265.ts": {"codec": "libx265"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp9.mkv": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2_b.mkv": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "motion_jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "motion_jpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "h264_audio.mp4": {"audio": True},
}
ATTEMPTS_PER_KIND = 5


class Decoded(NamedTuple):
    """A decode of a whole file by PyAV, in one thread, in which FFmpeg's flags are complete."""

    pictures: list[bytes]
    is_flagged: list[bool]
    is_key: list[bool]
    is_damaged: bool  # a frame or packet is flagged, or decoding ends with an error

    def is_affected(self, frame: int) -> bool:
        """Whether a frame of the same group of pictures, at or before `frame`, is flagged, or was not decoded."""
        if frame >= len(self.pictures):
            return True
        start = max((i for i in range(frame + 1) if self.is_key[i]), default=0)
        return any(self.is_flagged[start : frame + 1])


def decode_sequentially(data: bytes) -> Decoded:
    pictures, is_flagged, is_key, is_damaged = [], [], [], False
    try:
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                is_damaged |= packet.is_corrupt
                for frame in packet.decode():
                    pictures.append(frame.to_ndarray(format="rgb24").tobytes())
                    is_flagged.append(frame.is_corrupt)
                    is_key.append(frame.key_frame)
    except (av.FFmpegError, IndexError, AttributeError):  # the latter: no video stream, or of an unknown codec
        is_damaged = True
    return Decoded(pictures, is_flagged, is_key, is_damaged or any(is_flagged))


def damage(data: bytes, rng: random.Random) -> bytes:
    """Flip one bit, or overwrite a block."""
    damaged = bytearray(data)
    start = rng.randrange(len(data))
    if rng.random() < 0.5:
        damaged[start] ^= 1 << rng.randrange(8)
        return bytes(damaged)
    size = min(rng.choice([16, 188, 512, 2048]), len(data) - start)
    damaged[start : start + size] = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
    return bytes(damaged)


def pictures_of(data: bytes, indices: list[int] | None, num_threads: int) -> tuple[list[bytes], int] | None:
    """`(pictures, number of frames of the video)` by `decode_video`, or None if it raises VideoDecodeError."""
    try:
        frames, metadata = decode_video(
            data, None if indices is None else lambda metadata: indices, num_threads=num_threads
        )
    except VideoDecodeError as error:
        assert "\n" not in str(error)
        return None
    pictures = [frame.permute(1, 2, 0).contiguous().numpy().tobytes() for frame in frames]
    return pictures, metadata.total_num_frames


def violations(data: bytes, healthy: Decoded, rng: random.Random) -> list[str]:
    """The laws of this file that `decode_video` breaks for a damaged file."""
    expected, found = decode_sequentially(data), []
    num_frames = len(healthy.pictures)
    chosen = sorted(rng.sample(range(num_frames), 4))
    single = {index: pictures_of(data, [index], 1) for index in chosen}
    whole = pictures_of(data, None, 1)
    if expected.is_damaged and whole is not None:
        found.append("FFmpeg flags the file, and all frames are returned without an error")
    for index, result in single.items():
        if result is None:
            continue
        ((picture,), count) = result
        is_right = count == num_frames and picture == healthy.pictures[index]
        if expected.is_damaged and expected.is_affected(index) and not is_right and count == num_frames:
            found.append(f"frame {index} is wrong, though FFmpeg flags a frame before it")
        if not expected.is_affected(index) and picture != expected.pictures[index]:
            found.append(f"frame {index} is not that of a decode of the whole file")
        if whole is not None and whole[0][index] != picture:
            found.append(f"frame {index} differs if all frames are decoded")
    together = pictures_of(data, chosen, 1)
    if (together is None) != any(result is None for result in single.values()):
        found.append(f"frames {chosen} are an error or not, by whether they are decoded together")
    elif together is not None and together[0] != [single[index][0][0] for index in chosen]:
        found.append(f"frames {chosen} differ, by whether they are decoded together")
    for indices, in_one_thread in ((None, whole), (chosen, together)):
        if pictures_of(data, indices, 3) != in_one_thread:
            found.append(f"3 threads do not give the result of one for frames {indices}")
    return found


def test_random_damage_gives_right_frames_or_an_error(tmp_path, capsys):
    seconds, seed = float(os.environ.get("FUZZ_SECONDS", 0)), int(os.environ.get("FUZZ_SEED", 0))
    only, folder = os.environ.get("FUZZ_FILE"), Path(os.environ.get("FUZZ_FOLDER", tmp_path))
    healthy = {}
    for name, settings in KINDS.items():
        data = write_video(tmp_path / name, **{"frames": FRAMES, **settings}).read_bytes()
        healthy[name] = data, decode_sequentially(data)
        assert len(healthy[name][1].pictures) == len(FRAMES) and not healthy[name][1].is_damaged
    end, attempt, failures, num_damaged = time.monotonic() + seconds, 0, [], 0
    while attempt < ATTEMPTS_PER_KIND or time.monotonic() < end:
        for name, (data, decoded) in healthy.items():
            label = f"{attempt}_{name}"
            if only and label != only:
                continue
            rng = random.Random(f"{seed} {label}")
            damaged = damage(data, rng)
            num_damaged += 1
            for text in violations(damaged, decoded, rng):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{seed}_{label}").write_bytes(damaged)
                failures.append(f"{folder / f'{seed}_{label}'}: {text}; make fuzz SEED={seed} FILE={label}")
        attempt += 1
    with capsys.disabled():
        if seconds:
            print(f"\n{num_damaged} damaged files, seed {seed}: {len(failures)} failures")
    assert not failures, "\n".join(failures)
