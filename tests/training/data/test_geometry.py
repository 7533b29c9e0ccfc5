"""A disc stays a disc on every path from a file to the pixels of the model, for frames and crops of any proportions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import write_video

from tubevit.processing import TubeViTVideoProcessor, decode_video
from tubevit.training.data.augmentation import AugmentationConfig
from tubevit.training.data.clip_sampling import MultiViewReader, RandomClipReader, RandomImageReader
from tubevit.training.data.prepare import PrepareSettings, prepare_video
from tubevit.training.models.clip_processors import image_processor


# Displayed (height, width) of the video, and the sample aspect ratio of its pixels.
VIDEOS = [
    ((180, 320), 1),
    ((320, 180), 1),
    ((201, 331), 1),
    ((240, 320), Fraction(4, 3)),
    ((320, 180), Fraction(9, 16)),
]
CROPS = [(96, 96), (64, 128), (128, 64), (90, 123)]


def disc(height: int, width: int, num_frames: int) -> np.ndarray:
    """A white disc in the middle of black frames, uint8 `(frames, height, width, 3)`; its diameter is 30 % of the short side."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(rows - height / 2, columns - width / 2)
    frame = 255 * np.clip(0.15 * min(height, width) - distance + 0.5, 0, 1)
    return np.repeat(frame.astype(np.uint8)[None, ..., None], num_frames, 0).repeat(3, -1)


def stretch(frame: torch.Tensor) -> float | None:
    """Width over height of the bright shape in a frame `(3, height, width)`; `None` if it touches the border."""
    light = frame[0].double().numpy()
    light[light < 64] = 0
    if not light.any() or max(light[0].max(), light[-1].max(), light[:, 0].max(), light[:, -1].max()) > 0:
        return None
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    return float(
        np.sqrt(np.cov(columns.ravel(), aweights=light.ravel()) / np.cov(rows.ravel(), aweights=light.ravel()))
    )


@pytest.fixture(scope="module", params=VIDEOS, ids=lambda video: f"{video[0][1]}x{video[0][0]}, pixels {video[1]}")
def video(request, tmp_path_factory):
    (height, width), pixel = request.param
    drawn = Image.fromarray(disc(height, width, 1)[0]).resize((round(width / pixel), height))
    stored = np.repeat(np.asarray(drawn)[None], 4, 0)
    folder = tmp_path_factory.mktemp("disc")
    ratio = None if pixel == 1 else pixel
    lossless = {"pix_fmt": "yuv444p", "options": {"crf": "0"}}
    path = write_video(folder / "disc.mp4", stored, sample_aspect_ratio=ratio, **lossless)
    prepare_video(path, folder / "copy.mp4", PrepareSettings(short_side=100, crf=5))
    return path, folder / "copy.mp4"


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_a_disc_stays_a_disc(video, crop, tmp_path):
    sizes = {"size": {"shortest_edge": max(crop)}, "crop_size": {"height": crop[0], "width": crop[1]}}
    processor = TubeViTVideoProcessor(num_frames=4, **sizes)
    config = AugmentationConfig(rrc_ratio_max=1, rrc_scale_min=0.2)
    image = tmp_path / "disc.png"
    Image.fromarray(decode_video(video[0])[0][0].permute(1, 2, 0).numpy()).save(image)
    found = {}
    for name, path in (("file", video[0]), ("copy", video[1])):
        row = {"path": str(path), "bytes": None}
        found[name, "decoded"] = [decode_video(path)[0][0]]
        found[name, "evaluation"] = [MultiViewReader(processor)(row).pixels[0]]
        views = TubeViTVideoProcessor(num_frames=4, num_spatial_views=3, **sizes)
        found[name, "views"] = list(MultiViewReader(views)(row).pixels[:, 0])
        read = RandomClipReader(processor, config, mirror=True)
        found[name, "training"] = [read(row, seed).pixels[0] for seed in range(24)]
    read = RandomImageReader(image_processor(processor), config, mirror=True)
    found["image", "training"] = [read({"path": str(image), "bytes": None}, seed).pixels for seed in range(24)]
    for path, frames in found.items():
        ratios = [ratio for ratio in map(stretch, frames) if ratio is not None]
        assert ratios, f"no frame of {path} shows the whole disc"
        assert all(abs(ratio - 1) < 0.02 for ratio in ratios), (path, ratios)


def test_training_stretches_by_the_given_factor_around_the_proportions_of_the_crop(tmp_path):
    path = write_video(tmp_path / "disc.mkv", disc(180, 320, 2), codec="ffv1", pix_fmt="yuv444p")
    sizes = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 128}}
    processor = TubeViTVideoProcessor(num_frames=2, **sizes)
    read = RandomClipReader(processor, AugmentationConfig(rrc_ratio_max=1.5, rrc_scale_min=0.2), mirror=False)
    frames = [read({"path": str(path), "bytes": None}, seed).pixels[0] for seed in range(40)]
    ratios = np.log([ratio for ratio in map(stretch, frames) if ratio is not None])
    assert len(ratios) > 10 and np.abs(ratios).max() < np.log(1.5) + 0.03
    assert ratios.min() < -0.15 and ratios.max() > 0.15 and abs(ratios.mean()) < 0.15
