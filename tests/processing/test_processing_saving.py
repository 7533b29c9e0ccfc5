"""Saved processors: settings, Auto classes, the Hub, and folders with code."""

import base64
import io
import json
import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from small_processors import ARRAYS, SMALL, UINT8, pixels, video_processor
from tiny_models import make_model
from transformers import (
    AutoImageProcessor,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
    pipeline,
)
from transformers.utils import hub
from video_files import write_video
from warm_processes import run_python

from tubevit import TubeViTForVideoClassification, TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor
from tubevit.training.models.loading import load_video_classifier


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", ARRAYS, fps=20)


def test_settings_round_trip(tmp_path):
    settings = {"sampling": "fixed_rate", "fps": 15, "clip_start": 1.5, "num_spatial_views": 3, "pad_mode": "last"}
    processor = video_processor(**settings, num_decoder_threads=2)
    processor.save_pretrained(tmp_path)
    for loaded in (TubeViTVideoProcessor.from_pretrained(tmp_path), AutoVideoProcessor.from_pretrained(tmp_path)):
        assert loaded.to_dict() == processor.to_dict()
    changed = AutoVideoProcessor.from_pretrained(tmp_path, num_frames=64, fps=30)
    assert (changed.num_frames, changed.fps, changed.clip_start, changed.num_decoder_threads) == (64, 30, 1.5, 2)
    assert pickle.loads(pickle.dumps(processor)).to_dict() == processor.to_dict()


def test_one_processor_for_images_and_videos(tmp_path, clip):
    processor = TubeViTProcessor(TubeViTImageProcessor(**SMALL), video_processor())
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is TubeViTProcessor and loaded.to_dict() == processor.to_dict()
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is TubeViTImageProcessor
    assert AutoVideoProcessor.from_pretrained(tmp_path).num_frames == 8
    both = loaded(images=ARRAYS[0], videos=clip, return_tensors="pt")
    assert torch.equal(both["pixel_values"], loaded.image_processor(ARRAYS[0], return_tensors="pt").pixel_values)
    assert torch.equal(both["pixel_values_videos"], pixels(loaded.video_processor, clip))
    assert set(loaded(images=ARRAYS[0])) == {"pixel_values"} and set(loaded(videos=clip)) == {"pixel_values_videos"}
    apart = loaded(images=ARRAYS[0], videos=clip, videos_kwargs={"num_frames": 4}, **UINT8, return_tensors="pt")
    assert apart["pixel_values_videos"].shape[1] == 4 and apart["pixel_values"].dtype == torch.uint8
    with pytest.raises(ValueError, match="images=, videos= or both"):
        loaded()
    with pytest.raises(ValueError, match="do_resize") as caught:
        loaded(videos=clip, do_resize="yes")
    assert "\n" not in str(caught.value)


def test_the_first_argument_may_be_a_video(tmp_path, clip):
    processor = TubeViTProcessor(TubeViTImageProcessor(**SMALL), video_processor())
    picture, animation, still = (tmp_path / name for name in ("picture.png", "animation.gif", "still.gif"))
    images = [Image.fromarray(array) for array in ARRAYS[:4]]
    images[0].save(picture)
    images[0].save(still)
    images[0].save(animation, save_all=True, append_images=images[1:])
    expected = pixels(processor.video_processor, clip)
    row = {"path": str(clip), "bytes": None}
    for video in (str(clip), clip, clip.as_uri(), clip.read_bytes(), io.BytesIO(clip.read_bytes()), row, [str(clip)]):
        found = processor(video, return_tensors="pt")
        assert set(found) == {"pixel_values_videos"} and torch.equal(found["pixel_values_videos"], expected)
    assert set(processor(str(animation))) == {"pixel_values_videos"}
    in_base64 = base64.b64encode(picture.read_bytes()).decode()
    for image in (str(picture), str(still), in_base64, images[0], ARRAYS[0], ARRAYS[:2]):
        assert set(processor(image)) == {"pixel_values"}
    for mixed in ({"images": [str(clip), str(picture)]}, {"images": str(clip), "videos": str(clip)}):
        with pytest.raises(ValueError, match="images= holds a video"):
            processor(**mixed)
    with pytest.raises(FileNotFoundError, match="missing"):
        processor(str(tmp_path / "missing.mp4"))


def test_processor_saved_into_a_combined_folder_takes_effect(tmp_path):
    TubeViTProcessor(video_processor=video_processor()).save_pretrained(tmp_path, with_code=True)
    video_processor(num_frames=16).save_pretrained(tmp_path)
    assert AutoVideoProcessor.from_pretrained(tmp_path).num_frames == 16
    assert AutoProcessor.from_pretrained(tmp_path).video_processor.num_frames == 16
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert "AutoVideoProcessor" in saved["video_processor"]["auto_map"]  # the reference to the code is unchanged


# The processor beside a model


SAMPLED = {"num_frames": 16, "sampling": "fixed_rate", "fps": 5, "pad_mode": "last"}


def saved(folder, *parts):
    for part in parts:
        part.save_pretrained(folder)
    return folder


def clip_size(folder):
    config, processor = (
        json.loads((folder / name).read_text()) for name in ("config.json", "video_preprocessor_config.json")
    )
    return config["num_frames"], config["image_size"], processor["num_frames"], processor["crop_size"]["height"]


@pytest.mark.parametrize("model_first", [True, False])
def test_model_and_processor_agree_in_either_order_of_saving(tmp_path, clip, model_first):
    model, processor = make_model(TubeViTForVideoClassification), video_processor(**SAMPLED)
    assert model.config.num_frames != 16
    saved(tmp_path, *([model, processor] if model_first else [processor, model]))
    assert clip_size(tmp_path) == (16, 32, 16, 32)
    with torch.no_grad():
        scores = model(pixels(processor, clip)).logits[0].softmax(-1)
    assert pipeline("video-classification", model=str(tmp_path))(clip)[0]["score"] == pytest.approx(
        scores.max().item()
    )


@pytest.mark.parametrize("combined", [True, False])
@pytest.mark.parametrize("changed", ["config.json", "processor"])
def test_a_contradiction_is_an_error_when_loaded(tmp_path, combined, changed):
    processor = video_processor(**SAMPLED)
    saved(
        tmp_path,
        make_model(TubeViTForVideoClassification),
        TubeViTProcessor(None, processor) if combined else processor,
    )
    path = tmp_path / "config.json"
    if changed == "processor":
        path = tmp_path / ("processor_config.json" if combined else "video_preprocessor_config.json")
    values = json.loads(path.read_text())
    (values["video_processor"] if combined and changed == "processor" else values)["num_frames"] = 24
    path.write_text(json.dumps(values))
    auto_classes = [AutoModelForVideoClassification, AutoVideoProcessor, *([AutoProcessor] if combined else [])]
    for load in (*(auto.from_pretrained for auto in auto_classes), lambda name: load_video_classifier(str(name), {})):
        with pytest.raises(ValueError, match=r"num_frames is (24|16) in config.json and (24|16)") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="num_frames is"):
        pipeline("video-classification", model=str(tmp_path))
    AutoVideoProcessor.from_pretrained(tmp_path, num_frames=8).save_pretrained(tmp_path)  # the way out
    assert AutoModelForVideoClassification.from_pretrained(tmp_path).config.num_frames == 8
    assert AutoModelForVideoClassification.from_pretrained(tmp_path, num_frames=12).config.num_frames == 12


@pytest.mark.parametrize("has_image_processor", [True, False])
def test_a_saved_pipeline_samples_as_before(tmp_path, clip, has_image_processor):
    first = saved(tmp_path / "first", make_model(TubeViTForVideoClassification), video_processor(**SAMPLED))
    if has_image_processor:
        saved(first, TubeViTImageProcessor(**SMALL))
    classify = pipeline("video-classification", model=str(first))
    classify.save_pretrained(tmp_path / "second")
    again = pipeline("video-classification", model=str(tmp_path / "second"))
    assert again.video_processor.to_dict() == classify.video_processor.to_dict()
    assert again(clip) == classify(clip)
    again.model.save_pretrained(saved(tmp_path / "other", video_processor(num_frames=8)))
    assert clip_size(tmp_path / "other") == (8, 32, 8, 32), "a processor that is there already stays"


def test_an_image_processor_does_not_sample_clips(tmp_path):
    saved(tmp_path, make_model(TubeViTForVideoClassification), TubeViTImageProcessor(**SMALL))
    with pytest.raises(FileNotFoundError, match="has an image processor and no video processor"):
        AutoVideoProcessor.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no video processor"):
        load_video_classifier(str(tmp_path), {})


def test_a_processor_that_the_model_cannot_follow_is_not_saved(tmp_path):
    saved(tmp_path, make_model(TubeViTForVideoClassification))
    with pytest.raises(ValueError, match=r"num_frames=1 cannot be saved with a model for clips of"):
        video_processor(num_frames=1).save_pretrained(tmp_path)
    saved(tmp_path, make_model(TubeViTForVideoClassification, position_embedding="learned"))
    with pytest.raises(ValueError, match=r"num_frames=16 cannot be saved .*learned"):
        video_processor(**SAMPLED).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has num_frames=16, .*learned"):
        model = make_model(TubeViTForVideoClassification, position_embedding="learned")
        model.save_pretrained(saved(tmp_path / "processor", video_processor(**SAMPLED)))
    size = model.config.image_size
    saved(
        tmp_path, video_processor(num_frames=model.config.num_frames)
    )  # learned positions are resized to other frame sizes
    assert clip_size(tmp_path)[1] == size != 32


LOAD_WITHOUT_PACKAGE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tubevit":
            raise ImportError("tubevit is not here")

sys.meta_path.insert(0, Blocked())

import torch
from transformers import AutoImageProcessor, AutoProcessor, AutoVideoProcessor

clip, together, apart = sys.argv[1:]
for folder in (together, apart):
    video = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)(clip, return_tensors="pt")
    image_processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    image = image_processor(torch.zeros(3, 40, 50, dtype=torch.uint8), return_tensors="pt")
    print(tuple(video["pixel_values_videos"].shape), video["pixel_values_videos"].double().sum().item())
    print(tuple(image["pixel_values"].shape))
processor = AutoProcessor.from_pretrained(together, trust_remote_code=True)
both = processor(images=torch.zeros(3, 40, 50, dtype=torch.uint8), videos=clip, return_tensors="pt")
print(type(processor).__name__, sorted(both))
"""


def test_exported_processors_load_without_the_package(tmp_path, clip):
    together, apart = tmp_path / "together", tmp_path / "apart"
    processor = TubeViTProcessor(TubeViTImageProcessor(**SMALL), video_processor(num_temporal_views=2))
    attributes = dict(processor.video_processor.__dict__)
    processor.save_pretrained(together, with_code=True)
    processor.image_processor.save_pretrained(apart, with_code=True)
    processor.video_processor.save_pretrained(apart, with_code=True)
    assert processor.video_processor.__dict__ == attributes  # the export changes no attribute permanently
    run = run_python("-c", LOAD_WITHOUT_PACKAGE, clip, together, apart)
    assert run.returncode == 0, run.stderr
    expected = pixels(processor.video_processor, clip)
    line = f"{tuple(expected.shape)} {expected.double().sum().item()}"
    assert run.stdout.splitlines() == [line, "(1, 3, 32, 32)"] * 2 + [
        "TubeViTProcessor ['pixel_values', 'pixel_values_videos']"
    ]


def test_auto_map_is_saved_only_with_code(tmp_path):
    exported, plain = tmp_path / "exported", tmp_path / "plain"
    video_processor().save_pretrained(exported, with_code=True)
    assert (exported / "video_decoding.py").is_file()
    AutoVideoProcessor.from_pretrained(exported).save_pretrained(plain)
    assert [path.name for path in plain.iterdir()] == ["video_preprocessor_config.json"]
    assert "auto_map" not in json.loads((plain / "video_preprocessor_config.json").read_text())


@pytest.mark.parametrize("with_code", [False, True])
def test_push_to_hub_uploads_the_code_on_request(monkeypatch, with_code):
    uploaded = {}
    monkeypatch.setattr(
        hub, "hf_api", lambda: SimpleNamespace(create_repo=lambda *a, **k: SimpleNamespace(repo_id="me/it"))
    )
    monkeypatch.setattr(hub, "create_and_tag_model_card", lambda *a, **k: SimpleNamespace(save=lambda path: None))
    for processor in (TubeViTProcessor(), TubeViTVideoProcessor(), TubeViTImageProcessor()):
        monkeypatch.setattr(
            type(processor),
            "_upload_modified_files",
            lambda self, folder, *a, **k: uploaded.update({type(self): set(os.listdir(folder))}),
        )
        processor.push_to_hub("me/it", with_code=with_code)
        assert ("hub_export_processing.py" in uploaded[type(processor)]) == with_code
