"""Saving and loading with the Auto classes, the pipelines, and exported folders with code."""

import pytest
import torch
from PIL import Image
from repository import ROOT
from tiny_models import make_model, tiny_clips
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
    ViTConfig,
    ViTForImageClassification,
    pipeline,
)
from video_classifiers import OWN, save_own
from video_files import moving_frames, write_video
from warm_processes import run_python

from tubevit import (
    TubeViTForImageClassification,
    TubeViTForVideoClassification,
    TubeViTImageProcessor,
    TubeViTModel,
    TubeViTProcessor,
    TubeViTVideoProcessor,
)


SMALL = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return str(write_video(path, moving_frames(20, height=24, width=32)))


def save_all(folder, with_code: bool = False, **video_settings) -> TubeViTForVideoClassification:
    """Save a model and both processors to one folder."""
    model = make_model(TubeViTForVideoClassification)
    model.save_pretrained(folder, with_code=with_code)
    TubeViTVideoProcessor(num_frames=8, **SMALL, **video_settings).save_pretrained(folder, with_code=with_code)
    TubeViTImageProcessor(**SMALL).save_pretrained(folder, with_code=with_code)
    return model


def test_auto_classes_round_trip(tmp_path):
    model = save_all(tmp_path)
    clips = tiny_clips()
    for auto, ours in (
        (AutoModel, TubeViTModel),
        (AutoModelForVideoClassification, TubeViTForVideoClassification),
        (AutoModelForImageClassification, TubeViTForImageClassification),
    ):
        loaded, report = auto.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is ours
        assert not report["missing_keys"] and not report["mismatched_keys"]
        own = loaded.state_dict()
        expected = model.tubevit.state_dict() if ours is TubeViTModel else model.state_dict()
        assert all(torch.equal(own[name], expected[name]) for name in expected)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(clips).logits, model(clips).logits)
    assert type(AutoVideoProcessor.from_pretrained(tmp_path)) is TubeViTVideoProcessor
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is TubeViTImageProcessor
    TubeViTProcessor(TubeViTImageProcessor(**SMALL), TubeViTVideoProcessor(**SMALL)).save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is TubeViTProcessor


def test_video_pipeline_returns_the_models_probabilities(tmp_path, clip):
    model = save_all(tmp_path)
    results = pipeline("video-classification", model=str(tmp_path))(clip, top_k=5)
    pixels = AutoVideoProcessor.from_pretrained(tmp_path)(clip, return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**pixels).logits[0].softmax(-1)
    assert {result["label"]: pytest.approx(result["score"], abs=1e-5) for result in results} == {
        model.config.id2label[index]: value.item() for index, value in enumerate(probabilities)
    }


def test_pipeline_uses_several_views(tmp_path, clip):
    model = save_all(tmp_path, sampling="fixed_rate", fps=25, num_temporal_views=2, num_spatial_views=3)
    classifier = pipeline("video-classification", model=str(tmp_path))
    results = classifier(clip, top_k=5)
    pixels = classifier.video_processor(clip, return_tensors="pt")["pixel_values_videos"]
    assert pixels.shape == (1, 6, 8, 3, 16, 16)
    with torch.no_grad():
        mean = torch.stack([model(pixels[:, view]).logits[0].softmax(-1) for view in range(6)]).mean(0)
    scores = {result["label"]: result["score"] for result in results}
    for index, value in enumerate(mean):
        assert scores[model.config.id2label[index]] == pytest.approx(value.item(), abs=1e-5)


def test_pipeline_with_uint8_pixels_gives_the_same_prediction(tmp_path, clip):
    save_all(tmp_path)
    classifier = pipeline("video-classification", model=str(tmp_path))
    expected = classifier(clip, top_k=5)
    classifier.video_processor.do_rescale = classifier.video_processor.do_normalize = False
    assert classifier.video_processor(clip, return_tensors="pt")["pixel_values_videos"].dtype == torch.uint8
    for one, other in zip(classifier(clip, top_k=5), expected, strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_image_pipeline_loads_the_same_checkpoint(tmp_path):
    save_all(tmp_path)
    image = Image.fromarray(moving_frames(1, height=24, width=32)[0])
    results = pipeline("image-classification", model=str(tmp_path))(image, top_k=5)
    assert sum(result["score"] for result in results) == pytest.approx(1, abs=1e-5)


WITHOUT_PACKAGE = """
import sys

class NoTubeViT:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tubevit":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTubeViT())
folder, clip = sys.argv[1:]
import torch
from transformers import (AutoImageProcessor, AutoModel, AutoModelForImageClassification,
                          AutoModelForVideoClassification, AutoVideoProcessor, pipeline)
remote = {"trust_remote_code": True}
model = AutoModelForVideoClassification.from_pretrained(folder, **remote)
assert type(model).__module__.startswith("transformers_modules")
pixels = AutoVideoProcessor.from_pretrained(folder, **remote)(clip, return_tensors="pt")
probabilities = model(**pixels).logits[0].softmax(-1)
AutoModel.from_pretrained(folder, **remote)
AutoModelForImageClassification.from_pretrained(folder, **remote)
AutoImageProcessor.from_pretrained(folder, **remote)
results = pipeline("video-classification", model=folder, **remote)(clip, top_k=5)
for result in results:
    index = model.config.label2id[result["label"]]
    assert abs(result["score"] - probabilities[index].item()) < 1e-5
print("scores", *(f"{value:.6f}" for value in probabilities.tolist()))
model.save_pretrained(folder + "/again", with_code=True)
again = AutoModelForVideoClassification.from_pretrained(folder + "/again", **remote)
assert torch.equal(again(**pixels).logits, model(**pixels).logits)
assert "tubevit" not in sys.modules
"""


def test_exported_folder_loads_without_the_package(tmp_path, clip):
    folder = tmp_path / "export"
    model = save_all(folder, with_code=True)
    assert getattr(model.config, "auto_map", None) is None
    result = run_python("-c", WITHOUT_PACKAGE, folder, clip, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    pixels = AutoVideoProcessor.from_pretrained(folder)(clip, return_tensors="pt")
    scores = [float(value) for value in result.stdout.split("scores")[1].split()]
    torch.testing.assert_close(torch.tensor(scores), model(**pixels).logits[0].softmax(-1), atol=1e-5, rtol=0)


OTHERS_WITHOUT_PACKAGE = (
    WITHOUT_PACKAGE.split("folder, clip")[0]
    + """
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline
clip, *folders = sys.argv[1:]
for folder in folders:
    model = AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True)
    pixels = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)(clip, return_tensors="pt")
    probabilities = model(**pixels).logits[0].softmax(-1)
    for result in pipeline("video-classification", model=folder, trust_remote_code=True)(clip, top_k=5):
        assert abs(result["score"] - probabilities[model.config.label2id[result["label"]]].item()) < 1e-5
    try:
        (model.from_reference if hasattr(model, "from_reference") else model.from_scenic)("file")
        raise AssertionError("the conversions are not exported")
    except ImportError as error:
        assert "needs the `tubevit` package" in str(error)
    print("scores", *(f"{value:.6f}" for value in probabilities.tolist()))
assert "tubevit" not in sys.modules
"""
)


def test_exported_models_of_other_families_load_without_the_package(tmp_path, clip):
    folders = [save_own(tmp_path / f"{name} model", name) for name in OWN]
    for folder in folders:
        model, processor = (
            auto.from_pretrained(folder) for auto in (AutoModelForVideoClassification, AutoVideoProcessor)
        )
        for saved in (model, processor):
            saved.save_pretrained(folder.with_suffix(".export"), with_code=True)
    exports = [folder.with_suffix(".export") for folder in folders]
    result = run_python("-c", OTHERS_WITHOUT_PACKAGE, clip, *exports, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    for folder, line in zip(folders, result.stdout.split("scores")[1:], strict=True):
        pixels = AutoVideoProcessor.from_pretrained(folder)(clip, return_tensors="pt")
        expected = AutoModelForVideoClassification.from_pretrained(folder)(**pixels).logits[0].softmax(-1)
        torch.testing.assert_close(torch.tensor([float(each) for each in line.split()]), expected, atol=1e-5, rtol=0)


NOT_FOR_INFERENCE = {
    *("from_image_checkpoint", "source_checkpoints", "image_families", "weight_conversion", "kernel_inflation"),
    *("conversion_report", "image_to_video_scaling", "presets", "joint_classification", "auto_registration"),
    *("configuration_uniformerv2", "modeling_uniformerv2", "uniformerv2_conversion", "uniformerv2_from_clip"),
    *("configuration_factorized_vivit", "modeling_factorized_vivit", "vivit_conversion", "vivit_from_vit"),
    *("checkpoint_files", "state_mapping", "pixel_normalization", "masked_pretraining"),
}


def test_export_contains_inference_modules_only(tmp_path):
    modules = {path.stem for path in (ROOT / "modeling_tubevit").glob("*.py")}
    assert modules > NOT_FOR_INFERENCE, "a module was renamed"
    make_model(TubeViTForImageClassification).save_pretrained(tmp_path, with_code=True)
    assert {path.stem for path in tmp_path.glob("*.py")} == modules - NOT_FOR_INFERENCE - {"__init__"}


def test_save_without_code_writes_no_code(tmp_path):
    save_all(tmp_path / "with", with_code=True)
    save_all(tmp_path / "without")
    assert not list((tmp_path / "without").glob("*.py"))
    assert "auto_map" not in (tmp_path / "without" / "config.json").read_text()


def test_export_rejects_classes_without_auto_class(tmp_path):
    class Ours(TubeViTForVideoClassification):
        pass

    with pytest.raises(ValueError, match="this is a Ours"):
        make_model(Ours).save_pretrained(tmp_path, with_code=True)


def test_pickle_checkpoint_raises(tmp_path):
    model = save_all(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for auto in (TubeViTForVideoClassification, AutoModelForVideoClassification):
        with pytest.raises(ValueError, match=r"pickle checkpoint \(pytorch_model.bin\).*only safetensors"):
            auto.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use_safetensors=False"):
        TubeViTModel.from_pretrained(tmp_path, use_safetensors=False)


def test_truncated_checkpoint_raises_one_line(tmp_path):
    make_model(TubeViTForVideoClassification).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cannot be read .*damaged or incomplete") as error:
        TubeViTForVideoClassification.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_checkpoint_of_another_model_type_raises(tmp_path):
    config = ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32)
    ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'vit' model, not of 'tubevit'"):
        TubeViTForImageClassification.from_pretrained(tmp_path)


def test_folder_without_weights_raises_one_line(tmp_path):
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        TubeViTModel.from_pretrained(tmp_path)
