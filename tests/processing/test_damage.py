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
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from video_files import add_exif, moving_frames, write_video

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
ATTEMPTS_PER_KIND = 8


class Decoded(NamedTuple):
    """
    A decode of a whole file by PyAV in one thread, in which FFmpeg's flags are complete. It goes on after errors.

    pictures: of each frame, by its presentation time. Frames without a time are left out.
    affected: presentation times of the packets from which a flagged or lost picture was decoded, and of those that follow them in
        the file up to the next key frame: frames that may be predicted from a picture that FFmpeg flags.
    is_damaged: a frame or packet is flagged, or an error was raised. has_error: an error was raised.
    """

    pictures: dict[int, bytes]
    affected: set[int]
    is_damaged: bool
    has_error: bool


def decode_sequentially(data: bytes) -> Decoded:
    pictures, flagged, packets, is_damaged, has_error = {}, set(), [], False, False
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
                    is_damaged = has_error = True
                    flagged.add(packet.pts)
                    continue
                for frame in frames:
                    pictures[frame.pts] = frame.to_ndarray(format="rgb24").tobytes()
                    if frame.is_corrupt:
                        flagged.add(frame.pts)
    except (av.FFmpegError, IndexError, AttributeError):  # the latter two: no video stream, or of an unknown codec
        is_damaged = has_error = True
    affected, is_affected = set(), False
    for pts, is_key in packets:
        is_affected = pts in flagged or (is_affected and not is_key)
        if is_affected:
            affected.add(pts)
    return Decoded(pictures, affected, is_damaged or bool(flagged), has_error)


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


# Files of earlier runs of `make fuzz` with a wrong answer: the seed, and the attempts for a container.
FOUND = [
    (7, "mpeg4_b.mp4", [60, 136, 230]),  # FFmpeg flagged no damage soon after the start of decoding
    (101, "mpeg4_b.mp4", [19]),  # damage in the first frames, and none in those selected
    (202, "mpeg4_b.mp4", [5, 89]),
    (7, "mpeg4_b.mp4", [130, 173, 174, 421]),  # presentation times
    (7, "h264_b.mov", [296]),
    (7, "h265_b.mp4", [298]),
    (7, "mpeg4_b.mp4", [271]),  # lost frames between a key frame and the frame before it
    (7, "motion_jpeg.mov", [98, 123, 159]),  # tables of another picture
    (7, "motion_jpeg.avi", [337]),
    (0, "h264_b.mp4", [8, 127, 152, 199]),  # a thread output a frame while another decoded it
    (101, "h264_b.mp4", [21]),
    (0, "mpeg4_b.mp4", [166, 309]),  # which pictures were decoded decided what FFmpeg flagged
    (0, "mpeg4.avi", [207]),  # frames that were lost shifted the numbers of others
    (0, "mpeg2_b.mkv", [23]),
    (0, "h265_b.mp4", [179]),
    (202, "h265_b.mp4", [59]),
    (0, "h264.mkv", [303]),  # a frame with a late time, in the order of decoding and in that of times
]


@pytest.mark.parametrize(("seed", "name", "attempts"), FOUND)
def test_damage_that_gave_wrong_frames(tmp_path, seed, name, attempts):
    data = write_video(tmp_path / name, **{"frames": FRAMES, **KINDS[name]}).read_bytes()
    healthy = decode_sequentially(data)
    for attempt in attempts:
        rng = random.Random(f"{seed} {attempt}_{name}")
        assert violations(damage(data, rng), healthy, rng) == [], attempt


# Kinds of damage


def assert_same_alone(data: bytes, indices) -> None:
    """The frames alone are those of the whole video, or an error. A frame that exists in the whole video exists alone."""
    whole = decode(data, None)
    for index in indices:
        alone = decode(data, [index])
        assert alone is None or (whole is not None and alone.pictures[index] == whole.pictures[index]), index
        assert whole is None or alone is not None, index


def packets_of(path) -> list[tuple[int, int]]:
    """`(position, size)` of each packet in the file, in decoding order."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("h264.mp4", {}),
        ("h264_b.mkv", {"b_frames": 2}),
        ("mpeg4.mp4", {"codec": "mpeg4"}),
        ("mpeg4_b.mov", {"codec": "mpeg4", "b_frames": 2}),
        ("mpeg2_b.mkv", {"codec": "mpeg2video", "b_frames": 2}),
    ],
)
def test_a_flag_on_a_frame_from_which_others_are_predicted(tmp_path, name, settings, num_threads):
    """Key frames are 0 and 12. A frame at or after damage in frames 1 to 11 is an error, whatever else is selected."""
    healthy = write_video(tmp_path / name, FRAMES, **settings)
    right = decode(healthy.read_bytes(), None).pictures
    position, size = max(packets_of(healthy)[1:9], key=lambda packet: packet[1])  # a P picture, not a B picture
    for seed in range(50):
        data = bytearray(healthy.read_bytes())
        data[position + size // 2] ^= 1 << seed % 8
        data[position + size // 2 + seed // 8] ^= 0xFF
        flagged = decode_sequentially(bytes(data))
        if flagged.is_damaged:
            break
    assert flagged.is_damaged
    data = bytes(data)
    for selection in ([11], [0, 11], [9, 20], None):
        assert decode(data, selection, num_threads) is None, selection
    for selection in ([0], [12], [23], [0, 17]):
        assert decode(data, selection, num_threads).pictures == {index: right[index] for index in selection}
    assert len(decode_video(data, allow_partial=True, num_threads=num_threads)[0]) == 24


def test_threads_flag_a_picture_that_is_output_while_it_is_decoded(tmp_path):
    """
    Frames 3, 7 and 11 are noise, and their neighbors are still, so that a thread decodes frame 8, and outputs frame 3 before it, long
    before the thread of frame 3 finds that it ends early.
    """
    frames = np.full((13, 256, 320, 3), 128, np.uint8)
    frames[3::4] = np.random.default_rng(0).integers(0, 256, frames[3::4].shape)
    settings = {"x264-params": "scenecut=0:b-adapt=0:b-pyramid=normal:weightp=0:log-level=none", "crf": "10"}
    path = write_video(tmp_path / "clip.mp4", frames, b_frames=3, options=settings)
    position, size = max(packets_of(path)[:5], key=lambda packet: packet[1])
    for seed in range(100):
        data = bytearray(path.read_bytes())
        data[position + size // 2 : position + size // 2 + 16] = random.Random(seed).randbytes(16)
        damaged = decode_sequentially(bytes(data))
        if damaged.is_damaged and len(damaged.pictures) == len(frames) and not damaged.has_error:
            break
    assert damaged.is_damaged and not damaged.has_error
    for num_threads in (1, 2, 4, 16):
        assert decode(bytes(data), None, num_threads) is None, num_threads
        assert decode(bytes(data), [3], num_threads) is None, num_threads
        assert decode(bytes(data), [4, 12], num_threads) is not None, num_threads


@pytest.mark.parametrize(
    ("name", "settings", "bits"),
    [
        ("h264.mp4", {}, (4, 0x60)),  # nal_ref_idc = 0
        ("mpeg4.mp4", {"codec": "mpeg4"}, (4, 0xC0)),  # the type of the picture, from P to B
    ],
)
def test_a_reference_that_damage_calls_disposable_is_decoded(tmp_path, name, settings, bits):
    healthy = write_video(tmp_path / name, FRAMES, **settings)
    right, data = decode(healthy.read_bytes(), None).pictures, bytearray(healthy.read_bytes())
    offset, mask = bits
    position = packets_of(healthy)[4][0] + offset
    data[position] = data[position] & ~mask | (0x80 if name.startswith("mpeg4") else 0)
    for index in range(5, 12):
        result = decode(bytes(data), [index])
        assert result is None or result.pictures[index] == right[index], index


@pytest.mark.parametrize(
    ("name", "settings"),
    [("clip.mp4", {"codec": "mpeg4"}), ("clip.mov", {}), ("hevc.mp4", {"codec": "libx265"})],
)
def test_tables_of_presentation_times(tmp_path, name, settings):
    """MP4 lists the distance of presentation from decoding times in `ctts`: pairs of a number of frames and their distance."""
    healthy = write_video(tmp_path / name, FRAMES, b_frames=2, fps=Fraction(30000, 1001), **settings).read_bytes()
    table, right = healthy.index(b"ctts"), decode(healthy, None).pictures

    def changed(offset: int, content: bytes) -> bytes:
        return healthy[: table + offset] + content + healthy[table + offset + len(content) :]

    for data, message in (
        (changed(12, (17).to_bytes(4, "big")), r"presentation times lists \d\d frames, that of sizes 24"),
        (changed(0, b"ct\xf4s"), "unknown table"),
    ):
        for selection in ([0], [12], None):
            with pytest.raises(VideoDecodeError, match=message):
                decode_video(data, None if selection is None else lambda metadata, chosen=selection: chosen)
        assert len(decode_video(data, allow_partial=True)[0]) >= 20
    assert_same_alone(changed(0, b"cuts"), range(20))
    for entry in range(3, 9):  # a single frame is late by some frames, and not at the time of another
        distance = int.from_bytes(healthy[table + 16 + 8 * entry : table + 20 + 8 * entry], "big")
        result = [
            decode(changed(16 + 8 * entry, (distance ^ 4096).to_bytes(4, "big")), [index]) for index in range(12)
        ]
        assert [one.pictures[index] for index, one in enumerate(result)] == [right[index] for index in range(12)]


@pytest.mark.parametrize("name", ["clip.avi", "clip.mov"])
@pytest.mark.parametrize("change", [(0, b"\xfb"), (1, b"\xe1")])
def test_a_jpeg_picture_without_its_tables(tmp_path, name, change):
    """Damage removes the marker of the quantization tables of picture 11, or makes it that of a comment."""
    healthy = write_video(tmp_path / name, FRAMES, codec="mjpeg", pix_fmt="yuvj420p").read_bytes()
    position, size = packets_of(tmp_path / name)[11]
    place = healthy.index(b"\xff\xdb", healthy.index(b"\xff\xd8", position - 8))
    assert place < position + size
    offset, content = change
    data = healthy[: place + offset] + content + healthy[place + offset + 1 :]
    assert_same_alone(data, [11])
    assert decode(data, [3, 20]) == decode(healthy, [3, 20])


def test_packets_that_the_container_marks_as_corrupt(tmp_path):
    healthy = write_video(tmp_path / "clip.ts", FRAMES, codec="mpeg2video")
    data = bytearray(healthy.read_bytes())
    packet = next(
        start for start in range(188 * 30, len(data), 188) if data[start + 1] & 0x1F or data[start + 2] > 0x11
    )
    data[packet + 1] |= 0x80  # transport error indicator: the receiver could not correct the packet
    for selection in ([0], [23], None):
        with pytest.raises(VideoDecodeError, match=r"is damaged: 1 of its 24 packets.* marked as corrupt"):
            decode_video(bytes(data), None if selection is None else lambda metadata, chosen=selection: chosen)
    assert len(decode_video(bytes(data), allow_partial=True)[0]) == 24
    assert len(decode_video(healthy.read_bytes() * 2)[0]) == 48  # joined files are not damaged


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("clip.avi", {"codec": "mpeg4"}, "1 of the 24 packets that its index lists are not in the file"),
        ("clip.webm", {"codec": "libvpx-vp9"}, "is damaged at byte .* frames after it are lost"),
        ("clip.mkv", {"codec": "libx264", "audio": True}, "is damaged at byte .* frames after it are lost"),
    ],
)
@pytest.mark.parametrize("lost", [5, 23])
def test_lost_packets(tmp_path, name, settings, message, lost):
    """The header of a packet is overwritten, so FFmpeg skips it, and what follows up to a place that it can read."""
    healthy = write_video(tmp_path / name, FRAMES, **settings)
    data = bytearray(healthy.read_bytes())
    position, _ = packets_of(healthy)[lost]
    start = position - 8
    data[start : start + 12] = b"\x01" * 12
    for selection in ([0], [lost - 1], None):
        with pytest.raises(VideoDecodeError, match=message):
            decode_video(bytes(data), None if selection is None else lambda metadata, chosen=selection: chosen)
    assert 4 < len(decode_video(bytes(data), allow_partial=True)[0]) < 24


def test_damaged_sound_does_not_matter(tmp_path):
    healthy = write_video(tmp_path / "clip.mp4", FRAMES, audio=True)
    with av.open(str(healthy)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    data = bytearray(healthy.read_bytes())
    for position, size in packets:
        data[position : position + size] = random.Random(0).randbytes(size)
    assert decode(bytes(data), None) == decode(healthy.read_bytes(), None)


def test_side_data_without_a_name_in_pyav(tmp_path):
    """Frames of motion JPEG with EXIF data, which also says that they are to be rotated by 90 degrees."""
    plain = write_video(tmp_path / "plain.avi", FRAMES, codec="mjpeg", pix_fmt="yuvj420p")
    path = add_exif(plain, tmp_path / "exif.avi")
    frames, metadata = decode_video(path)
    assert torch.equal(frames, torch.rot90(decode_video(plain)[0], -1, (2, 3)))
    assert (metadata.height, metadata.width) == (96, 64)
