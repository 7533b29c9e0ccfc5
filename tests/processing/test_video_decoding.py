"""Decoded frames and times equal those of a full decode, for every kind of file that the tests can write."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata
from video_files import full_decode, moving_frames, some_selections, write_video

from tubevit.processing import (
    TubeViTVideoProcessor,
    VideoDecodeError,
    clip_assembly,
    decoder_setup,
    video_decoding,
    video_index,
)
from tubevit.processing.video_decoding import TubeViTVideoMetadata, decode_video, probe_video
from tubevit.processing.video_index import build_index
from tubevit.processing.video_source import DecodeLimits, open_container


FRAMES = moving_frames(40, 48, 64)
ALPHA = np.concatenate([FRAMES, np.full_like(FRAMES[..., :1], 100)], axis=-1)
RANDOM_TIMES = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, len(FRAMES)))
OPEN_GOP = {"x264-params": "scenecut=0:open-gop=1:log-level=none"}
INTRA_REFRESH = {"x264-params": "scenecut=0:intra-refresh=1:log-level=none"}
INTERLACED = {"x264-params": "scenecut=0:interlaced=1:log-level=none"}
HIDDEN_FRAMES = {"auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "good", "cpu-used": "4"}

KINDS = {
    "h264.mp4": {"b_frames": 2},
    "h264_one_key_frame.mkv": {"b_frames": 3, "gop": 250},
    "h264_open_groups.mp4": {"b_frames": 2, "options": OPEN_GOP},
    "h264_intra_refresh.mp4": {"options": INTRA_REFRESH},
    "h264_interlaced.mp4": {"b_frames": 2, "options": INTERLACED},
    "h264_audio.mp4": {"b_frames": 2, "audio": True},
    "h264_fragmented.mp4": {"b_frames": 2, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264_edit_list.mp4": {"b_frames": 2, "start": -0.2},
    "h264_start_10s.mp4": {"b_frames": 2, "start": 10},
    "h264_variable_rate.mp4": {"b_frames": 2, "times": RANDOM_TIMES},
    "h264_times_unknown.avi": {"b_frames": 2},
    "h264.flv": {"b_frames": 2},
    "h264.ts": {"b_frames": 2},
    "h264_10_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "h264_444_odd_size.mp4": {"pix_fmt": "yuv444p", "frames": moving_frames(20, 47, 63)},
    "h265_10_bit.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le", "b_frames": 2},
    "vp8_hidden_frames.webm": {"codec": "libvpx", "options": HIDDEN_FRAMES},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp9_hidden_frames.webm": {"codec": "libvpx-vp9", "options": HIDDEN_FRAMES},
    "vp9_odd_size.webm": {"codec": "libvpx-vp9", "frames": moving_frames(20, 47, 63)},
    "vp9_variable_rate.webm": {"codec": "libvpx-vp9", "times": RANDOM_TIMES},
    "vp9_alpha.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuva420p", "frames": ALPHA},
    "av1.mp4": {"codec": "libsvtav1", "gop": 16, "options": {"preset": "12"}, "frames": moving_frames(30, 64, 64)},
    "mpeg4.avi": {"codec": "mpeg4", "frames": moving_frames(40, 96, 128)},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "b_frames": 2, "frames": moving_frames(40, 96, 128)},
    "mpeg1.mpg": {"codec": "mpeg1video", "b_frames": 2},
    "motion_jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "png_alpha.mov": {"codec": "png", "pix_fmt": "rgba", "frames": ALPHA},
    "gray.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "palette.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "one_frame.mp4": {"frames": FRAMES[:1]},
    "one_frame.webm": {"codec": "libvpx-vp9", "frames": FRAMES[:1]},
}
# Files whose packets and frames may not correspond one to one: every selection is decoded from the start of the file.
IN_ORDER = {
    "h264_interlaced.mp4",
    "h264_times_unknown.avi",
    "h264.flv",
    "h264.ts",
    "mpeg4_b_frames.avi",
    "mpeg1.mpg",
    "palette.gif",
}
# With intra refresh, the file marks frames as key frames that are not, so decoding by the index fails after a seek.
BY_INDEX = [kind for kind in KINDS if kind not in IN_ORDER | {"h264_intra_refresh.mp4"}]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """`clip(kind)` is the path of a file of one of the KINDS, written at its first use."""
    folder, written = tmp_path_factory.mktemp("clips"), {}

    def path_of(kind: str):
        if kind not in written:
            settings = {"frames": FRAMES, **KINDS[kind]}
            written[kind] = write_video(folder / kind, **settings)
        return written[kind]

    return path_of


def assert_selections_are_those_frames(path, expected: torch.Tensor, seed: int = 0, count: int = 8):
    for selection in some_selections(len(expected), seed, count):
        for num_threads in (1, 3):
            frames, _ = decode_video(path, lambda metadata, chosen=selection: chosen, num_threads=num_threads)
            assert torch.equal(frames, expected[selection]), (selection, num_threads)


# Frames


@EVERY_KIND
def test_every_frame_equals_a_plain_full_decode(clip, kind):
    expected = full_decode(clip(kind))
    frames, metadata = decode_video(clip(kind))
    assert torch.equal(frames, expected)
    assert frames.dtype == torch.uint8
    assert metadata.total_num_frames == len(frames) == len(metadata.timestamps)
    assert (metadata.height, metadata.width) == frames.shape[2:]
    assert len({frame.numpy().tobytes() for frame in frames}) == len(frames), "the clip's frames should all differ"


@EVERY_KIND
def test_selected_frames_equal_a_full_decode(clip, kind):
    assert_selections_are_those_frames(clip(kind), full_decode(clip(kind)))


@pytest.mark.parametrize("max_cached_bytes", [0, video_index.MAX_CACHED_PACKET_BYTES])
@EVERY_KIND
def test_index_is_used_if_reliable(clip, kind, monkeypatch, max_cached_bytes):
    in_order = []
    original = video_decoding._decode_in_order
    monkeypatch.setattr(video_decoding, "_decode_in_order", lambda *args: in_order.append(args) or original(*args))
    monkeypatch.setattr(video_index, "MAX_CACHED_PACKET_BYTES", max_cached_bytes)
    last = len(full_decode(clip(kind))) - 1
    for selection in ([0], [last], [0, last], [last // 2, last // 3]):
        for num_threads in (1, 3):
            decode_video(clip(kind), lambda metadata, chosen=selection: chosen, num_threads=num_threads)
    if kind in BY_INDEX:
        assert not in_order
    if kind in IN_ORDER:
        assert len(in_order) == 8


@EVERY_KIND
def test_seeking_equals_cached_packets(clip, kind, monkeypatch):
    monkeypatch.setattr(video_index, "MAX_CACHED_PACKET_BYTES", 0)
    assert_selections_are_those_frames(clip(kind), full_decode(clip(kind)), seed=1, count=4)


@pytest.mark.parametrize("max_cached_bytes", [0, video_decoding.MAX_CACHED_FRAME_BYTES])
@pytest.mark.parametrize("kind", ["h264.mp4", "vp9.webm", "h264_edit_list.mp4"])
def test_decoding_in_order_equals_decoding_by_index(clip, kind, monkeypatch, max_cached_bytes):
    monkeypatch.setattr(video_decoding, "MAX_CACHED_FRAME_BYTES", max_cached_bytes)
    by_index, metadata = decode_video(clip(kind))
    monkeypatch.setattr(video_index, "_unreliable_reason", lambda *arguments: "to test decoding without it")
    in_order, metadata_in_order = decode_video(clip(kind))
    assert torch.equal(in_order, by_index)
    np.testing.assert_array_equal(metadata_in_order.timestamps, metadata.timestamps)
    assert_selections_are_those_frames(clip(kind), by_index, seed=2, count=3)


def test_video_larger_than_the_cache_is_decoded_twice(clip, monkeypatch):
    decoded = []
    original = video_decoding._all_frames
    monkeypatch.setattr(video_decoding, "_all_frames", lambda *args: decoded.append(args) or original(*args))
    decode_video(clip("h264.ts"), lambda metadata: [3])
    assert len(decoded) == 1
    monkeypatch.setattr(video_decoding, "MAX_CACHED_FRAME_BYTES", 10_000)
    decode_video(clip("h264.ts"), lambda metadata: [3])
    assert len(decoded) == 3


def remux(source, path, edit):
    """Copy the packets of `source` to `path`; `edit(number, packet)` gives the packets to write for each, as bytes."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(container.streams.video[0])
        numbered = enumerate(packet for packet in container.demux(container.streams.video[0]) if packet.size)
        time = 0
        for number, packet in numbered:
            for data in edit(number, bytes(packet)):
                edited = av.Packet(data)
                edited.pts = edited.dts = time
                edited.time_base, edited.is_keyframe, edited.stream = Fraction(1, 25), packet.is_keyframe, stream
                output.mux(edited)
                time += 1
    return path


def test_hidden_vp8_frames_are_not_counted(tmp_path):
    plain = write_video(tmp_path / "plain.webm", FRAMES, codec="libvpx", gop=250)
    hidden = {5, 6, 20}

    def hide(number, data):
        return [bytes([data[0] & ~0x10]) + data[1:] if number in hidden else data]

    path = remux(plain, tmp_path / "hidden.webm", hide)
    expected = full_decode(path)
    assert len(expected) == len(FRAMES) - len(hidden)
    assert read_index(path).unreliable_reason is None
    assert torch.equal(decode_video(path)[0], expected)
    assert_selections_are_those_frames(path, expected, count=4)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_mpeg4_placeholders_are_not_counted(tmp_path, suffix):
    placeholder = bytes.fromhex("000001b6524f")  # a picture header that says "not coded", at 25 ticks a second
    plain = write_video(tmp_path / f"plain{suffix}", moving_frames(30, 96, 128), codec="mpeg4")
    path = remux(
        plain, tmp_path / f"more{suffix}", lambda number, data: [data, placeholder] if number in (3, 20) else [data]
    )
    expected = full_decode(path)
    assert len(expected) == 30 == len(read_index(path).headers) - 2
    assert torch.equal(decode_video(path)[0], expected)
    assert_selections_are_those_frames(path, expected, count=4)


def test_repeated_times_are_ignored(tmp_path):
    path = write_video(tmp_path / "fast.mkv", FRAMES, codec="libvpx-vp9", fps=2500)  # Matroska counts milliseconds
    assert "repeated" in read_index(path).unreliable_reason
    expected = full_decode(path)
    assert torch.equal(decode_video(path)[0], expected)
    assert_selections_are_those_frames(path, expected, count=4)
    assert (np.diff(probe_video(path).timestamps) > 0).all()


def test_frames_are_scaled_to_the_size_of_the_first(tmp_path):
    large, small = moving_frames(10, 48, 64), moving_frames(10, 24, 32, seed=1)
    path = tmp_path / "sizes.mkv"
    with av.open(str(path), "w") as output:
        for number, frames in enumerate((large, small)):
            part = write_video(tmp_path / f"{number}.mkv", frames, codec="libvpx-vp9")
            with av.open(str(part)) as container:
                if number == 0:
                    stream = output.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(container.streams.video[0]):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + 400 * number, None, stream
                        output.mux(packet)
    expected = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            expected.append(frame.reformat(width=64, height=48, format="rgb24").to_ndarray())
    frames, metadata = decode_video(path)
    assert (metadata.total_num_frames, metadata.width, metadata.height) == (20, 64, 48)
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1), expected)
    late, metadata = decode_video(path, lambda metadata: [17])
    assert torch.equal(late, frames[17:18])


# Which packets are decoded


def read_index(path):
    with open_container(f"file:{path}", "clip") as (container, stream):
        return build_index(container, stream, False)


def test_decoding_spans_key_frame_to_last_selected_frame(clip):
    index = read_index(clip("h264.mp4"))  # a key frame every 12 frames
    first, last = index.frame_packets[15], index.frame_packets[20]
    (run,) = index.runs([15, 20])
    assert index.key_packets == [0, 12, 24, 36]
    assert (run.first, run.last, run.selected) == (12, max(first, last), {first, last})


def test_groups_of_pictures_without_selected_frames_are_skipped(clip):
    index = read_index(clip("h264.mp4"))
    assert [(run.first, len(run.selected)) for run in index.runs([1, 2, 25])] == [(0, 2), (24, 1)]
    assert [run.first for run in index.runs([1, 13])] == [
        0,
        12,
    ]  # the frames after frame 1 in its group are skipped too


def test_leading_picture_is_decoded_from_the_previous_group(clip):
    index = read_index(clip("h264_open_groups.mp4"))
    pts = [header.pts for header in index.headers]
    leading = [
        (packet, key)
        for packet in index.frame_packets
        for key in index.key_packets[1:]
        if packet > key and pts[packet] < pts[key]
    ]
    assert leading, "the clip should have open groups"
    for packet, key in leading:
        assert index.start_packet(packet) == index.key_packets[index.key_packets.index(key) - 1]
        assert index.start_packet(key) == key


@pytest.mark.parametrize("frames_per_group", [1, 2, 3, 7])
def test_the_transform_is_applied_once_to_each_distinct_frame_in_time_order(clip, monkeypatch, frames_per_group):
    monkeypatch.setattr(clip_assembly, "MAX_GROUP_BYTES", frames_per_group * 3 * 48 * 64 + 1)
    seen = []

    def transform(frames):
        assert frames.shape[1:] == (3, 48, 64) and frames.dtype == torch.uint8
        assert len(frames) <= frames_per_group
        seen.append(frames.clone())
        return frames[:, :, ::2, ::2].float()

    expected = full_decode(clip("h264.mp4"))
    frames, _ = decode_video(clip("h264.mp4"), lambda metadata: [30, 3, 30, 8], frame_transform=transform)
    assert torch.equal(torch.cat(seen), expected[[3, 8, 30]])
    assert torch.equal(frames, expected[[30, 3, 30, 8], :, ::2, ::2].float())


def test_several_views_decode_the_file_once(clip, monkeypatch):
    opened = []
    original = video_decoding.open_container
    monkeypatch.setattr(
        video_decoding, "open_container", lambda *args, **kwargs: opened.append(args) or original(*args, **kwargs)
    )
    decode_video(clip("h264.mp4"), lambda metadata: [0, 10, 20, 5, 15, 25])
    assert len(opened) == 1


# Time


@pytest.mark.parametrize("kind", ["h264_variable_rate.mp4", "vp9_variable_rate.webm"])
def test_timestamps_of_variable_rate_equal_the_written_times(clip, kind):
    metadata = probe_video(clip(kind))
    tick = 1e-3 if kind.endswith("webm") else 1e-4
    np.testing.assert_allclose(metadata.timestamps, RANDOM_TIMES - RANDOM_TIMES[0], atol=tick)
    assert metadata.timestamps.dtype == np.float64
    assert metadata.fps == pytest.approx(39 / (RANDOM_TIMES[-1] - RANDOM_TIMES[0]), rel=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "variable" not in kind and "palette" not in kind])
def test_constant_rate_starts_at_0(clip, kind):
    metadata = probe_video(clip(kind))
    number = metadata.total_num_frames
    assert metadata.fps == pytest.approx(25)
    assert metadata.duration == pytest.approx(number / 25, abs=2e-3)
    np.testing.assert_allclose(metadata.timestamps, np.arange(number) / 25, atol=1e-3)


def test_stated_rate_is_exact_for_rounded_times(tmp_path):
    path = write_video(tmp_path / "ntsc.webm", FRAMES, codec="libvpx-vp9", fps=Fraction(30000, 1001))
    assert probe_video(path).fps == 30000 / 1001


@pytest.mark.parametrize("name", ["ntsc.mp4", "ntsc.mkv", "ntsc.avi"])
def test_constant_rate_file_is_sampled_as_its_decoded_frames(tmp_path, name):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_video(tmp_path / name, moving_frames(90), codec=codec, fps=Fraction(30000, 1001))
    of_file, of_frames = probe_video(path), VideoMetadata(total_num_frames=90, fps=30000 / 1001)
    np.testing.assert_array_equal(of_file.timestamps, np.arange(90) / (30000 / 1001))
    for num_frames, fps, pad_mode in ((8, 15, "last"), (16, 30, "loop"), (32, 1, "loop"), (5, 10, "loop")):
        processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=num_frames, fps=fps, pad_mode=pad_mode)
        np.testing.assert_array_equal(processor.sample_frames(of_file), processor.sample_frames(of_frames))


def test_frames_wrongly_marked_as_key_frames(tmp_path):
    """FFmpeg's AVI marks every H.263 frame as a key frame; decoding from one gives wrong pixels without an error."""
    path = write_video(tmp_path / "clip.avi", FRAMES, codec="h263p")
    expected = full_decode(path)
    for selection in ([26], [7, 30], [39]):
        frames, _ = decode_video(path, lambda metadata, selection=selection: selection)
        assert torch.equal(frames, expected[selection])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("h264_intra_refresh.mp4", {"options": INTRA_REFRESH}),
        (
            "hevc_open.mkv",
            {"codec": "libx265", "b_frames": 2, "options": {"x265-params": "open-gop=1:log-level=none"}},
        ),
    ],
)
def test_undecodable_leading_pictures_are_not_damage(tmp_path, name, settings):
    """After a cut without re-encoding, some frames refer to frames that were removed."""
    whole, cut = write_video(tmp_path / name, FRAMES, **settings), tmp_path / f"cut_{name}"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        packets = [packet for packet in source.demux(video=0) if packet.size]
        stream = target.add_stream_from_template(source.streams.video[0])
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        for packet in packets[: keys[1]] + packets[keys[2] :] if "hevc" in name else packets[keys[1] :]:
            packet.stream = stream
            target.mux(packet)
    expected = full_decode(cut)
    frames, metadata = decode_video(cut)
    assert torch.equal(frames, expected)
    # A frame has one number and one time, whichever others are selected.
    for frame, index in zip(frames[-8::3], metadata.frames_indices[-8::3], strict=True):
        alone, metadata_alone = decode_video(cut, lambda metadata, index=index: [index])
        assert torch.equal(alone[0], frame)
        assert metadata_alone.timestamps[index] == metadata.timestamps[index]
    lost = sorted(set(range(metadata.total_num_frames)) - set(metadata.frames_indices))
    assert len(lost) == (2 if "hevc" in name else 0)
    for index in lost:
        with pytest.raises(VideoDecodeError, match=f"frame {index} cannot be decoded, because it is predicted from"):
            decode_video(cut, lambda metadata, index=index: [0, index])
        assert decode_video(cut, allow_partial=True)[1].total_num_frames == len(expected)


def test_no_decoder_threads_that_could_deadlock(clip, tmp_path, monkeypatch):
    """Threads of a decoder that logs wait for Python's GIL; frame threads of HEVC wait for frames lost by damage."""
    counts, decode = [], video_decoding._decode_by_index

    def note(index, container, stream, *rest):
        counts.append(stream.codec_context.thread_count)
        return decode(index, container, stream, *rest)

    monkeypatch.setattr(video_decoding, "_decode_by_index", note)
    level = av.logging.get_level()
    try:
        for logging_level in (av.logging.ERROR, None):
            av.logging.set_level(logging_level)
            decode_video(clip("h264.mp4"), lambda metadata: [0], num_threads=2)
        decode_video(write_video(tmp_path / "hevc.mp4", FRAMES, codec="libx265"), lambda metadata: [0], num_threads=2)
    finally:
        av.logging.set_level(level)  # torchvision before 0.22 enables logging
    assert counts == [1, 2, 1]


def test_metadata_is_compatible_with_transformers(clip):
    _, metadata = decode_video(clip("h264.mp4"), lambda metadata: np.array([3, 3, 1]))
    assert isinstance(metadata, TubeViTVideoMetadata)
    assert metadata.frames_indices == [3, 3, 1]
    assert dict(metadata)["video_backend"] == metadata["video_backend"] == "pyav"
    assert metadata == decode_video(clip("h264.mp4"), lambda metadata: [3, 3, 1])[1]


def test_probe_video_equals_decoding(clip):
    probed, decoded = probe_video(clip("h264.mp4")), decode_video(clip("h264.mp4"))[1]
    assert probed.frames_indices is None
    decoded.frames_indices = None
    assert probed == decoded


# Threads


def test_default_threads_in_worker_and_main_process(clip, monkeypatch):
    threads = []
    original = video_decoding.configure_decoder
    monkeypatch.setattr(
        video_decoding,
        "configure_decoder",
        lambda stream, number, **kwargs: threads.append(number) or original(stream, number, **kwargs),
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64), raising=False)
    decode_video(clip("h264.mp4"))
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: object())
    decode_video(clip("h264.mp4"))
    decode_video(clip("h264.mp4"), num_threads=5)
    assert threads == [decoder_setup.MAX_THREADS, 1, 5]


def test_num_threads_0_raises(clip):
    with pytest.raises(ValueError, match="num_threads must be 1 or more"):
        decode_video(clip("h264.mp4"), num_threads=0)


# Limits for files of unknown origin


@pytest.mark.parametrize("suffix", ["mp4", "ts", "avi", "webp", "gif"])
def test_files_above_a_limit_are_refused_before_a_frame_is_decoded(tmp_path, suffix, monkeypatch):
    path, frames = tmp_path / f"a.{suffix}", moving_frames(20, 32, 48)
    if suffix in ("webp", "gif"):
        first, *others = map(Image.fromarray, frames)
        first.save(path, save_all=True, append_images=others, duration=100)
    else:
        write_video(path, frames, fps=10)
    limits = DecodeLimits(pixels=32 * 48, duration=2.05)
    decoded, metadata = decode_video(path, limits=limits)
    assert len(decoded) == metadata.total_num_frames
    expected, _ = decode_video(path)
    assert torch.equal(decoded, expected)
    monkeypatch.setattr(video_decoding, "assemble_clip", lambda *args: pytest.fail("decoded"))
    with pytest.raises(VideoDecodeError, match="48x32 pixels, more than 1,535"):
        decode_video(path.read_bytes(), limits=limits._replace(pixels=32 * 48 - 1))
    with pytest.raises(VideoDecodeError, match=r"longer than 1\.5 s"):
        decode_video(path, limits=limits._replace(duration=1.5))


def test_a_stream_whose_frames_grow_stops_at_the_limit(tmp_path):
    """The file states the size of its first frames."""
    for name, size in (("a.ts", (32, 48)), ("b.ts", (400, 400))):
        write_video(tmp_path / name, moving_frames(10, *size), codec="mpeg2video")
    path = tmp_path / "grows.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    limits = DecodeLimits(pixels=32 * 48, duration=60)
    assert len(decode_video(path, allow_partial=True)[0]) > 10
    assert 0 < len(decode_video(path, allow_partial=True, limits=limits)[0]) <= 10


def test_one_frame_whose_decoding_time_is_earlier(tmp_path):
    """Encoders that reorder frames write it so; there is no distance between times to compare."""
    path, other = write_video(tmp_path / "a.mp4", moving_frames(1, 32, 48)), tmp_path / "b.mp4"
    with av.open(str(path)) as source, av.open(str(other), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        (packet,) = (each for each in source.demux(video=0) if each.size)
        packet.stream, packet.dts = stream, packet.pts - 1
        target.mux(packet)
    with open_container(str(other), "b.mp4") as (container, stream):
        assert [header.pts > header.dts for header in build_index(container, stream, False).headers] == [True]
    assert len(decode_video(other)[0]) == 1
