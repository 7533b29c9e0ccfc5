"""Clips of a DataLoader: frames, random parameters for any number of workers, corrupt videos, labels, streams."""

import csv
import math
import time
from itertools import islice
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from dataset_files import add_clip, class_folders, read_all
from PIL import Image
from small_processors import SMALL, video_processor
from tiny_models import make_model
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from video_files import full_decode, moving_frames, write_video

from tubevit import TubeViTForVideoClassification
from tubevit.processing import (
    FactorizedViViTVideoProcessor,
    TubeViTImageProcessor,
    UniFormerV2VideoProcessor,
    decode_video,
)
from tubevit.training.data import clip_datasets
from tubevit.training.data.augmentation import AugmentationConfig, BatchAugmentation
from tubevit.training.data.clip_datasets import ClipCollator, ClipDataset, CorruptVideoError, StreamedClips
from tubevit.training.data.clip_sampling import (
    MultiViewReader,
    RandomClipReader,
    RandomImageReader,
    SameCrop,
    video_source,
)
from tubevit.training.data.dataset_columns import make_dataset
from tubevit.training.data.rng import fork_rng, sample_seed
from tubevit.training.data.shards import Address
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.throughput import DataLoaderTimer
from tubevit.training.trainer.callbacks import SetEpoch


TINY = {"num_frames": 8, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
WHOLE_FRAME = AugmentationConfig(rrc_scale_min=1.0)


def reader(mirror: bool = False, config: AugmentationConfig | None = None, **settings) -> RandomClipReader:
    return RandomClipReader(video_processor(**{**TINY, **settings}), config or AugmentationConfig(), mirror)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Six videos of classes a and b."""
    folder = class_folders(tmp_path_factory.mktemp("set"), {"": {"a": 3, "b": 3}})
    for index, path in enumerate(sorted(folder.rglob("*.mp4"))):
        write_video(path, moving_frames(20, 32, 40, seed=index), fps=10)
    return load_video_dataset(DataConfig(data=str(folder), validation_fraction=0.0)).splits["train"]


def with_bad(rows, *indices: int):
    """`rows` in which some files are missing."""
    changed = [
        {**row, "video": {"path": "/nowhere.mp4", "bytes": None}} if i in indices else row
        for i, row in enumerate(rows)
    ]
    return datasets.Dataset.from_list(changed, features=rows.features)


def collate_with_ids(samples: list[dict]) -> dict:
    ids = {"video_ids": [sample["video_id"] for sample in samples]}
    return {**ClipCollator()(samples), **ids, "is_corrupt": torch.tensor([sample["is_corrupt"] for sample in samples])}


def batches(clips, num_workers: int = 0, **kwargs) -> list[dict]:
    kwargs = {"batch_size": 2, "collate_fn": collate_with_ids, **kwargs}
    return read_all(DataLoader(clips, num_workers=num_workers, **kwargs))


def same(one: list[dict], other: list[dict]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a["pixel_values_videos"], b["pixel_values_videos"]) and torch.equal(a["labels"], b["labels"])
        for a, b in pairs
    )


# Which frames


def test_random_clip_has_the_visible_frames_from_a_random_start(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_frames(60, 32, 40), fps=20)
    frames = full_decode(path)
    read = reader(config=WHOLE_FRAME, sampling="fixed_rate", fps=8, crop_size={"height": 32, "width": 40})
    starts = set()
    for seed in range(12):
        with fork_rng(seed):
            start = torch.rand(1, dtype=torch.float64).item() * (3.0 - 8 / 8)  # 60 frames last 3 s, the clip 1 s
        expected = [math.floor((start + k / 8) * 20 + 1e-9) for k in range(8)]
        clip, is_mirrored = read({"path": str(path), "bytes": None}, seed)
        # Colors of our decoder and of PyAV's conversion differ in the last bit.
        difference = (clip.int() - frames[expected].int()).abs().double().mean((1, 2, 3))
        neighbors = (clip.int() - frames[[index - 1 for index in expected]].int()).abs().double().mean((1, 2, 3))
        assert not is_mirrored and (difference < neighbors / 2).all()
        starts.add(expected[0])
    assert len(starts) > 6 and max(starts) <= 40


def test_uniform_training_clips_take_a_frame_of_every_segment(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_frames(40, 32, 40), fps=20)
    read = reader(sampling="uniform")
    chosen = []
    metadata = type("Metadata", (), {"total_num_frames": 40, "fps": 20, "duration": 2.0})()
    for seed in range(50):
        with fork_rng(seed):
            chosen.append(read._sample(metadata))
    assert [sorted(set(segment // 5)) for segment in np.stack(chosen).T] == [[index] for index in range(8)]
    assert all(len(set(segment)) == 5 for segment in np.stack(chosen).T)
    assert read({"path": str(path), "bytes": None}, 0).pixels.shape == (8, 3, 16, 16)


def test_random_span_is_evenly_spaced_and_has_the_minimum_length(tmp_path):
    read = reader(config=AugmentationConfig(min_temporal_span=0.5), sampling="uniform")
    metadata = type("Metadata", (), {"total_num_frames": 160, "fps": 20, "duration": 8.0})()
    steps, firsts = set(), set()
    for seed in range(60):
        with fork_rng(seed):
            chosen = read._sample(metadata)
        distances = np.diff(chosen)
        assert chosen.shape == (8,) and chosen.min() >= 0 and chosen.max() < 160
        assert distances.max() - distances.min() <= 1 and 10 <= distances.mean() + 1e-9 < 20.2
        steps.add(distances.min())
        firsts.add(chosen[0])
    assert min(steps) < 12 and max(steps) > 17 and len(firsts) > 20
    few = type("Metadata", (), {"total_num_frames": 9, "fps": 20, "duration": 0.45})()
    with fork_rng(0):
        assert (np.diff(read._sample(few)) >= 1).all(), "no frame is repeated if the video has enough"
    path = write_video(tmp_path / "short.mp4", moving_frames(5, 32, 40), fps=10)
    assert read({"path": str(path), "bytes": None}, 0).pixels.shape == (8, 3, 16, 16), "a short video is padded"
    grays = np.zeros((40, 32, 40, 3), np.uint8) + np.arange(0, 160, 4, np.uint8)[:, None, None, None]
    path = write_video(tmp_path / "long.mp4", grays, fps=10)
    brightness = read({"path": str(path), "bytes": None}, 0).pixels.float().mean((1, 2, 3))
    assert ((brightness.diff() > 8) & (brightness.diff() < 24)).all(), "frames of the file, some 3 to 5 apart"


@pytest.mark.parametrize(("pad_mode", "last"), [("loop", [0, 1, 2]), ("last", [4, 4, 4])])
def test_short_videos_loop_or_repeat_their_last_frame(tmp_path, pad_mode, last):
    path = write_video(tmp_path / "a.mp4", moving_frames(5, 32, 40), fps=10)
    read = reader(sampling="fixed_rate", fps=10, pad_mode=pad_mode)
    clip = read({"path": str(path), "bytes": None}, 1).pixels
    assert torch.equal(clip[5:], clip[last])


def test_crop_is_the_same_for_all_frames_and_flip_is_reported(tmp_path):
    still = np.repeat(moving_frames(1, 64, 80), 20, axis=0)
    path = write_video(tmp_path / "a.mp4", still, fps=10, options={"crf": "0"}, pix_fmt="yuv444p")
    video = {"path": str(path), "bytes": None}
    crops, mirrored = [], set()
    for seed in range(8):
        clip = reader(mirror=True)(video, seed)
        assert (clip.pixels.int() - clip.pixels[:1].int()).abs().max() <= 2
        crops.append(clip.pixels[0])
        mirrored.add(clip.is_mirrored)
    assert mirrored == {True, False}
    assert all(not torch.equal(crops[0], crop) for crop in crops[1:])
    # The random number of the flip is the first, so a flipped clip has the crop of the clip that is not flipped.
    seed = next(seed for seed in range(8) if reader(mirror=True)(video, seed).is_mirrored)
    flipped = reader(mirror=True)(video, seed).pixels
    with fork_rng(seed):
        torch.rand(())
        straight, _ = decode_video(str(path), reader()._sample, frame_transform=SameCrop(reader().crops.crop))
    assert torch.equal(flipped.flip(-1), straight)


def test_min_temporal_span_is_for_clips_spread_over_the_video():
    config = AugmentationConfig(min_temporal_span=0.5)
    with pytest.raises(
        ValueError, match=r"min_temporal_span=0\.5 is for clips .* samples clips at 8 fps: leave it out"
    ):
        reader(config=config, sampling="fixed_rate", fps=8)
    with pytest.raises(ValueError, match="samples clips with a stride of 2 frames"):
        RandomClipReader(FactorizedViViTVideoProcessor(), config, mirror=False)


def test_scale_jitter_resizes_each_side_by_a_factor_of_its_own_and_crops_anywhere():
    """Scenic: height and width of a frame with a short side of 20 pixels, times 0.9 to 1.25 each, then a crop of 16 pixels."""
    config = AugmentationConfig(scale_jitter_min=0.9, scale_jitter_max=1.25)
    crops, factors, places = reader(config=config, size={"shortest_edge": 20}).crops, [], set()
    for seed in range(200):
        with fork_rng(seed):
            crop = crops.of_a_clip()
            assert crop(torch.zeros(2, 3, 200, 400, dtype=torch.uint8)).shape == (2, 3, 16, 16)
        top, left, height, width = (crop.params[name] for name in ("top", "left", "height", "width"))
        assert 0 <= top <= 200 - height and 0 <= left <= 400 - width
        factors.append((160 / height, 160 / width))  # 16 pixels of frames that are ten times smaller
        places.add((top > (200 - height) / 2, left > (400 - width) / 2))
    factors = np.array(factors)
    assert (factors.min(0) < 0.92).all() and (factors.max(0) > 1.22).all() and len(places) == 4
    assert (factors > 0.89).all() and (factors < 1.26).all() and abs(np.corrcoef(factors.T)[0, 1]) < 0.25
    with pytest.raises(
        ValueError, match=r"scale_jitter_min=0\.9 makes frames of 14 pixels, smaller than the crop, 16x16"
    ):
        reader(config=config)


def test_copies_of_a_clip_share_the_frames_and_nothing_else(rows):
    """Repeated augmentation: whole frames without a flip are equal; crops, flips and seeds of the pixel augmentation differ."""
    same = AugmentationConfig(augmentation_repeats=2, rrc_scale_min=1.0, rrc_ratio_max=1.0)
    square = {"sampling": "fixed_rate", "fps": 5, "size": {"height": 16, "width": 16}}
    clips, starts = reader(config=same, **square), set()
    for seed in range(4):
        first, second = clips(rows[0]["video"], seed).pixels
        assert torch.equal(first, second) and first.shape == (8, 3, 16, 16)
        starts.add(int(first.int().sum()))
    assert len(starts) > 1
    config = AugmentationConfig(augmentation_repeats=3)
    data = ClipDataset(rows, reader(mirror=True, config=config), 2, flipped_labels={0: 1, 1: 0}, seed=5)
    flips = set()
    for index in range(len(rows)):
        sample = data[index]
        assert len(set(sample["sample_seed"])) == 3 and not torch.equal(*sample["pixel_values_videos"][:2])
        flips |= {tuple((sample["labels"] != rows[index]["label"]).tolist())}
    assert len(flips) > 2, "each copy is flipped by itself, and has the label of its flip"


def test_copies_are_clips_of_the_batch_one_copy_of_each_sample_after_another(rows):
    config = AugmentationConfig(augmentation_repeats=2, rand_augment_layers=0)
    data = ClipDataset(with_bad(rows, 1), reader(mirror=True, config=config), 2, max_corrupt_fraction=1.0)
    samples = [data[0], data[1], data[4]]
    batch = ClipCollator(keep_seeds=True)(samples)
    assert batch["pixel_values_videos"].shape == (6, 8, 3, 16, 16)
    assert batch["labels"].tolist() == [0, -100, 1] * 2 and batch["sample_seeds"].shape == (6,)
    for number in range(2):
        for place, sample in enumerate(samples):
            found = batch["pixel_values_videos"][3 * number + place]
            assert torch.equal(found, sample["pixel_values_videos"][number])
            assert int(batch["sample_seeds"][3 * number + place]) == sample["sample_seed"][number]
    assert set(ClipCollator()(samples)) == {"pixel_values_videos", "labels"}


def test_training_clips_have_the_channel_order_of_the_processor(rows):
    clips = {}
    for is_bgr in (False, True):
        processor = UniFormerV2VideoProcessor(num_frames=4, size=20, crop_size=16, do_flip_channel_order=is_bgr)
        clips[is_bgr] = RandomClipReader(processor, AugmentationConfig(), False)(rows[0]["video"], 3).pixels
    assert torch.equal(clips[True], clips[False].flip(-3)) and not torch.equal(clips[True], clips[False])


def test_one_channel_processors_read_one_channel(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_frames(12, 32, 40), fps=10)
    gray = {"do_convert_rgb": False, "image_mean": [0.5], "image_std": [0.5]}
    readers = [reader(**gray), MultiViewReader(video_processor(**TINY, **gray))]
    clips = [read({"path": str(path), "bytes": None}, 0).pixels for read in readers]
    assert [clip.shape for clip in clips] == [read.shape for read in readers] == [(8, 1, 16, 16)] * 2
    colors = reader()({"path": str(path), "bytes": None}, 0).pixels.double()
    luma = torch.einsum("fchw,c->fhw", colors, torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))
    assert (clips[0][:, 0] - luma).abs().max() < 1.5


# The same random parameters in any process


def test_stretched_frames_are_not_cut_in_training_and_evaluation(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_frames(8, 32, 96), fps=8)
    stretched = {"size": {"height": 16, "width": 16}}
    whole = reader(config=WHOLE_FRAME, **stretched)
    whole.crops.crop.ratio = (1.0, 1.0)
    clip = whole({"path": str(path), "bytes": None}, seed=0).pixels
    expected = MultiViewReader(video_processor(**{**TINY, **stretched}))({"path": str(path), "bytes": None}).pixels
    assert (clip.int() - expected.int()).abs().max() <= 1
    for seed in range(
        20
    ):  # crops lie in the frame, and their aspect ratio relative to the frame's is within the limits
        params = SameCrop(reader().crops.crop, stretched_size=(16, 16))
        torch.manual_seed(seed)
        params(torch.zeros(2, 3, 32, 96, dtype=torch.uint8))
        top, left, height, width = (params.params[name] for name in ("top", "left", "height", "width"))
        assert min(top, left) >= 0 and top + height <= 32 and left + width <= 96
        assert 2.0 < width / height < 4.6


def test_random_parameters_do_not_depend_on_workers_order_and_batch(rows):
    clips = ClipDataset(rows, reader(mirror=True), 2, seed=3)
    expected = batches(clips)
    assert same(batches(clips, num_workers=2), expected)
    torch.manual_seed(123)
    assert same(batches(clips), expected)
    assert torch.equal(clips[5]["pixel_values_videos"], expected[2]["pixel_values_videos"][1])
    part = ClipDataset(rows.select([5, 2]), reader(mirror=True), 2, seed=3)
    assert torch.equal(part[0]["pixel_values_videos"], clips[5]["pixel_values_videos"])
    assert not same(batches(ClipDataset(rows, reader(mirror=True), 2, seed=4)), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_epoch_has_new_random_parameters_in_persistent_workers(rows, num_workers):
    clips = ClipDataset(rows, reader(), 2)
    loader = DataLoader(
        clips, 2, num_workers=num_workers, persistent_workers=num_workers > 0, collate_fn=ClipCollator()
    )
    epochs = []
    for epoch in (0, 1, 0):
        clips.set_epoch(epoch)
        epochs.append(list(loader))
    assert not same(epochs[0], epochs[1]) and same(epochs[0], epochs[2])


def test_augmenting_a_batch_later_equals_augmenting_it_in_the_collator(rows):
    clips = ClipDataset(rows, reader(), 2)
    augment = BatchAugmentation(AugmentationConfig(mixup_alpha=0.5, random_erasing_prob=0.5), 2, False, [0.5] * 3)
    early = batches(clips, collate_fn=ClipCollator(augment))
    late = [augment(batch) for batch in batches(clips, collate_fn=ClipCollator(keep_seeds=True))]
    assert same(early, late) and set(early[0]) == set(late[0]) == {"pixel_values_videos", "labels"}
    plain = batches(clips, collate_fn=ClipCollator())
    assert not any(
        torch.equal(a["pixel_values_videos"], b["pixel_values_videos"]) for a, b in zip(early, plain, strict=True)
    )


def test_sample_seed_depends_on_the_video(rows):
    clips = ClipDataset(rows, reader(), 2, seed=9)
    clips.set_epoch(2)
    assert clips[1]["sample_seed"] == sample_seed(9, 2, rows[1]["video_id"])


# Labels


def test_labels_of_flipped_clips_are_swapped(rows):
    clips = ClipDataset(rows, reader(mirror=True), 2, flipped_labels={0: 1, 1: 0})
    seen = set()
    for index in range(6):
        sample, label = clips[index], rows[index]["label"]
        is_mirrored = clips.read(rows[index]["video"], sample["sample_seed"]).is_mirrored
        assert int(sample["labels"]) == (1 - label if is_mirrored else label)
        seen.add(is_mirrored)
    assert seen == {True, False}


def test_several_labels_are_multi_hot_and_swapped_by_flips(rows):
    features = datasets.Features({**rows.features, "label": datasets.List(datasets.Value("int64"))})
    changed = [{**row, "label": labels} for row, labels in zip(rows, [[0, 2], [], None, [1], [1], [1]], strict=True)]
    table = datasets.Dataset.from_list(changed, features=features)
    clips = ClipDataset(table, reader(), 3, multi_label=True)
    found = [clips[index]["labels"].tolist() for index in range(4)]
    assert found == [[1, 0, 1], [0, 0, 0], [-100] * 3, [0, 1, 0]]
    mirrored = ClipDataset(table, reader(mirror=True), 3, multi_label=True, flipped_labels={1: 2, 2: 1})
    assert {tuple(mirrored[index]["labels"].tolist()) for index in (3, 4, 5)} <= {(0, 1, 0), (0, 0, 1)}


def test_a_video_without_a_label_is_read_and_ignored_by_the_loss(rows):
    table = datasets.Dataset.from_list([{**rows[0], "label": None}], features=rows.features)
    sample = ClipDataset(table, reader(), 2)[0]
    assert int(sample["labels"]) == -100 and not sample["is_corrupt"] and sample["pixel_values_videos"].any()


# Corrupt videos


def test_corrupt_video_is_black_ignored_counted_and_logged(rows, tmp_path):
    log = tmp_path / "bad.csv"
    clips = ClipDataset(with_bad(rows, 1, 4), reader(), 2, max_corrupt_fraction=0.5, corrupt_video_log=log)
    good = batches(ClipDataset(rows, reader(), 2))
    for _ in range(2):  # in a second epoch, the same corrupt videos are not counted again
        found = batches(clips, num_workers=2)
        assert clips.num_corrupt == 2
    assert [batch["is_corrupt"].tolist() for batch in found] == [[False, True], [False, False], [True, False]]
    for batch, whole in zip(found, good, strict=True):
        for index, is_corrupt in enumerate(batch["is_corrupt"]):
            pixels = batch["pixel_values_videos"][index]
            assert not pixels.any() if is_corrupt else torch.equal(pixels, whole["pixel_values_videos"][index])
            assert batch["labels"][index] == (-100 if is_corrupt else whole["labels"][index])
        assert batch["video_ids"] == whole["video_ids"]
    with open(log, newline="") as file:
        lines = list(csv.reader(file))
    assert {tuple(line[:2]) for line in lines} == {
        (rows[1]["video_id"], "/nowhere.mp4"),
        (rows[4]["video_id"], "/nowhere.mp4"),
    }
    assert all("No such file" in line[2] for line in lines)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_corrupt_fraction": 0.2},
            "2 of 6 videos cannot be read, more than max_corrupt_fraction=0.2 allows; the last one: b/1.mp4",
        ),
        ({"on_corrupt_video": "raise"}, "a/1.mp4: "),
    ],
)
def test_too_many_corrupt_videos_raise_one_line(rows, num_workers, settings, message):
    clips = ClipDataset(with_bad(rows, 1, 4), reader(), 2, **settings)
    with pytest.raises(CorruptVideoError) as caught:
        batches(clips, num_workers)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_invalid_settings_raise_in_the_constructor(rows):
    with pytest.raises(ValueError, match="split is empty"):
        ClipDataset(rows.select([]), reader(), 2)
    with pytest.raises(ValueError, match="skip or raise"):
        ClipDataset(rows, reader(), 2, on_corrupt_video="replace")
    with pytest.raises(ValueError, match="max_corrupt_fraction"):
        ClipDataset(rows, reader(), 2, max_corrupt_fraction=2)


# Evaluation, images, streams


def test_multi_view_reader_equals_the_processor(rows):
    processor = video_processor(**TINY, sampling="fixed_rate", fps=10, num_temporal_views=2, num_spatial_views=3)
    clips = ClipDataset(with_bad(rows, 0), MultiViewReader(processor), 2, max_corrupt_fraction=1.0)
    expected = processor(rows[1]["video"]["path"], do_rescale=False, do_normalize=False, return_tensors="pt")
    assert torch.equal(clips[1]["pixel_values_videos"], expected.pixel_values_videos[0])
    assert clips[0]["pixel_values_videos"].shape == clips[1]["pixel_values_videos"].shape == (6, 8, 3, 16, 16)
    single = MultiViewReader(video_processor(**TINY))
    assert single(rows[1]["video"]).pixels.shape == single.shape == (8, 3, 16, 16)


def test_images(tmp_path):
    for index, name in enumerate(("a/0.png", "a/1.jpg", "b/2.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(moving_frames(1, 32, 40, seed=index)[0]).save(tmp_path / name)
    (tmp_path / "b" / "3.png").write_bytes(b"no image")
    data = load_video_dataset(DataConfig(data=str(tmp_path), validation_fraction=0.0))
    processor = TubeViTImageProcessor(**SMALL)
    clips = ClipDataset(
        data.splits["train"], RandomImageReader(processor, AugmentationConfig(), True), 2, max_corrupt_fraction=0.5
    )
    (batch,) = batches(clips, batch_size=4)
    assert batch["pixel_values"].shape == (4, 3, 32, 32) and batch["pixel_values"].dtype == torch.uint8
    assert batch["labels"].tolist() == [0, 0, 1, -100]
    augment = BatchAugmentation(AugmentationConfig(mixup_alpha=1.0), 2, False, [0.5] * 3)
    (mixed,) = batches(clips, batch_size=4, collate_fn=ClipCollator(augment))
    assert mixed["labels"].shape == (4, 2) and mixed["pixel_values"].dtype == torch.uint8
    whole = ClipDataset(data.splits["train"], MultiViewReader(processor), 2)
    expected = processor(
        Image.open(tmp_path / "a" / "0.png"), do_rescale=False, do_normalize=False, return_tensors="pt"
    )
    assert torch.equal(whole[0]["pixel_values"], expected.pixel_values[0])


def streamed(rows, num_shards: int = 2):
    return rows.to_iterable_dataset(num_shards=num_shards)


def by_id(found: list[dict]) -> dict:
    return {
        name: pixels
        for batch in found
        for name, pixels in zip(batch["video_ids"], batch["pixel_values_videos"], strict=True)
    }


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streamed_clips_equal_indexed_clips(rows, num_workers):
    table = by_id(batches(ClipDataset(rows, reader(), 2)))
    stream = StreamedClips(streamed(with_bad(rows, 2)), reader(), 2)
    found = by_id(batches(stream, num_workers))
    assert set(found) == set(table) - {rows[2]["video_id"]} and stream.num_corrupt == 1
    assert all(torch.equal(found[name], table[name]) for name in found)
    stream.set_epoch(1)
    assert any(not torch.equal(pixels, found[name]) for name, pixels in by_id(batches(stream, num_workers)).items())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_endless_stream_repeats_the_passes(rows, num_workers, monkeypatch):
    """Also where two workers begin a pass at the same time: `datasets` adds a difference to a number that they share."""

    def set_epoch(stream, epoch):
        difference = epoch - stream._epoch
        time.sleep(0.3 if num_workers else 0)
        stream._epoch += difference

    monkeypatch.setattr(datasets.IterableDataset, "set_epoch", set_epoch)
    shuffled = streamed(rows).shuffle(seed=3, buffer_size=len(rows))
    endless, single = (StreamedClips(shuffled, reader(), 2, is_endless=each) for each in (True, False))
    loader, single_loader = (
        DataLoader(each, 1, num_workers=num_workers, collate_fn=list) for each in (endless, single)
    )
    found = [sample for (sample,) in islice(loader, 3 * len(rows))]
    passes = [found[start : start + len(rows)] for start in range(0, len(found), len(rows))]
    names = [[sample["video_id"] for sample in each] for each in passes]
    assert all(sorted(each) == sorted(rows["video_id"]) for each in names)
    assert len(set(map(tuple, names))) > 1, "each pass has its own order"
    assert len({sample["sample_seed"] for sample in found}) == len(found), "and its own random parameters"
    for epoch, each in enumerate(names):
        single.set_epoch(epoch)
        assert each == [sample["video_id"] for (sample,) in single_loader], "as a run that starts with this pass"
    again = [sample["video_id"] for (sample,) in islice(loader, len(found))]
    assert again == [sample["video_id"] for sample in found], "a resumed run reads the same"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipped_batches_of_a_stream_are_not_decoded(rows, num_workers, tmp_path, monkeypatch):
    """The batches after them are the same, though a video before them is corrupt, which only decoding can tell."""
    shuffled = streamed(with_bad(rows, 2)).shuffle(seed=3, buffer_size=len(rows))
    log, number = tmp_path / "skipped.csv", 7

    def seeds(num_skipped: int) -> list:
        clips = StreamedClips(shuffled, reader(), 2, is_endless=True, corrupt_video_log=log)
        clips.skip(num_skipped, 2)
        loader = DataLoader(clips, 2, num_workers=num_workers, collate_fn=ClipCollator(keep_seeds=True))
        return [batch["sample_seeds"].tolist() for batch in islice(loader, num_skipped, number)]

    whole, read = seeds(0), []
    assert "a/2.mp4" in log.read_text()
    call = RandomClipReader.__call__
    monkeypatch.setattr(RandomClipReader, "__call__", lambda *args: read.append(args) or call(*args))
    for done in (1, 5):
        read.clear()
        assert seeds(done) == whole[done:]
        assert num_workers or len(read) - 2 * (number - done) in (0, 1, 2), "the corrupt video is tried in each pass"


def test_endless_stream_without_readable_videos_ends(rows):
    bad = with_bad(rows.select([0]), 0)
    assert list(StreamedClips(streamed(bad, 1), reader(), 2, is_endless=True)) == []


def test_stream_with_too_many_corrupt_videos_raises(rows):
    many = datasets.concatenate_datasets([with_bad(rows, 0)] * 18)
    stream = StreamedClips(streamed(many), reader(), 2, max_corrupt_fraction=0.1)
    with pytest.raises(CorruptVideoError, match="18 of 103 videos cannot be read"):
        batches(stream)


def test_bytes_and_fsspec_sources(tmp_path):
    path = add_clip(tmp_path / "a.mp4")
    read = reader()
    expected = read({"path": str(path), "bytes": None}, 5).pixels
    for video in ({"path": None, "bytes": path.read_bytes()}, {"path": f"file://{path}", "bytes": None}):
        assert torch.equal(read(video, 5).pixels, expected)
    assert video_source({"path": "https://x/y.mp4", "bytes": None}) == {"path": "https://x/y.mp4", "bytes": None}


# With Trainer


class Epochs(ClipDataset):
    """Records which video was read in which epoch."""

    def __getitem__(self, index):
        self.read_in = [*getattr(self, "read_in", []), (self.epoch.value, index)]
        return super().__getitem__(index)


def test_trainer_learns_from_clips_epoch_by_epoch(rows, tmp_path):
    clips = Epochs(with_bad(rows, 3), reader(), 2, max_corrupt_fraction=0.5)
    augment = BatchAugmentation(AugmentationConfig(label_smoothing=0.1, mixup_alpha=0.5), 2, False, [0.5] * 3)
    model = make_model(TubeViTForVideoClassification, num_labels=2)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=3,
        remove_unused_columns=False,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(
        model, arguments, train_dataset=clips, data_collator=ClipCollator(augment), callbacks=[SetEpoch(clips)]
    )
    result = trainer.train()
    assert math.isfinite(result.training_loss) and all(torch.isfinite(each).all() for each in model.parameters())
    assert sorted(clips.read_in) == [(epoch, index) for epoch in (0, 1) for index in range(6)]
    assert clips.num_corrupt == 1 and model.config.problem_type is None


def test_slowest_files_are_those_that_took_longest_to_read(monkeypatch):
    in_shard = str(Address("a.tar", 512, 90, None, "run/3.mp4"))
    paths = ["0.mp4", "1.mp4", "2.mp4", in_shard, "4.mp4"]
    rows = make_dataset("video", paths, [0] * 5, list("abcde"), ["x"])
    clock = [0.0]
    monkeypatch.setattr(clip_datasets.time, "perf_counter", lambda: clock[0])

    class Reader:
        media, num_copies, shape, dtype = "video", 1, (1, 3, 2, 2), torch.uint8

        def __call__(self, source, seed):
            clock[0] += {"1.mp4": 5.0, in_shard: 2.0}.get(source["path"], 1.0)
            raise ValueError("not a video")

    clips = ClipDataset(rows, Reader(), 1, max_corrupt_fraction=1.0)
    for index in range(4):
        clips[index]
    assert clips.slowest_files(2) == [("1.mp4", 5.0), ("run/3.mp4 in a.tar", 2.0)]
    assert len(clips.slowest_files(9)) == 4  # the last was not read


def test_the_process_that_waited_longest_is_named():
    timer = DataLoaderTimer(None)
    accelerator = SimpleNamespace(
        num_processes=3, device="cpu", gather=lambda own: torch.tensor([0.5, 4.0, 1.0]) + own
    )
    timer.seconds_waiting = 2.0
    assert timer.slowest_wait(accelerator) == {"seconds_waiting_for_data": 6.0, "slowest_rank": 1}
    assert timer.slowest_wait(accelerator)["seconds_waiting_for_data"] == 4.0  # since the last call
