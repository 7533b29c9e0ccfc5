"""The video processors of UniFormerV2 and ViViT: frames and pixels of the authors' codes."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoVideoProcessor
from transformers.image_utils import PILImageResampling, SizeDict

from tubevit.processing import FactorizedViViTVideoProcessor, TubeViTVideoProcessor, UniFormerV2VideoProcessor
from tubevit.processing.frame_sampling import PAD_MODES
from tubevit.processing.video_processing_factorized_vivit import strided_clips
from tubevit.processing.video_processing_uniformerv2 import _target_size, random_segment_clips, segment_clips


def video(num_frames: int = 40, height: int = 30, width: int = 41) -> np.ndarray:
    """Every pixel of frame i has the value i in its first channel."""
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
    frames[..., 0] = np.arange(num_frames)[:, None, None]
    return frames


def sampled(processor, frames: np.ndarray, **kwargs) -> list[int]:
    result = processor(frames, do_rescale=False, do_normalize=False, return_tensors="pt", **kwargs)
    return result.pixel_values_videos[0].reshape(-1, 3, 24, 24)[:, 0, 0, 0].int().tolist()


def test_test_frames_are_those_of_the_authors_code(shared_data):
    golden = json.loads((shared_data / "golden" / "uniformerv2_sampling.json").read_text())
    for case in golden["test_frames"]:
        clips = segment_clips(case["total"], case["num_frames"], case["num_clips"])
        assert clips[case["clip"]].tolist() == case["indices"], case
    processor = UniFormerV2VideoProcessor(size=24, crop_size=24)
    case = next(case for case in golden["test_frames"] if case["total"] == 37 and case["clip"] == 1)
    views = sampled(processor, video(37), num_frames=case["num_frames"], num_temporal_views=case["num_clips"])
    assert views[8:16] == case["indices"]


def test_training_frames_lie_within_their_segments():
    """Both ends of a segment are reached, and neighbors share an end."""
    offsets = np.random.default_rng(0).random((400, 4))
    clips = random_segment_clips(21, 4, offsets)
    assert clips.min(0).tolist() == [0, 5, 10, 15] and clips.max(0).tolist() == [5, 10, 15, 20]
    assert random_segment_clips(1, 4, offsets).max() == 0
    torch.manual_seed(0)
    first = sampled(UniFormerV2VideoProcessor(size=24, crop_size=24), video(), clip_start="random")
    assert first == sorted(first) and first != sampled(UniFormerV2VideoProcessor(size=24, crop_size=24), video())


def test_crops_are_those_of_the_authors_code(shared_data):
    golden = load_file(shared_data / "golden" / "uniformerv2_crops.safetensors")
    sizes = sorted({key.split(".")[1] for key in golden if key.startswith("frames.")})
    assert len(sizes) > 1
    for size in sizes:
        frames = golden[f"frames.{size}"]
        processor = UniFormerV2VideoProcessor(size=24, crop_size=24, num_spatial_views=3)
        views = processor(frames, do_sample_frames=False, return_tensors="pt").pixel_values_videos[0]
        for index in range(3):
            expected = golden[f"crop{index}.{size}"]
            torch.testing.assert_close(views[index].transpose(0, 1), expected, rtol=0, atol=2e-5)


def test_single_crop_is_the_middle_one_of_three():
    processor = UniFormerV2VideoProcessor(size=24, crop_size=24)
    frames = video(8)
    views = processor(frames, num_spatial_views=3, return_tensors="pt").pixel_values_videos[0]
    single = processor(frames, return_tensors="pt").pixel_values_videos[0]
    torch.testing.assert_close(single, views[1])


def test_channel_order_is_flipped_only_when_asked():
    processor = UniFormerV2VideoProcessor(size=24, crop_size=24)
    frames = video(8)
    plain = processor(frames, return_tensors="pt").pixel_values_videos
    flipped = processor(frames, do_flip_channel_order=True, return_tensors="pt").pixel_values_videos
    assert torch.equal(plain.flip(2), flipped) and not torch.equal(plain, flipped)
    assert UniFormerV2VideoProcessor(do_flip_channel_order=True).to_dict()["do_flip_channel_order"]


def test_bytes_stay_bytes_and_differ_by_rounding_only():
    processor = UniFormerV2VideoProcessor(size=24, crop_size=24)
    raw = processor(video(8), do_rescale=False, do_normalize=False, return_tensors="pt").pixel_values_videos
    exact = processor(video(8), return_tensors="pt").pixel_values_videos
    assert raw.dtype == torch.uint8
    assert ((raw / 255 - 0.45) / 0.225 - exact).abs().max() <= 0.5 / 255 / 0.225 + 1e-5


@pytest.mark.parametrize("frames", [1, 3, 7])
def test_short_videos_repeat_frames_or_are_refused(frames):
    processor = UniFormerV2VideoProcessor(size=24, crop_size=24)
    assert sampled(processor, video(frames)) == segment_clips(frames, 8)[0].tolist()
    with pytest.raises(ValueError, match="too short"):
        processor(video(frames), pad_mode="error")
    vivit = FactorizedViViTVideoProcessor(size=24, crop_size=24)
    assert len(sampled(vivit, video(frames))) == 32


def test_vivit_takes_every_second_frame():
    processor = FactorizedViViTVideoProcessor(size=24, crop_size=24, num_frames=8)
    assert sampled(processor, video(40)) == list(range(12, 28, 2))
    assert sampled(processor, video(40), frame_stride=1, num_temporal_views=2) == [*range(8), *range(32, 40)]
    assert sampled(processor, video(40), sampling="uniform") == sampled(
        TubeViTVideoProcessor(size=24, crop_size=24, num_frames=8), video(40)
    )
    torch.manual_seed(0)
    starts = {sampled(processor, video(40), clip_start="random")[0] for _ in range(100)}
    assert min(starts) == 0 and max(starts) == 25


def test_vivit_pixels_are_from_minus_one_to_one():
    frames = np.stack([np.zeros((30, 30, 3), np.uint8), np.full((30, 30, 3), 255, np.uint8)])
    pixels = FactorizedViViTVideoProcessor(size=24, crop_size=24, num_frames=2, frame_stride=1)(
        frames, return_tensors="pt"
    ).pixel_values_videos
    assert pixels[:, 0].unique().tolist() == [-1] and pixels[:, 1].unique().tolist() == [1]


@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_strided_clips_pad_short_videos(pad_mode):
    if pad_mode == "error":
        with pytest.raises(ValueError, match="need 7 frames, it has 5"):
            strided_clips(5, 4, 2, np.array([0]), pad_mode)
        return
    expected = {"loop": [0, 2, 4, 1], "last": [0, 2, 4, 4]}[pad_mode]
    assert strided_clips(5, 4, 2, np.array([0]), pad_mode).tolist() == [expected]


@pytest.mark.parametrize(
    ("processor_class", "settings"),
    [
        (UniFormerV2VideoProcessor, {"num_frames": 16, "do_flip_channel_order": True}),
        (FactorizedViViTVideoProcessor, {"frame_stride": 3}),
    ],
)
def test_saved_settings_come_back(processor_class, settings, tmp_path):
    processor = processor_class(size=24, crop_size=24, **settings)
    processor.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is processor_class and loaded.to_dict() == processor.to_dict()
    assert torch.equal(
        loaded(video(), return_tensors="pt").pixel_values_videos,
        processor(video(), return_tensors="pt").pixel_values_videos,
    )


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="frame_stride must be a whole number"):
        FactorizedViViTVideoProcessor(frame_stride=0)
    with pytest.raises(ValueError, match="sampling must be one of"):
        UniFormerV2VideoProcessor(sampling="frame_stride")
    with pytest.raises(TypeError, match="did you mean 'frame_stride'"):
        FactorizedViViTVideoProcessor()(video(), frame_strides=2)
    with pytest.raises(ValueError, match=r"fps=5.*no effect with sampling='frame_stride'"):
        FactorizedViViTVideoProcessor(fps=5)
    with pytest.raises(ValueError, match="frame rate"):
        FactorizedViViTVideoProcessor(size=24, crop_size=24)(video(), fps=5)


@pytest.mark.parametrize("processor_class", [UniFormerV2VideoProcessor, FactorizedViViTVideoProcessor])
def test_a_rate_in_a_call_spreads_frames_over_the_video(processor_class):
    """As in Transformers: 40 frames at 20 frames per second are 2 seconds, so 5 frames per second are 10 frames."""
    processor = processor_class(size=24, crop_size=24, num_frames=8)
    frames = sampled(processor, video(40), fps=5, video_metadata={"fps": 20})
    assert frames == sampled(TubeViTVideoProcessor(size=24, crop_size=24, num_frames=10), video(40))


@pytest.mark.parametrize("size", [(224, 230), (230, 224), (224, 224), (24, 10**4 + 1)])
def test_frames_whose_short_side_fits_are_not_resized(size):
    height, width = size
    assert _target_size(height, width, SizeDict(shortest_edge=min(size))) == size
    assert _target_size(100, 150, SizeDict(shortest_edge=50)) == (50, 75)


def test_resample_by_its_number_resizes_as_the_setting_does():
    frames = video(8)
    expected = UniFormerV2VideoProcessor(size=24, crop_size=24)(frames, return_tensors="pt").pixel_values_videos
    other = UniFormerV2VideoProcessor(size=24, crop_size=24, resample=PILImageResampling.BICUBIC)
    pixels = other(frames, resample=PILImageResampling.BILINEAR, return_tensors="pt").pixel_values_videos
    assert torch.equal(pixels, expected)
    bicubic = other(frames, return_tensors="pt").pixel_values_videos
    assert not torch.equal(bicubic, expected)
