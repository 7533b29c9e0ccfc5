"""Invalid settings, videos and images raise an error of one line with the reason."""

import numpy as np
import pytest
from PIL import Image
from small_processors import ARRAYS, pixels, video_processor

from tubevit import TubeViTImageProcessor


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 0}, "num_frames must be a whole number of at least 1, got 0"),
        ({"num_frames": 2.5}, "num_frames must be a whole number of at least 1, got 2.5"),
        ({"num_frames": True}, "num_frames must be .* got True"),
        ({"sampling": "dense"}, "sampling must be one of 'uniform', 'fixed_rate', got 'dense'"),
        ({"sampling": "fixed_rate"}, "sampling='fixed_rate' needs fps"),
        ({"sampling": "fixed_rate", "fps": 0}, "fps must be a number above 0, got 0"),
        ({"fps": 5}, "fps=5 has no effect with sampling='uniform'"),
        ({"clip_start": "middle"}, "clip_start must be 'center', 'random' or a number of seconds .* got 'middle'"),
        ({"clip_start": -1}, "clip_start must be .* got -1"),
        ({"clip_start": 2.0}, "clip_start=2.0 seconds needs sampling='fixed_rate'"),
        (
            {"clip_start": 2.0, "sampling": "fixed_rate", "fps": 5, "num_temporal_views": 4},
            "allows a single clip, got num_temporal_views=4",
        ),
        ({"num_temporal_views": 0}, "num_temporal_views must be"),
        ({"num_spatial_views": "3"}, "num_spatial_views must be .* got '3'"),
        ({"num_spatial_views": 3, "do_center_crop": False}, "num_spatial_views=3 needs do_center_crop=True"),
        ({"pad_mode": "zero"}, "pad_mode must be one of 'loop', 'last', 'error', got 'zero'"),
        ({"size": {"shortest": 32}}, "size must be .* got {'shortest': 32}"),
        ({"size": {"shortest_edge": 0}}, "size must be"),
        ({"crop_size": {"height": 32}}, "crop_size must be .* keys height and width, got {'height': 32}"),
        ({"image_std": [0.5, 0, 0.5]}, r"image_std must be a number above 0, or one per channel, got \[0.5, 0, 0.5\]"),
        ({"image_mean": "0.5"}, "image_mean must be"),
        ({"rescale_factor": float("nan")}, "rescale_factor must be"),
        ({"do_resize": "yes"}, "do_resize must be True or False, got 'yes'"),
        ({"resample": 4}, "resample must be .* got 4"),  # PIL's BOX, which torch does not have
        ({"allow_partial": 1}, "allow_partial must be True or False, got 1"),
        ({"num_decoder_threads": 0}, "num_decoder_threads must be a whole number of at least 1, got 0"),
        ({"num_decoder_threads": "all"}, "num_decoder_threads must be .* got 'all'"),
        ({"num_frames": 10**30}, "num_frames must be at most 65,536"),
        ({"num_frames": 10**400}, "num_frames must be at most 65,536"),
        ({"num_temporal_views": 10**9}, "num_temporal_views must be at most 1,024"),
        ({"num_decoder_threads": 10**9}, "num_decoder_threads must be at most 1,024"),
        ({"sampling": "fixed_rate", "fps": 1e30}, "fps must be from 0.0001 to 10,000, got 1e[+]30"),
        ({"sampling": "fixed_rate", "fps": 1e-30}, "fps must be from 0.0001"),
        ({"size": 10**30}, "size must be at most 16,384 pixels per side"),
        ({"crop_size": {"height": 32, "width": 10**9}}, "crop_size must be at most 16,384 pixels"),
        ({"image_std": [0.5, 0.5]}, r"image_std must have as many values as image_mean, 3, .* got \[0.5, 0.5\]"),
        ({"image_mean": [0.5]}, "image_std must have as many values as image_mean, 1"),
        (
            {"image_mean": [123.7, 116.3, 103.5]},
            r"image_mean=.* is beyond the largest pixel, 1, .* set do_rescale=False",
        ),
        ({"image_std": 1e-30}, "image_std must be from 0.001 to 10,000"),
        ({"image_std": [5e-324] * 3}, "image_std must be from 0.001"),
        ({"image_mean": 1e39}, "image_mean must be from 0 to 10,000 in absolute value"),
        ({"image_mean": 10**400}, "image_mean must be a number"),
        ({"rescale_factor": 1e38}, "rescale_factor must be from 1e-06 to 256"),
        ({"rescale_factor": 1e-40}, "rescale_factor must be from 1e-06"),
        ({"num_frame": 8}, "no setting 'num_frame'; did you mean 'num_frames'"),
    ],
)
def test_invalid_setting_raises_in_constructor_and_call(settings, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        video_processor(**settings)
    assert "\n" not in str(caught.value)
    if settings == {"fps": 5}:
        return  # valid in a call, where it has the meaning of Transformers
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        video_processor()(ARRAYS, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        *({"size": -1}, {"do_normalize": 1}, {"image_std": 0}, {"crop_siz": 3}, {"device": "nowhere"}),
        *(
            {"size": 10**30},
            {"image_std": [0.5]},
            {"image_std": 1e-30},
            {"image_mean": -1e39},
            {"rescale_factor": 1e38},
        ),
    ],
)
def test_image_processor_checks_settings(settings):
    for make in (lambda: TubeViTImageProcessor(**settings), lambda: TubeViTImageProcessor()(ARRAYS[0], **settings)):
        with pytest.raises((ValueError, TypeError), match=next(iter(settings))) as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((0, 32, 32, 3), np.uint8), "no frames"),
        (np.zeros((32, 32, 3), np.uint8), r"got shape \(32, 32, 3\); for images use the image processor"),
        (np.zeros((1, 1, 8, 32, 32, 3), np.uint8), "got shape"),
        (np.zeros((8, 32, 32, 2), np.uint8), r"1, 3 or 4 channels .* got shape \(32, 32, 2\)"),
        (np.zeros((8, 5, 32, 32), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((8, 0, 32, 3), np.uint8), "no pixels"),
        (np.full((8, 32, 32, 3), np.nan), "finite, got NaN"),
        (np.full((8, 32, 32, 3), 256), "from 0 to 255, got 256 to 256"),
        (np.zeros((8, 32, 32, 3), bool), "got dtype torch.bool"),
        (np.zeros((8, 32, 32, 3), complex), "got dtype"),
        ([], "empty list"),
        ([[], []], "empty list"),
        (np.zeros((0, 8, 3, 32, 32), np.uint8), r"empty batch of videos, of shape \(0, 8, 3, 32, 32\)"),
        (Image.new("RGB", (8, 8)), "got Image"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], "one size, got"),
        (3, "got int"),
        (None, "got NoneType"),
    ],
)
def test_invalid_video_raises_one_line(video, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        video_processor()(video)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((32, 32, 5), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((0, 32, 3), np.uint8), "no pixels"),
        (np.zeros((2, 8, 32, 32, 3), np.uint8), "for videos use the video processor"),
        (np.full((32, 32, 3), np.inf), "finite"),
        ([], "empty list"),
        (np.zeros((0, 32, 32, 3), np.uint8), "empty batch of images"),
        (None, "NoneType"),
    ],
)
def test_invalid_image_raises_one_line(image, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        TubeViTImageProcessor()(image)
    assert "\n" not in str(caught.value)


def test_inconsistent_metadata_raises():
    processor = video_processor()
    with pytest.raises(ValueError, match="total_num_frames=300, the video has 40 frames"):
        processor(ARRAYS, video_metadata={"total_num_frames": 300})
    processor(
        ARRAYS, video_metadata={"total_num_frames": 300}, do_sample_frames=False
    )  # the frames are already sampled
    with pytest.raises(ValueError, match="no entry 'rate'"):
        processor(ARRAYS, video_metadata={"rate": 25})
    for name, value in (("fps", -25), ("fps", 1e30), ("fps", "25"), ("fps", float("nan")), ("duration", -1.0)):
        with pytest.raises(ValueError, match=f"video_metadata: {name} must be a number above 0"):
            processor(ARRAYS, video_metadata={name: value}, sampling="fixed_rate", fps=5)
    for times in (np.arange(40)[::-1], np.zeros(40), [np.nan] * 40, np.arange(20)):
        with pytest.raises(ValueError, match="timestamps must be 40 ascending times"):
            processor(ARRAYS, video_metadata={"timestamps": times}, sampling="fixed_rate", fps=5)
    shifted = [
        pixels(
            processor, ARRAYS, video_metadata={"timestamps": first + np.arange(40) / 20}, sampling="fixed_rate", fps=5
        )
        for first in (0.0, 7.5)
    ]
    assert (shifted[0] == shifted[1]).all(), "times are relative to the first frame"
    with pytest.raises(ValueError, match=r"fps=10000 gives 400,000 frames"):
        processor(ARRAYS, video_metadata={"fps": 1}, fps=10_000)
    with pytest.raises(ValueError, match="2 videos and 1 entries"):
        processor([ARRAYS, ARRAYS], video_metadata=[{"fps": 25}])
    with pytest.raises(ValueError, match=r"is after the end of the video, which lasts 2\.000 s"):
        processor(ARRAYS, sampling="fixed_rate", fps=5, clip_start=7, video_metadata={"fps": 20})


def test_number_of_channels_must_match_the_mean():
    gray = ARRAYS[..., :1]
    with pytest.raises(ValueError, match="image_mean has 3 values for 1 channels"):
        video_processor(do_convert_rgb=False)(gray, input_data_format="channels_last")
    gray_processor = video_processor(do_convert_rgb=False, image_mean=0.5, image_std=0.5)
    assert pixels(gray_processor, gray, input_data_format="channels_last").shape[2] == 1


def test_videos_of_different_shapes_cannot_be_batched():
    with pytest.raises(ValueError, match="different shapes") as caught:
        video_processor()([ARRAYS, ARRAYS[:20]], do_sample_frames=False, return_tensors="pt")
    assert "\n" not in str(caught.value)
