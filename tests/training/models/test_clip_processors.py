"""Clips of every family are read with the settings of the checkpoint's processor in training, evaluation and prediction."""

import json
import subprocess

import numpy as np
import pytest
import torch
import toy_family
from PIL import Image
from repository import ROOT
from tiny_runs import ONE_VIEW
from transformers import (
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    TimesformerForVideoClassification,
    pipeline,
)
from transformers.video_utils import VideoMetadata
from video_classifiers import PEERS, save_peer, save_tubevit
from video_files import moving_frames, write_video

from tubevit.processing import TubeViTVideoProcessor
from tubevit.training.cli import main
from tubevit.training.data.augmentation import AugmentationConfig
from tubevit.training.data.clip_sampling import RandomClipReader
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.models.build import load_run_config, make_model
from tubevit.training.models.clip_processors import FamilyClipProcessor, measure_pixels
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.models.model_options import ClipConfig, ModelConfig


toy_family.register()
NAMES = ["a", "b", "c", "d"]
NUM_FRAMES, RATE = 60, 10  # of the videos
TAKES_OTHER_NUMBERS = {"videomae": 6, "timesformer": 3, "vjepa2": 6}
FIXED = {"vivit", "videoprism"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of each class for training, one for validation."""
    root = tmp_path_factory.mktemp("videos")
    for split, number in (("train", 2), ("val", 1)):
        for index, name in enumerate(NAMES):
            for video in range(number):
                path = root / split / name / f"{video}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, moving_frames(NUM_FRAMES, 20, 24, seed=10 * index + video), fps=RATE)
    return root


@pytest.fixture
def reads(monkeypatch):
    """(clip_start, frame indices) of all videos that are read from now on, possibly with repeats."""
    found = []
    for processor_class in (TubeViTVideoProcessor, FamilyClipProcessor):
        original = processor_class.__dict__["sample_frames"]

        def record(self, metadata, *args, _original=original, **kwargs):
            indices = _original(self, metadata, *args, **kwargs)
            found.append((kwargs.get("clip_start") or self.clip_start, np.asarray(indices).tolist()))
            return indices

        monkeypatch.setattr(processor_class, "sample_frames", record)
    return found


def save_classifier(folder, name: str, **sampling):
    """A checkpoint whose processor has these settings."""
    if name == "tubevit":
        return save_tubevit(folder, NAMES, processor=sampling)
    save_peer(folder, name, NAMES)
    path = folder / ("video_preprocessor_config.json")
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | sampling))
    return folder


def start(folder, videos, **clips):
    """The model of a training run from a checkpoint."""
    config = ModelConfig(model_name_or_path=str(folder))
    return make_model(
        config, ClipConfig(**clips), load_video_dataset(DataConfig(data=str(videos))), load_run_config(config)
    )


def frames_of(processor, path) -> list[int]:
    """The frames that a processor reads of a video."""
    metadata = processor(str(path), return_tensors="pt", return_metadata=True)["video_metadata"]
    return np.asarray(metadata[0].frames_indices).tolist()


RATED = {"tubevit": {"sampling": "fixed_rate", "fps": 5}, **{name: {"fps": 5} for name in PEERS}}


@pytest.mark.parametrize("name", RATED)
def test_training_and_evaluation_sample_at_the_checkpoints_fps(name, videos, tmp_path):
    folder = save_classifier(tmp_path / "model", name, **RATED[name])
    num_frames = 8 if name == "tubevit" else 4
    first = (NUM_FRAMES - 2 * num_frames) // 2
    expected = list(range(first, first + 2 * num_frames, 2))  # of the middle, five of ten frames a second
    path = videos / "val" / "a" / "0.mp4"
    model = start(folder, videos)
    assert frames_of(model.processor, path) == expected
    assert frames_of(load_video_classifier(str(folder), {}).processor, path) == expected
    model.save_processors(str(tmp_path / "saved"))
    saved = AutoVideoProcessor.from_pretrained(tmp_path / "saved")
    assert saved.fps == 5 and saved.to_dict() == AutoVideoProcessor.from_pretrained(folder).to_dict()
    assert any("refuses a rate" in message for message in model.messages) == (name != "tubevit")


@pytest.mark.parametrize("command", ["train", "train-loop"])
@pytest.mark.parametrize("name", ["tubevit", "videomae"])
def test_all_commands_sample_at_the_checkpoints_fps(command, name, videos, tmp_path, reads, capsys):
    folder, out = save_classifier(tmp_path / "model", name, **RATED[name]), tmp_path / "run"
    views = [f"{option}={value}" for option, value in ONE_VIEW.items()]
    options = [f"model_name_or_path={folder}", f"data={videos}", f"output_dir={out}", "max_steps=1", "use_cpu=true"]
    assert main([command, *options, *views]) == 0
    training = [indices for clip_start, indices in reads if clip_start == "random"]
    validation = [indices for clip_start, indices in reads if clip_start == "center"]
    assert len(training) >= 8 and {step for indices in training for step in np.diff(indices)} == {2}
    assert len(set(map(tuple, validation))) == 1  # while training, and at its end
    assert json.loads((out / "evaluation" / "metrics.json").read_text())["fps"] == 5
    saved = json.loads((out / "video_preprocessor_config.json").read_text())
    assert saved["fps"] == 5
    path = str(videos / "val" / "a" / "0.mp4")
    reads.clear()
    assert main(["predict", path, "--model", str(out)]) == 0
    assert reads and all(indices == validation[0] for _, indices in reads)
    if name == "tubevit":
        reads.clear()
        pipeline("video-classification", model=str(out))(path)
        assert reads and all(indices == validation[0] for _, indices in reads)


@pytest.mark.parametrize("name", [*PEERS, "toy"])
def test_without_fps_the_frames_are_those_of_the_pipeline(name, videos, tmp_path):
    """It calls the processor with `num_frames` of the model's config, and `do_sample_frames=True`."""
    if name == "toy":
        toy_family.ToyForVideoClassification(toy_family.ToyConfig(num_labels=4)).save_pretrained(tmp_path)
        toy_family.ToyVideoProcessor().save_pretrained(tmp_path)
    else:
        save_peer(tmp_path, name, NAMES)
    path = videos / "val" / "a" / "0.mp4"
    own = AutoVideoProcessor.from_pretrained(tmp_path)
    expected = own.sample_frames(VideoMetadata(total_num_frames=NUM_FRAMES, fps=RATE), num_frames=4).tolist()
    assert expected == ([14, 29, 44, 59] if name == "toy" else [0, 15, 30, 45])
    assert frames_of(load_video_classifier(str(tmp_path), {}).processor, path) == expected
    views = frames_of(load_video_classifier(str(tmp_path), {"num_temporal_views": 3}).processor, path)
    assert views[:4] == expected and views[4:8] == [min(index + 5, 59) for index in expected]
    if name != "toy":
        assert frames_of(start(tmp_path, videos).processor, path) == expected


def test_training_takes_a_random_frame_of_each_segment(videos, tmp_path):
    save_peer(tmp_path, "videomae", NAMES)
    processor = start(tmp_path, videos).processor
    reader = RandomClipReader(processor, AugmentationConfig(), mirror=False)
    torch.manual_seed(0)
    drawn = [reader._sample(VideoMetadata(total_num_frames=NUM_FRAMES, fps=RATE)).tolist() for _ in range(20)]
    assert len(set(map(tuple, drawn))) > 10
    assert all(15 * segment <= index < 15 * (segment + 1) for clip in drawn for segment, index in enumerate(clip))


def test_videos_with_fewer_frames_than_a_clip_are_padded(tmp_path):
    save_peer(tmp_path / "model", "videomae", NAMES)
    write_video(tmp_path / "a.mp4", moving_frames(3, 20, 24), fps=RATE)
    assert frames_of(load_video_classifier(str(tmp_path / "model"), {}).processor, tmp_path / "a.mp4") == [0, 1, 2, 0]


OVERRIDES = [
    ({"fps": 5}, {}, {"fps": 5}),
    ({}, {"fps": 5}, {"fps": 5}),
    ({"fps": 2}, {"fps": 5}, {"fps": 5}),
    ({"fps": 5}, {"sampling": "uniform"}, {"fps": None}),
]


@pytest.mark.parametrize(("own", "options", "saved"), OVERRIDES)
@pytest.mark.parametrize("name", ["tubevit", "vjepa2"])
def test_options_override_the_checkpoint_and_are_saved(name, own, options, saved, videos, tmp_path):
    if name == "tubevit" and own:
        own = {"sampling": "fixed_rate", **own}
    folder = save_classifier(tmp_path / "model", name, **own)
    model = start(folder, videos, **options)
    assert (model.processor.fps, model.processor.sampling) == (
        saved["fps"],
        "fixed_rate" if saved["fps"] else "uniform",
    )
    model.model.save_pretrained(tmp_path / "saved")
    model.save_processors(str(tmp_path / "saved"))
    assert AutoVideoProcessor.from_pretrained(tmp_path / "saved").fps == saved["fps"]
    again = load_video_classifier(str(tmp_path / "saved"), {}).processor
    path = videos / "val" / "a" / "0.mp4"
    assert frames_of(again, path) == frames_of(model.processor, path)


def test_tubevit_uses_sizes_and_views_of_its_processor(videos, tmp_path):
    own = {"num_temporal_views": 2, "pad_mode": "last", "size": {"height": 16, "width": 16}, "do_center_crop": False}
    folder = save_classifier(tmp_path / "model", "tubevit", **own)
    model = start(folder, videos)
    assert (model.processor.num_temporal_views, model.own_processor.num_temporal_views) == (1, 2)
    assert model.own_processor.pad_mode == "last" and dict(model.own_processor.crop_size) == {
        "height": 16,
        "width": 16,
    }
    assert start(folder, videos, pad_mode="loop").own_processor.pad_mode == "loop"
    cropped = start(folder, videos, resize_mode="crop", short_side=20).own_processor
    assert dict(cropped.size) == {"shortest_edge": 20} and dict(cropped.crop_size) == {"height": 16, "width": 16}


@pytest.mark.parametrize("name", PEERS)
def test_num_frames_may_differ_if_the_model_allows_it(name, videos, tmp_path):
    folder = save_classifier(tmp_path / "model", name)
    assert (name in TAKES_OTHER_NUMBERS) != (name in FIXED)
    if name in FIXED:
        with pytest.raises(
            ValueError, match=r"num_frames=8, but the weights of .* are for clips of 4 frames: set num_frames=4"
        ):
            start(folder, videos, num_frames=8)
        with pytest.raises(ValueError, match="set num_frames=4"):
            load_video_classifier(str(folder), {"num_frames": 8})
        return
    num_frames = TAKES_OTHER_NUMBERS[name]
    model = start(folder, videos, num_frames=num_frames)
    clips = torch.zeros(2, num_frames, 3, 16, 16, dtype=torch.uint8)
    assert model.model(**model.prepare({"pixel_values_videos": clips})).logits.shape == (2, 4)
    assert load_video_classifier(str(folder), {"num_frames": num_frames})(clips).shape == (2, 4)
    model.model.save_pretrained(tmp_path / "saved")
    model.save_processors(str(tmp_path / "saved"))
    again = load_video_classifier(str(tmp_path / "saved"), {})
    assert again.processor.num_frames == num_frames and again(clips).shape == (2, 4)
    AutoModelForVideoClassification.from_pretrained(tmp_path / "saved")  # without a message about sizes


@pytest.mark.parametrize("name", ["videomae", "vjepa2"])
def test_num_frames_that_is_no_multiple_of_the_token_span_raises(name, videos, tmp_path):
    folder = save_classifier(tmp_path / "model", name)
    with pytest.raises(ValueError, match=r"num_frames=5, but each token .* spans 2 frames: set num_frames=4"):
        start(folder, videos, num_frames=5)


def test_time_embeddings_of_timesformer_are_interpolated(videos, tmp_path):
    folder = save_classifier(tmp_path / "model", "timesformer")
    before = TimesformerForVideoClassification.from_pretrained(folder).timesformer.embeddings.time_embeddings
    after = start(folder, videos, num_frames=8).model.timesformer.embeddings.time_embeddings
    assert after.requires_grad and torch.equal(after, before.repeat_interleave(2, dim=1))


def test_sizes_of_other_families_raise(videos, tmp_path):
    folder = save_classifier(tmp_path / "model", "videomae")
    with pytest.raises(ValueError, match=r"image_size, short_side cannot be set for .* VideoMAEVideoProcessor"):
        start(folder, videos, image_size=16, short_side=20)


def test_checkpoint_without_a_processor_gets_a_new_one_with_a_message(videos, tmp_path):
    folder = save_classifier(tmp_path / "model", "tubevit")
    (folder / "video_preprocessor_config.json").unlink()
    model = start(folder, videos)
    assert any("has no processor" in message for message in model.messages) and model.processor.num_frames == 8


def test_model_types_are_compared_in_the_registry_only():
    command = ["grep", "-rnE", r"model_type\s*(==|!=|in |not in )", "training", "--include=*.py"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    assert [line for line in found if not line.startswith("training/models/families.py")] == []


@pytest.mark.parametrize("media", ["video", "image"])
def test_pixel_statistics_of_a_new_model_are_those_of_its_data(media, tmp_path):
    """Gray levels 51 and 153 in equal parts have mean 0.4 and deviation 0.2; a damaged file is left out."""
    for index in range(4):
        frames = np.full((4, 16, 32, 3), 51 + 102 * (index % 2), np.uint8)
        path = tmp_path / NAMES[index % 2] / f"{index}{'.mp4' if media == 'video' else '.png'}"
        path.parent.mkdir(exist_ok=True)
        write_video(path, frames) if media == "video" else Image.fromarray(frames[0]).save(path)
    (tmp_path / NAMES[0] / f"damaged{path.suffix}").write_bytes(b"damaged")
    data = load_video_dataset(DataConfig(data=str(tmp_path), validation_fraction=0.0))
    config = ModelConfig(preset="tiny", model_config={"pooling": "mean"})
    messages = measure_pixels(config, [data])
    assert config.model_config == {
        "pooling": "mean",
        "image_mean": pytest.approx(0.4, abs=0.01),
        "image_std": pytest.approx(0.2, abs=0.01),
    }
    assert len(messages) == 1 and f"those of 4 training {media}s" in messages[0]
    assert measure_pixels(config, [data]) == []  # given values are kept
    assert measure_pixels(ModelConfig(model_name_or_path="some/model"), [data]) == []


def test_a_normalizer_takes_the_views_as_clips(tmp_path):
    """A TubeViT whose processor has other statistics than its config: the processor normalizes all views of a video."""
    save_tubevit(tmp_path, processor={"image_mean": [0.1, 0.2, 0.3]})
    one, views = (load_video_classifier(str(tmp_path), {"num_spatial_views": number}) for number in (1, 3))
    clips = torch.randint(0, 256, (3, 8, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(views(clips), one(clips))
