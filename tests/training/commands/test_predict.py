"""`tubevit predict`: predictions for all kinds of clips, and errors of one line."""

import csv
import io
import json
import logging
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from saved_models import LABELS, save_model
from transformers import BertConfig
from transformers.utils import logging as library_logging
from video_files import moving_frames, write_video

from tubevit import TubeViTForImageClassification, TubeViTForVideoClassification, TubeViTModel
from tubevit.processing import TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor
from tubevit.training.cli import main
from tubevit.training.commands.predict import format_result
from tubevit.training.data.media_files import kind_of
from tubevit.training.models.encoders import load_encoder
from tubevit.training.models.loading import load_model, load_video_classifier


PIXELS = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("model"))
    TubeViTProcessor(TubeViTImageProcessor(**PIXELS), TubeViTVideoProcessor(num_frames=8, **PIXELS)).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder with two videos, one of them in a subfolder, an image, a text file and a hidden video."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    write_video(folder / "a.mp4", moving_frames(12, 32, 40))
    write_video(folder / "more" / "b.mkv", moving_frames(20, 40, 32))
    write_video(folder / ".hidden.mp4", moving_frames(4, 32, 32))
    Image.fromarray(moving_frames(1, 32, 40)[0]).save(folder / "c.png")
    (folder / "notes.txt").write_text("not a clip")
    return folder


def predict(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["predict", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_predict_accepts_files_folders_and_images(capsys, model, clips):
    code, out, err = predict(capsys, clips / "a.mp4", clips, "--model", model, "--json")
    results = json.loads(out)
    assert (code, err) == (0, "")
    assert [Path(result["file"]).name for result in results] == ["a.mp4", "a.mp4", "c.png", "b.mkv"]
    assert [result["kind"] for result in results] == ["video", "video", "image", "video"]
    for result in results:
        assert sorted(entry["label"] for entry in result["predictions"]) == sorted(LABELS)
        scores = [entry["score"] for entry in result["predictions"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert results[0] == results[1]


def test_csv_has_the_numbers_of_the_json(capsys, model, clips, tmp_path):
    broken = tmp_path / 'a "broken", clip.mp4'
    broken.write_bytes(b"no video")
    _, out, _ = predict(capsys, model, clips, broken, "--json", "--top-k", 2)
    code, text, err = predict(capsys, model, clips, broken, "--csv", "--top-k", 2)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 1 and f"{broken}: " in err
    expected = []
    for result in json.loads(out):
        for rank, each in enumerate(result.get("predictions", [{}]), 1):
            row = {
                "file": result["file"],
                "kind": result["kind"],
                "rank": rank if each else "",
                "label": "",
                "score": "",
            }
            expected.append({**row, **each, "error": result.get("error", "")})
    assert rows == [{name: str(value) for name, value in row.items()} for row in expected] and len(rows) == 7


def test_first_argument_is_the_model(capsys, model, clips):
    assert predict(capsys, model, clips / "a.mp4") == predict(capsys, clips / "a.mp4", "--model", model)
    for argv in ([clips / "a.mp4"], [clips / "a.mp4", clips / "c.png"], [model], []):
        code, _, err = predict(capsys, *argv)
        assert code == 2 and "Give a model and clips: tubevit predict MODEL CLIP" in err and err.count("\n") == 1


def test_images_are_classified_with_the_same_weights(capsys, model, clips):
    _, out, _ = predict(capsys, clips / "c.png", "--model", model, "--json")
    pixels = TubeViTImageProcessor(**PIXELS)(Image.open(clips / "c.png"), return_tensors="pt")
    with torch.no_grad():
        scores = TubeViTForImageClassification.from_pretrained(model)(**pixels).logits[0].softmax(-1)
    found = {entry["label"]: entry["score"] for entry in json.loads(out)[0]["predictions"]}
    assert [found[label] for label in LABELS] == pytest.approx(scores.tolist(), abs=1e-6)


def test_views_are_averaged(capsys, model, clips):
    arguments = ("--model", model, "--json", "--temporal-views", 2, "--spatial-views", 3)
    _, out, _ = predict(capsys, clips / "a.mp4", *arguments)
    processor = TubeViTVideoProcessor(num_frames=8, num_temporal_views=2, num_spatial_views=3, **PIXELS)
    views = processor(str(clips / "a.mp4"), return_tensors="pt").pixel_values_videos[0]
    with torch.no_grad():
        logits = TubeViTForVideoClassification.from_pretrained(model)(pixel_values_videos=views).logits
    expected = logits.softmax(-1).mean(0)
    found = {entry["label"]: entry["score"] for entry in json.loads(out)[0]["predictions"]}
    assert len(views) == 6
    assert [found[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-5)


def test_table_shows_file_score_and_label(capsys, model, clips):
    code, out, _ = predict(capsys, clips / "a.mp4", "--model", model, "--top-k", 2, "--dtype", "bfloat16")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == str(clips / "a.mp4")
    assert len(lines) == 3
    assert all("%" in line and line.split()[-1] in LABELS for line in lines[1:])


def test_bars_show_the_score():
    result = {"file": "f", "predictions": [{"label": "x", "score": score} for score in (1.0, 0.5, 0.0)]}
    full, half, empty = (line.count("█") for line in format_result(result).splitlines()[1:])
    assert full == 2 * half > 0
    assert empty == 0


def test_corrupt_clips_are_listed_and_the_others_classified(capsys, model, clips, tmp_path, monkeypatch):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)  # PIL's own error for a picture of more is of no usual kind
    Image.new("L", (4, 4)).save(tmp_path / "large.png")
    broken = [tmp_path / name for name in ("empty.mp4", "text.jpg", "missing.mp4", "missing.png", "large.png")]
    names = [broken[0], clips / "a.mp4", *broken[1:]]
    code, out, err = predict(capsys, *names, "--model", model, "--json")
    results = json.loads(out)
    assert code == 1
    assert ["error" in result for result in results] == [True, False, True, True, True, True]
    assert err.startswith("5 of 6 clips could not be read")
    assert all(str(name) in err for name in broken)
    assert len(err.splitlines()) == 6
    assert [result["error"] for result in results[3:5]] == ["No such file or directory"] * 2
    code, out, _ = predict(capsys, *names, "--model", model)
    assert code == 1
    assert out.count("could not be read") == 5 and "could not be read: is empty." in out


@pytest.fixture
def library_log():
    """Messages that Transformers logs; pytest does not capture its own handler."""
    messages, handler = [], logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    library_logging.add_handler(handler)
    yield messages
    library_logging.remove_handler(handler)


BROKEN_MODELS = ["missing", "file", "empty", "other type", "pickle", "backbone", "no processor"]


BROKEN_MODELS += ["truncated", "empty weights", "other shapes", "bad config"]


@pytest.mark.parametrize("make", BROKEN_MODELS)
@pytest.mark.parametrize("command", ["predict", "export"])
def test_unusable_model_prints_one_line(capsys, library_log, make, command, clips, tmp_path):
    folder = tmp_path / "model"
    expected = {
        "missing": "no model folder",
        "file": "is a file",
        "empty": "no config.json",
        "other type": "is a bert model. No family is registered for this type",
        "pickle": "pickle",
        "backbone": "lacks",
        "no processor": "processor",
        "truncated": "damaged or incomplete",
        "empty weights": "damaged or incomplete",
        "other shapes": "2 weights of other shapes than its config.json says (classifier.bias is (3,), not (4,))",
        "bad config": "config.json",
    }[make]
    if make == "file":
        folder.write_text("")
    elif make != "missing":
        folder.mkdir()
    if make == "other type":
        BertConfig().save_pretrained(folder)
    elif make not in ("missing", "file", "empty"):
        save_model(folder, TubeViTModel if make == "backbone" else TubeViTForVideoClassification)
        if make != "no processor":
            TubeViTVideoProcessor(num_frames=8, **PIXELS).save_pretrained(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if make == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif make == "empty weights":
        weights.write_bytes(b"")
    elif make == "other shapes":
        config.write_text(
            json.dumps({**json.loads(config.read_text()), "id2label": None, "label2id": None, "num_labels": 4})
        )
    elif make == "bad config":
        config.write_text("{")
    elif make == "backbone":
        config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": None}))
    if make == "pickle":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    arguments = {
        "predict": [clips / "a.mp4", "--model", folder],
        "export": [folder, tmp_path / "out"],
    }[command]
    capsys.readouterr()  # what saving printed
    code = main([command, *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith(f"tubevit {command}: error: ")
    assert expected in err
    assert len(err.splitlines()) == 1
    assert library_log == []
    assert not (tmp_path / "out").exists()


def test_unused_weights_are_reported(caplog, library_log, tmp_path):
    config = save_model(tmp_path) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 1}))
    load_model(str(tmp_path))
    (message,) = caplog.messages
    assert "weights that are not used (" in message and "layers.1." in message
    assert library_log == []


def test_folder_without_clips_and_missing_gpu_fail(capsys, model, tmp_path):
    code, _, err = predict(capsys, tmp_path, "--model", model)
    assert code == 2
    assert "holds no videos or images" in err
    if not torch.cuda.is_available():
        code, _, err = predict(capsys, tmp_path / "a.mp4", "--model", model, "--device", "cuda")
        assert code == 2
        assert "no GPU" in err


def test_traceback_option_shows_the_traceback(model):
    with pytest.raises(FileNotFoundError):
        main(["predict", "x.mp4", "--model", "./missing", "--traceback"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.MP4", "video"),
        ("b.JPeG", "image"),
        ("https://x.org/c.png?size=2", "image"),
        ("d", "video"),
        ("e #1?.png", "image"),
    ],
)
def test_suffix_decides_the_kind(name, kind):
    assert kind_of(name) == kind


def test_predict_without_clips_is_an_error(model, capsys):
    assert main(["predict", "--model", str(model)]) == 2
    assert "Give videos or images to classify" in capsys.readouterr().err


def test_a_mistake_while_a_clip_is_classified_is_not_a_clip_that_cannot_be_read(model, clips, monkeypatch):
    def fail(*args, **kwargs):
        return torch.zeros(2) @ torch.zeros(3)

    monkeypatch.setattr(TubeViTForVideoClassification, "forward", fail)
    with pytest.raises(RuntimeError):
        main(["predict", str(clips / "a.mp4"), "--model", str(model)])


def test_reason_for_an_unreadable_clip_is_printed_once(model, tmp_path, capsys):
    missing = tmp_path / "missing.mp4"
    assert main(["predict", str(missing), "--model", str(model)]) == 1
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("No such file") == (shown.out + shown.err).count(str(missing)) == 1
    assert shown.err == "1 of 1 clips could not be read.\n"


def test_empty_model_folder_prints_the_reason(tmp_path, capsys):
    for argv in (["predict", "clip.mp4", "--model", str(tmp_path)], ["export", str(tmp_path), str(tmp_path / "out")]):
        assert main(argv) == 2
        assert (
            "is empty and has no config.json: the run that writes a model there has not finished, or was stopped."
            in capsys.readouterr().err
        )


@pytest.mark.parametrize("command", [("predict",), ("data", "check"), ("data", "prepare"), ("bench",)])
def test_only_commands_that_train_or_evaluate_have_a_dry_run(command, capsys):
    required = ["--model", "m"] if command == ("predict",) else []
    with pytest.raises(SystemExit):
        main([*command, *required, "--dry-run"])
    assert "there is no option --dry-run" in capsys.readouterr().err


def test_token_budget_equals_the_same_strides_in_the_config(capsys, tmp_path, model, clips):
    """`predict`, `eval` and `embed` load with a budget what a checkpoint with the coarser tubes in its config loads."""
    coarse, budget = load_model(str(model)), load_model(str(model)).config.num_tokens() // 2
    coarse.set_tubes(coarse.config.with_token_budget(budget).tubes)
    coarse.save_pretrained(tmp_path)
    TubeViTProcessor.from_pretrained(model).save_pretrained(tmp_path)
    inputs = torch.rand(1, 8, 3, 16, 16)
    for load in (load_video_classifier, load_encoder):
        expected, budgeted = load(str(tmp_path), settings={}), load(str(model), settings={}, token_budget=budget)
        assert torch.equal(budgeted(inputs), expected(inputs))
        assert not torch.equal(budgeted(inputs), load(str(model), settings={})(inputs))
    outputs = [
        predict(capsys, clips / "a.mp4", "--model", folder, "--json", *options)[1]
        for folder, options in ((model, ("--token-budget", budget)), (tmp_path, ()), (model, ()))
    ]
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("clip", "budget", "message"),
    [
        ("a.mp4", 1, "smallest possible budget"),
        ("c.png", 20, "--token-budget 20 has no effect: there are only images"),
    ],
)
def test_a_token_budget_that_cannot_be_used(capsys, model, clips, clip, budget, message):
    code, out, err = predict(capsys, clips / clip, "--model", model, "--token-budget", budget)
    assert code != 0 and out == "" and message in err and err.count("\n") == 1
