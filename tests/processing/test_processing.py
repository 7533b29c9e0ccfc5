"""Outputs of the processors: every input type gives the same pixels; views, sampling, and the pipeline of Transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_processors import ARRAYS, SMALL, UINT8, FakeVideoDecoder, forms_of, pixels, video_processor
from tiny_models import make_model
from transformers import pipeline
from transformers.video_utils import VideoMetadata
from video_files import moving_frames, write_video

from tubevit import TubeViTForVideoClassification, TubeViTImageProcessor, TubeViTVideoProcessor
from tubevit.processing import crop_views, decode_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """40 frames of 72x96 at 20 fps."""
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", ARRAYS, fps=20)


@pytest.fixture(scope="module")
def frames(clip) -> torch.Tensor:
    """The frames of `clip`, uint8 (frames, channels, height, width)."""
    return decode_video(clip)[0]


# Every input type gives the same pixels


@pytest.mark.parametrize(
    "settings", [{}, {"sampling": "fixed_rate", "fps": 10}, {"num_temporal_views": 2, "num_spatial_views": 3}]
)
def test_every_input_type_of_a_video_gives_the_same_pixels(clip, frames, settings):
    processor = video_processor(**UINT8, **settings)
    expected = pixels(processor, clip)
    assert expected.dtype == torch.uint8 and expected.is_contiguous() and len(expected.unique()) > 100
    for name, video in forms_of(clip, frames).items():
        is_decoded = isinstance(video, (np.ndarray, torch.Tensor, list, tuple))
        metadata = {"fps": 20} if is_decoded else None
        assert torch.equal(pixels(processor, video, video_metadata=metadata), expected), name


def test_a_float_video_differs_by_rounding_only(frames):
    exact = pixels(video_processor(**UINT8), frames)
    floats = pixels(video_processor(**UINT8), frames.double())
    assert floats.dtype == torch.float32
    assert (floats - exact).abs().max() <= 1.01


@pytest.mark.parametrize("nest", [lambda v: v, lambda v: [[v], [v]], lambda v: [(v,), v]])
def test_nested_and_mixed_batches(clip, frames, nest):
    processor = video_processor()
    one = pixels(processor, clip)
    batch = pixels(processor, nest(str(clip)))
    assert torch.equal(batch, one.expand_as(batch))
    mixed = pixels(processor, [clip, frames, [Image.fromarray(f) for f in frames.permute(0, 2, 3, 1).numpy()]])
    assert torch.equal(mixed, one.expand(3, -1, -1, -1, -1))


def test_datasets_video_columns(clip):
    datasets = pytest.importorskip("datasets")
    decoded = datasets.Dataset.from_dict({"video": [str(clip)] * 2}).cast_column("video", datasets.Video())
    rows = decoded.cast_column("video", datasets.Video(decode=False))
    processor = video_processor()
    expected = pixels(processor, clip)
    assert torch.equal(pixels(processor, decoded["video"]), expected.expand(2, -1, -1, -1, -1))
    assert torch.equal(pixels(processor, rows[0]["video"]), expected)
    assert torch.equal(pixels(processor, rows["video"]), expected.expand(2, -1, -1, -1, -1))
    prepared = rows.with_transform(lambda row: processor(row["video"], return_tensors="pt"))
    assert torch.equal(prepared[:2]["pixel_values_videos"], expected.expand(2, -1, -1, -1, -1))


def test_torchcodec_decodes_only_sampled_frames(frames):
    decoder = FakeVideoDecoder(frames, 20)
    pixels(video_processor(), decoder, num_frames=4)
    assert decoder.asked_for == [5, 15, 25, 35]


def test_arrays_are_sampled_before_they_are_resized(frames):
    processor, resized = video_processor(), []
    processor.resize = lambda image, **kwargs: (
        resized.append(image) or TubeViTVideoProcessor.resize(processor, image, **kwargs)
    )
    pixels(processor, frames[:3])  # loops: 8 frames of 3
    assert len(resized) == 3


def test_an_image_is_a_video_of_one_frame(frames):
    for image in (frames[3], frames[3].permute(1, 2, 0).numpy(), Image.fromarray(frames[3].permute(1, 2, 0).numpy())):
        as_image = TubeViTImageProcessor(**SMALL)(image, return_tensors="pt").pixel_values
        as_video = pixels(video_processor(num_frames=1), frames[3:4])
        assert torch.equal(as_image, as_video[:, 0])


def test_16_bit_gray_is_scaled_not_clipped(frames):
    gray = frames[:8].float().mean(1).round().to(torch.uint8).numpy()
    wide = [Image.fromarray(frame.astype(np.uint16) * 257) for frame in gray]
    assert wide[0].mode == "I;16"
    narrow = [Image.fromarray(frame) for frame in gray]
    assert torch.equal(pixels(video_processor(**UINT8), wide), pixels(video_processor(**UINT8), narrow))
    with pytest.raises(ValueError, match="must be from 0 to 255, got 257 to 65535"):
        video_processor(**UINT8)(np.array([257, 65535] * 24, np.uint16).reshape(1, 1, 48, 1).repeat(3, -1))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK"])
def test_other_color_modes_become_rgb(frames, mode):
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()).convert(mode) for frame in frames[:8]]
    video = pixels(video_processor(**UINT8), images)
    assert video.shape == (1, 8, 3, 32, 32)
    image = TubeViTImageProcessor(**SMALL, **UINT8)(images[0], return_tensors="pt").pixel_values
    assert torch.equal(image, video[:, 0])
    if mode in ("L", "RGBA"):  # arrays of the same pixels
        arrays = np.stack([np.array(image) for image in images])
        assert torch.equal(pixels(video_processor(**UINT8), arrays[..., None] if mode == "L" else arrays), video)


def test_transparency_of_arrays_is_dropped_as_for_files(frames):
    colors = frames[:8].permute(0, 2, 3, 1).numpy()
    clear = np.concatenate([colors, np.zeros_like(colors[..., :1])], axis=-1)
    assert torch.equal(pixels(video_processor(**UINT8), clear), pixels(video_processor(**UINT8), colors))


def test_lists_of_frame_files_are_not_sampled(tmp_path, frames):
    names = []
    for index in range(4):
        names.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(frames[index].permute(1, 2, 0).numpy()).save(names[-1])
    processor = video_processor()
    taken = pixels(processor, [[names]], do_sample_frames=False)
    assert torch.equal(taken, pixels(processor, frames[:4], do_sample_frames=False))
    with pytest.raises(ValueError, match="Set `do_sample_frames=False`"):
        processor([[names]])


# Ranges of pixels and numbers of channels


def fractions(frames):
    return frames.permute(0, 2, 3, 1).float().numpy() / 255


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda frames: fractions(frames), "from 0 to .*: set do_rescale=False"),
        (lambda frames: torch.from_numpy(fractions(frames)), "do_rescale=False"),
        (lambda frames: fractions(frames).astype(np.float16), "do_rescale=False"),
        (lambda frames: list(fractions(frames)), "do_rescale=False"),
        (lambda frames: [Image.fromarray(frame[..., 0]) for frame in fractions(frames)], "do_rescale=False"),
        (lambda frames: 1.04 * fractions(frames) - 0.02, "do_rescale=False"),  # the overshoot of a bicubic resize
        (lambda frames: 2 * fractions(frames) - 1, "do_normalize=False for pixels that are normalized already"),
        (lambda frames: 65535 * fractions(frames), "from 0 to 255, got pixels from 0 to"),
    ],
)
def test_floats_of_another_range_are_refused(frames, convert, message):
    dark, video = frames[:1] * 0, convert(frames)
    for make in (lambda: video_processor()(video), lambda: TubeViTImageProcessor(**SMALL)(video[0])):
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
    assert pixels(video_processor(), dark.float()).max() == -1, "black is black in every range"


def test_floats_of_both_ranges_equal_integers(frames):
    expected = pixels(video_processor(), frames)
    fade_in = torch.cat([frames[:1] * 0, frames[:7]])  # the range is that of the video, not of its dark first frame
    for settings, factor in (({}, 1), ({"do_rescale": False}, 255)):
        found = pixels(video_processor(**settings), frames.float() / factor)
        assert (found - expected).abs().max() < 0.02  # integers are rounded after the resize
        assert (pixels(video_processor(**settings), fade_in.float() / factor)[:, 0] == -1).all()
    with pytest.raises(
        ValueError, match=r"do_rescale=False with image_mean=.* is for pixels from 0 to 1, .* set do_rescale=True"
    ):
        video_processor(do_rescale=False)(frames)
    in_bytes = {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}
    assert torch.allclose(pixels(video_processor(**in_bytes), frames), expected, atol=1e-6)
    with pytest.raises(ValueError, match="set do_rescale=True with image_mean and image_std for pixels from 0 to 1"):
        video_processor(**in_bytes)(frames / 255)


@pytest.mark.parametrize("statistics", [[0.5], 0.5])
def test_one_channel_processors_return_one_channel_from_every_input(clip, frames, statistics):
    settings = {"do_convert_rgb": False, "image_mean": statistics, "image_std": statistics, **UINT8}
    processor = video_processor(**settings)
    arrays = frames.permute(0, 2, 3, 1).numpy()
    luma = [Image.fromarray(frame).convert("L") for frame in arrays]
    expected = pixels(processor, luma)
    assert expected.shape == (1, 8, 1, 32, 32)
    for name, video in forms_of(clip, frames).items():
        found = pixels(processor, video)
        assert found.shape == expected.shape, name
        assert (found.int() - expected.int()).abs().max() <= 3, name
    image = TubeViTImageProcessor(**SMALL, **settings)(arrays[2], return_tensors="pt").pixel_values
    assert (image.int() - expected[:, 0].int()).abs().max() <= 1


# Outputs


def test_normalization_is_the_last_step_and_optional(frames):
    raw = pixels(video_processor(**UINT8), frames)
    assert torch.allclose(pixels(video_processor(), frames), (raw / 255 - 0.5) / 0.5, atol=1e-6)
    assert torch.allclose(pixels(video_processor(do_normalize=False), frames), raw / 255)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    expected = (raw / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.allclose(pixels(video_processor(image_mean=mean, image_std=std), frames), expected, atol=1e-5)


def test_defaults_are_32_frames_of_224(frames):
    assert pixels(TubeViTVideoProcessor(), frames).shape == (1, 32, 3, 224, 224)
    assert TubeViTImageProcessor()(frames[0], return_tensors="pt").pixel_values.shape == (1, 3, 224, 224)


def test_input_frames_are_not_modified(frames):
    video, before = frames.float(), frames.float().clone()
    pixels(video_processor(do_resize=False, do_center_crop=False, num_frames=40), video)
    assert torch.equal(video, before)


def test_return_tensors(frames):
    processor = video_processor()
    assert isinstance(processor(frames, return_tensors="np").pixel_values_videos, np.ndarray)
    listed = processor([frames, frames[:20]]).pixel_values_videos
    assert isinstance(listed, list) and [tuple(video.shape) for video in listed] == [(8, 3, 32, 32)] * 2
    uneven = processor([frames, frames[:20]], do_sample_frames=False).pixel_values_videos
    assert [len(video) for video in uneven] == [40, 20]


def test_metadata_contains_the_sampled_indices(clip, frames):
    for video, given in ((clip, None), (frames, {"fps": 20}), (frames, VideoMetadata(40, fps=20))):
        outputs = video_processor()(video, video_metadata=given, return_metadata=True)
        (metadata,) = outputs["video_metadata"]
        assert metadata.total_num_frames == 40 and metadata.fps == 20
        assert metadata.frames_indices == [2, 7, 12, 17, 22, 27, 32, 37]
        assert given is None or "frames_indices" not in given or given["frames_indices"] is None  # not written to


def test_presampled_frames_keep_their_indices(frames):
    def indices(**given):
        outputs = video_processor()(frames, video_metadata=given, do_sample_frames=False, return_metadata=True)
        return outputs["video_metadata"][0].frames_indices

    every_second = list(range(0, 80, 2))
    assert indices(fps=20) == list(range(40)), "all frames of a video are its frames 0 to 39"
    assert indices(total_num_frames=80, frames_indices=every_second) == every_second
    assert indices(total_num_frames=80) is None, "the indices of the given frames are unknown"
    whole = VideoMetadata(40, fps=20)
    assert video_processor()(frames, video_metadata=whole, do_sample_frames=False, return_metadata=True)[
        "video_metadata"
    ][0].timestamps == pytest.approx(np.arange(40) / 20)
    assert whole.frames_indices is None, "the metadata of the caller is not modified"


def test_decoder_threads_are_a_setting(clip, monkeypatch):
    from tubevit.processing import decoder_setup, video_decoding

    threads, original = [], video_decoding.configure_decoder
    monkeypatch.setattr(
        video_decoding,
        "configure_decoder",
        lambda stream, number, **limits: threads.append(number) or original(stream, number, **limits),
    )
    monkeypatch.setattr(decoder_setup, "num_cores", lambda: 7)
    alike = [pixels(processor, clip) for processor in (video_processor(), video_processor(num_decoder_threads=3))]
    alike.append(pixels(video_processor(num_decoder_threads=3), clip, num_decoder_threads=2))
    assert threads == [7, 3, 2]
    assert all(torch.equal(each, alike[0]) for each in alike)
    video_processor(num_decoder_threads=3).fetch_videos(str(clip))
    assert threads[3:] == [3]


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (32, 32)])
def test_sizes_and_crops_of_any_shape(frames, size):
    crop = {"height": size[0], "width": size[1]}
    assert pixels(video_processor(crop_size=crop), frames).shape[-2:] == size
    assert pixels(video_processor(size=crop, do_center_crop=False), frames).shape[-2:] == size
    assert pixels(video_processor(size=20, crop_size=crop), frames).shape[-2:] == size  # smaller than the crop: padded


# Views


def test_views_are_clips_times_crops_in_temporal_order(clip, frames):
    settings = {"num_frames": 4, "sampling": "fixed_rate", "fps": 5, **UINT8}
    views = pixels(video_processor(**settings), clip, num_temporal_views=4, num_spatial_views=3)
    assert views.shape == (1, 12, 4, 3, 32, 32) and views.is_contiguous()
    starts = [0.0, 0.4, 0.8, 1.2]  # clips of 0.8 s in a video of 2 s
    for t, start in enumerate(starts):
        single = pixels(video_processor(**settings), clip, clip_start=start)
        assert torch.equal(views[:, 3 * t + 1], single)  # the middle crop is the center crop
    left_of_first = pixels(video_processor(**settings, do_center_crop=False), clip, clip_start=0)[..., :32]
    assert torch.equal(views[:, 0], left_of_first)


def test_spatial_views_follow_the_longer_side():
    wide, tall = torch.arange(40).expand(3, 30, 40), torch.arange(40)[:, None].expand(3, 40, 30)
    assert [view[0, 0, 0].item() for view in crop_views(wide, (30, 30), 3)] == [0, 5, 10]
    assert [view[0, 0, 0].item() for view in crop_views(tall, (30, 30), 3)] == [0, 5, 10]
    assert [view[0, 0, 0].item() for view in crop_views(wide, (30, 30))] == [5]
    assert [view[0, 0, 0].item() for view in crop_views(wide, (20, 20), 2)] == [0, 20]
    # A wide crop leaves room above and below only: views along the longer side would all be the same.
    rows = torch.arange(30)[:, None].expand(3, 30, 40)
    assert [view[0, 0, 0].item() for view in crop_views(rows, (10, 40), 3)] == [0, 10, 20]


def test_several_views_decode_the_file_once(clip, monkeypatch):
    from tubevit.processing import video_processing_tubevit

    calls = []
    monkeypatch.setattr(
        video_processing_tubevit,
        "decode_video",
        lambda *args, **kwargs: calls.append(args) or decode_video(*args, **kwargs),
    )
    pixels(video_processor(num_temporal_views=4, num_spatial_views=3), clip)
    assert len(calls) == 1


def test_without_sampling_there_are_only_spatial_views(frames):
    views = pixels(video_processor(num_temporal_views=4, num_spatial_views=3), frames, do_sample_frames=False)
    assert views.shape == (1, 3, 40, 3, 32, 32)


# Sampling


def test_short_files_and_arrays_are_padded_the_same(tmp_path):
    path = write_video(tmp_path / "short.mp4", moving_frames(3, 40, 40), fps=10)
    decoded = decode_video(path)[0]
    for settings in ({}, {"sampling": "fixed_rate", "fps": 10}):
        for pad_mode, order in (("loop", [0, 1, 2, 0, 1, 2, 0, 1]), ("last", [0, 1, 2, 2, 2, 2, 2, 2])):
            processor = video_processor(pad_mode=pad_mode, **settings)
            expected = pixels(processor, decoded[order], do_sample_frames=False)
            assert torch.equal(pixels(processor, path), expected)
            assert torch.equal(pixels(processor, decoded, video_metadata={"fps": 10}), expected)
        with pytest.raises(ValueError, match="too short"):
            video_processor(pad_mode="error", **settings)(path)


@pytest.mark.parametrize("settings", [{}, {"sampling": "fixed_rate", "fps": 10}])
def test_random_clips_follow_torchs_seed(clip, settings):
    processor = video_processor(clip_start="random", return_metadata=True, **settings)

    def indices(seed):
        torch.manual_seed(seed)
        return processor(clip)["video_metadata"][0].frames_indices

    assert indices(0) == indices(0)
    assert len({tuple(indices(seed)) for seed in range(8)}) > 4
    torch.manual_seed(0)
    views = processor(clip, num_temporal_views=2)["video_metadata"][0].frames_indices
    assert views[:8] != views[8:]  # each view has its own start


def test_fps_in_a_call_equals_transformers(frames):
    processor = video_processor()
    assert pixels(processor, frames, fps=3, video_metadata={"fps": 20}).shape[1] == 6
    assert pixels(processor, frames, fps=3, video_metadata={"duration": 2.0}).shape[1] == 6
    with pytest.raises(ValueError, match="video_metadata="):
        processor(frames, fps=3)
    with pytest.raises(ValueError, match="sampling='fixed_rate' for num_frames frames at fps"):
        processor(frames, fps=3, num_frames=4, video_metadata={"fps": 20})
    fixed = video_processor(sampling="fixed_rate", fps=10)
    assert pixels(fixed, frames, num_frames=4, video_metadata={"fps": 20}).shape[1] == 4
    assert (
        pixels(fixed, frames, sampling="uniform").shape[1] == 8
    )  # the fps of the processor applies to the fixed rate only


def test_variable_frame_rate_of_a_file_is_respected(tmp_path):
    times = [0, 0.1, 0.2, 0.3, 1.3, 1.4, 1.5, 2.5]
    path = write_video(tmp_path / "vfr.mp4", moving_frames(8, 40, 40), times=times)
    processor = video_processor(sampling="fixed_rate", fps=2, num_frames=5, clip_start=0, pad_mode="last")
    (metadata,) = processor(path, return_metadata=True)["video_metadata"]
    assert metadata.frames_indices == [0, 3, 3, 6, 6]
    decoded, metadata = decode_video(path)
    assert torch.equal(pixels(processor, decoded, video_metadata=metadata), pixels(processor, path))
    assert torch.equal(pixels(processor, decoded, video_metadata={"timestamps": times}), pixels(processor, path))


# Broken files


def test_broken_files_are_errors_unless_allowed(tmp_path, clip):
    broken = tmp_path / "broken.mp4"
    with pytest.raises(FileNotFoundError, match="broken"):
        video_processor()(broken)
    broken.write_bytes(b"not a video")
    with pytest.raises(ValueError, match="broken"):
        video_processor()(broken)
    write_video(broken.with_suffix(".mkv"), moving_frames(40, 72, 96, seed=1), gop=4)
    data = broken.with_suffix(".mkv").read_bytes()
    with pytest.raises(ValueError, match="allow_partial"):
        video_processor()(data[: len(data) // 2])
    partial = video_processor(allow_partial=True, return_metadata=True)(data[: len(data) // 2])
    (metadata,) = partial["video_metadata"]
    assert 8 <= metadata.total_num_frames < 40  # the clip spans the decoded frames
    assert max(metadata.frames_indices) < metadata.total_num_frames


# The pipeline of Transformers


def test_pipeline_accepts_every_input_type_and_views(tmp_path, clip, frames):
    model = make_model(TubeViTForVideoClassification)
    model.save_pretrained(tmp_path)
    side = {"size": 16, "crop_size": 16}
    processor = TubeViTVideoProcessor(num_frames=model.config.num_frames, num_spatial_views=3, **side)
    processor.save_pretrained(tmp_path)
    classify = pipeline("video-classification", model=str(tmp_path))
    assert type(classify.video_processor) is TubeViTVideoProcessor
    with torch.no_grad():
        expected = model(**processor(clip, return_tensors="pt")).logits[0].softmax(-1).max().item()
    for name, video in forms_of(clip, frames).items():
        if isinstance(video, list):
            continue  # to a pipeline, a list is several videos
        assert classify(video)[0]["score"] == pytest.approx(expected, abs=1e-5), name


# Real clips


@pytest.mark.parametrize(
    "name", ["abseiling.mp4", "flipping_pancake.mkv", "ssv2_closing_something.webm", "v_Basketball_g01_c01.avi"]
)
def test_real_clips(shared_data, name):
    path = shared_data / "smoke" / name
    processor = video_processor(sampling="fixed_rate", fps=5, num_temporal_views=2, num_spatial_views=3, **UINT8)
    from_file = pixels(processor, path)
    assert from_file.shape == (1, 6, 8, 3, 32, 32) and from_file.float().std() > 20
    decoded, metadata = decode_video(path)
    assert torch.equal(pixels(processor, decoded, video_metadata=metadata), from_file)
