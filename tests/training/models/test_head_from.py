"""The classifier of Kinetics-710 as the initial classifier for Kinetics-400, 600, 700 and for some of their classes."""

import pytest
import torch
from random_weights import randomize

from tubevit import UniFormerV2Config, UniFormerV2ForVideoClassification, UniFormerV2VideoProcessor
from tubevit.training.data.video_datasets import VideoData
from tubevit.training.models.build import load_run_config, make_model
from tubevit.training.models.model_options import ClipConfig, ModelConfig
from tubevit.training.models.published_classes import FOLDER, NO_ROW, head_rows, read_class_list
from tubevit.training.trainer.run_config import JointRun


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TARGETS = ("kinetics400", "kinetics600", "kinetics700")
FILES = {"reference": "kinetics710_uniformerv2", "mmaction2": "kinetics710"}


def save(folder, names: list[str] | None, num_labels: int = 710):
    labels = {"num_labels": num_labels} if names is None else {"id2label": dict(enumerate(names))}
    model = UniFormerV2ForVideoClassification(UniFormerV2Config(**SIZES, image_size=16, patch_size=8, **labels))
    randomize(model).save_pretrained(folder)
    UniFormerV2VideoProcessor(num_frames=8, size=16, crop_size=16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("k710")
    for order, file in FILES.items():
        save(root / order, read_class_list(FOLDER / f"{file}.txt"))
    save(root / "reversed", read_class_list(FOLDER / "kinetics710.txt")[::-1])
    save(root / "nameless", None)
    save(root / "kinetics400", read_class_list(FOLDER / "kinetics400.txt"))
    return root


def fine_tune(checkpoint, classes: list[str], clips: dict | None = None, **options):
    config = ModelConfig(model_name_or_path=str(checkpoint), head_from="k710", **options)
    data = VideoData({}, classes, "video", False, None)
    return make_model(config, ClipConfig(**(clips or {})), data, load_run_config(config))


def loaded(checkpoint) -> torch.nn.Linear:
    return UniFormerV2ForVideoClassification.from_pretrained(checkpoint).classifier


@pytest.mark.parametrize("order", FILES)
@pytest.mark.parametrize("target", TARGETS)
def test_rows_are_those_of_convert_by_class_name(target, order, checkpoints):
    """In the order of the data, with the whole backbone, and with other frames than the checkpoint's."""
    rows, names = head_rows(target, order)
    classes = sorted(names, reverse=True)
    run = fine_tune(checkpoints / order, classes, {"num_frames": 4})
    row_of, old, model = dict(zip(names, rows, strict=True)), loaded(checkpoints / order), run.model
    for new, name in enumerate(classes):
        weight, bias = (each[row_of[name]] * (row_of[name] != NO_ROW) for each in (old.weight, old.bias))
        assert torch.equal(model.classifier.weight[new], weight) and model.classifier.bias[new] == bias
    assert model.config.num_labels == model.num_labels == len(classes) and run.own_processor.num_frames == 4
    assert [model.config.id2label[index] for index in range(len(classes))] == classes
    assert model.config.label2id[classes[3]] == 3
    assert any("head_from=k710: the classifier has" in message for message in run.messages)
    assert any("'chopping vegetables'" in message for message in run.messages) == (
        (target, order) == ("kinetics600", "reference")
    )


def test_rows_of_another_order_are_found_by_name(checkpoints):
    old = loaded(checkpoints / "reversed")
    lines = read_class_list(FOLDER / "kinetics710.txt")
    classes = {"Hugging": "hugging (not baby)", "riding_a_bike": "riding a bike", "abseiling": "abseiling"}
    model = fine_tune(checkpoints / "reversed", list(classes)).model
    for new, name in enumerate(classes.values()):
        assert torch.equal(model.classifier.weight[new], old.weight[709 - lines.index(name)])


@pytest.mark.parametrize(
    ("checkpoint", "classes", "message"),
    [
        ("reference", ["abseiling", "juggling fire", "no such"], "class 'no such' of the data is not among the 710 classes"),
        ("nameless", ["abseiling", "juggling fire"], "classes of .* have no names: convert .* --labels kinetics710"),
        ("kinetics400", ["abseiling", "juggling fire"], "has 400 classes, such as 'abseiling', and is not one of Kinetics-710"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_refused_in_one_line(checkpoint, classes, message, checkpoints):
    with pytest.raises(ValueError, match=f"^head_from=k710: the .*{message}") as error:
        fine_tune(checkpoints / checkpoint, classes)
    assert "\n" not in str(error.value)


def test_a_classifier_of_the_same_classes_is_kept(checkpoints):
    run = fine_tune(checkpoints / "mmaction2", read_class_list(FOLDER / "kinetics710.txt"))
    assert torch.equal(run.model.classifier.weight, loaded(checkpoints / "mmaction2").weight)
    assert any("head_from=k710 has no effect" in message for message in run.messages)


def test_runs_that_have_no_such_classifier_are_refused():
    with pytest.raises(ValueError, match="head_from=k710 needs model_name_or_path"):
        ModelConfig(preset="uniformerv2-b16", head_from="k710")
    with pytest.raises(ValueError, match="head_from=k710 is for runs on one data set"):
        JointRun.of(model_name_or_path="a", head_from="k710", datasets={"a": {"data": "here"}})
