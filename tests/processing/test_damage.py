"""
Damaged files give right frames or an error.

Law: a frame is an error if FFmpeg flags it, or a frame from which it is decoded, as damaged. That depends on the file and the frame
only, not on the other frames of the clip or the number of threads. A clip is an error if one of its frames is; a clip far from the
damage is returned.

The fuzz test damages files of six containers at random. `make fuzz` runs it for longer (`make fuzz SECONDS=600 SEED=1`). A failure
keeps the damaged file and says how to make it again.
"""

import io
import itertools
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
    """
    A decode of a whole file by PyAV in one thread, in which FFmpeg's flags are complete. It goes on after errors.

    pictures: of each frame, by its presentation time. Frames without a time are left out.
    affected: presentation times of the packets from which a flagged or lost picture was decoded, and of those that follow them in
        the file up to the next key frame: frames that may be predicted from a picture that FFmpeg flags.
    is_damaged: a frame or packet is flagged, or an error was raised.
    """

    pictures: dict[int, bytes]
    affected: set[int]
    is_damaged: bool


def decode_sequentially(data: bytes) -> Decoded:
    pictures, flagged, packets, is_damaged = {}, set(), [], False
    try:
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                packets.append((packet.pts, packet.is_keyframe))
                is_damaged |= packet.is_corrupt
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    is_damaged = True
                    flagged.add(packet.pts)
                    continue
                for frame in frames:
                    pictures[frame.pts] = frame.to_ndarray(format="rgb24").tobytes()
                    if frame.is_corrupt:
                        flagged.add(frame.pts)
    except (av.FFmpegError, IndexError, AttributeError):  # the latter two: no video stream, or of an unknown codec
        is_damaged = True
    affected, is_affected = set(), False
    for pts, is_key in packets:
        is_affected = pts in flagged or (is_affected and not is_key)
        if is_affected:
            affected.add(pts)
    return Decoded(pictures, affected, is_damaged or bool(flagged))


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


class Result(NamedTuple):
    """Pictures that `decode_video` returns, by the index of the frame, and the time of each in seconds."""

    pictures: dict[int, bytes]
    times: dict[int, float]


def decode(data: bytes, indices: list[int] | None, num_threads: int = 1) -> Result | None:
    """Frames by `decode_video`, or None if it raises VideoDecodeError."""
    try:
        frames, metadata = decode_video(
            data, None if indices is None else lambda metadata: indices, num_threads=num_threads
        )
    except VideoDecodeError as error:
        assert "\n" not in str(error)
        return None
    pictures = [frame.permute(1, 2, 0).contiguous().numpy().tobytes() for frame in frames]
    chosen = metadata.frames_indices
    return Result(dict(zip(chosen, pictures, strict=True)), {i: float(metadata.timestamps[i]) for i in chosen})


def violations(data: bytes, healthy: Decoded, rng: random.Random) -> list[str]:
    """The laws of this file that `decode_video` breaks for a damaged file."""
    found: list[str] = []
    expected, right = decode_sequentially(data), list(healthy.pictures.values())
    times = sorted(healthy.pictures)
    chosen = sorted(rng.sample(range(len(right)), 4))
    whole, together = decode(data, None), decode(data, chosen)
    single = {index: decode(data, [index]) for index in chosen}
    if expected.is_damaged and whole is not None:
        found.append("FFmpeg flags the file, and all frames are returned without an error")
    for index, result in single.items():
        if result is not None and times[index] in expected.affected and result.pictures[index] not in right:
            found.append(f"frame {index} is wrong, though FFmpeg flags it or a frame before it")
    has_error = any(result is None for result in single.values())
    if together is not None and has_error:
        found.append(f"frames {chosen} together are no error, though one of them is")
    # Damage that FFmpeg does not notice in one frame may be noticed in the next.
    is_wrong = any(result is not None and result.pictures[index] not in right for index, result in single.items())
    if together is None and not has_error and not is_wrong:
        found.append(f"frames {chosen} together are an error, though each of them is right")
    several = [
        (f"3 threads, frames {indices}", decode(data, indices, 3), one)
        for indices, one in ((None, whole), (chosen, together))
    ]
    several += [(f"frames {chosen} together", together, result) for result in single.values() if together and result]
    several += [(f"frame {index} alone", result, whole) for index, result in single.items() if whole and result]
    for text, one, other in several:
        if (one is None) != (other is None):
            found.append(f"{text}: an error or not")
        for index in set(one.pictures) & set(other.pictures) if one and other else ():
            # Damage that FFmpeg does not notice may decode to random pixels, of which two decodes differ.
            if one.pictures[index] != other.pictures[index] and {one.pictures[index], other.pictures[index]} & set(
                right
            ):
                found.append(f"{text}: another picture for frame {index}")
    return found


def test_random_damage_gives_right_frames_or_an_error(tmp_path, capsys):
    seconds, seed = float(os.environ.get("FUZZ_SECONDS", 0)), int(os.environ.get("FUZZ_SEED", 0))
    only, folder = os.environ.get("FUZZ_FILE"), Path(os.environ.get("FUZZ_FOLDER", tmp_path / "failures"))
    kinds = [only.split("_", 1)[1]] if only else list(KINDS)
    healthy = {}
    for name in kinds:
        data = write_video(tmp_path / name, **{"frames": FRAMES, **KINDS[name]}).read_bytes()
        healthy[name] = data, decode_sequentially(data)
        assert len(healthy[name][1].pictures) == len(FRAMES) and not healthy[name][1].is_damaged
    end, failures, num_files = time.monotonic() + seconds, [], 0
    for attempt in itertools.count() if not only else [int(only.split("_")[0])]:
        if attempt >= ATTEMPTS_PER_KIND and time.monotonic() > end and not only:
            break
        for name, (data, decoded) in healthy.items():
            label = f"{attempt}_{name}"
            rng = random.Random(f"{seed} {label}")
            damaged = damage(data, rng)
            found = violations(damaged, decoded, rng)
            num_files += 1
            if found:
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{seed}_{label}"
                path.write_bytes(damaged)
                failures.append(f"{path}: {'; '.join(found)}; repeat with: make fuzz SEED={seed} FILE={label}")
    with capsys.disabled():
        if seconds:
            print(f"\n{num_files} damaged files, seed {seed}: {len(failures)} with a wrong answer")
    assert not failures, "\n".join(failures)
