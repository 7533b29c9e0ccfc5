"""`tubevit demo`: from files to the report in a few training steps; class folders; the report."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import make_model, tiny_config
from transformers import pipeline
from video_files import moving_frames, write_video

from tubevit import Tube, TubeViTForVideoClassification, TubeViTImageProcessor, TubeViTVideoProcessor
from tubevit.training.cli import main
from tubevit.training.commands import quick_demo
from tubevit.training.commands.demo_page import FileClassifier
from tubevit.training.commands.demo_report import ReportClip, draw_report
from tubevit.training.data.demo_clips import LabeledClip, find_clips, hold_out, take_evenly
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.synthetic.moving_shapes import draw_clip, labels, random_scene, write_clip


def write_clips(folder: Path, *names: str, num_frames: int = 6) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, moving_frames(num_frames, 40, 56, seed))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# The command as a whole


def test_demo_on_moving_shapes_writes_model_and_report(tmp_path, capsys):
    output = tmp_path / "out put"
    assert main(["demo", "--output", str(output), "--steps", "3", "--clips-per-class", "2"]) == 0
    printed = capsys.readouterr().out
    assert [f"[{step}/5]" in printed for step in range(1, 6)] == [True] * 5
    assert "of 12 held-out clips correct" in printed
    assert f'predict "{output}' in printed.splitlines()[-1]
    assert sorted(path.name for path in output.iterdir()) == ["clips.csv", "model", "report.png", "videos"]
    resolved = (output / "model" / "resolved_config.yaml").read_text()  # the model is one of `tubevit train`
    assert "max_steps: 3\n" in resolved and "learning_rate: 0.00" in resolved
    with Image.open(output / "report.png") as report:
        assert report.width > 1000
    clip = next((output / "videos" / "val").rglob("*.mp4"))
    answers = pipeline("video-classification", model=str(output / "model"))(str(clip), top_k=12)
    assert sum(answer["score"] for answer in answers) == pytest.approx(1, abs=1e-4)
    assert {answer["label"] for answer in answers} == {path.name for path in (output / "videos" / "val").iterdir()}
    # Once more: the videos are kept, the model is made anew; a model that broke off is one too.
    time = clip.stat().st_mtime_ns
    (output / "model" / "model.safetensors").unlink()
    assert main(["demo", "--output", str(output), "--steps", "2", "--clips-per-class", "2"]) == 0
    assert clip.stat().st_mtime_ns == time and (output / "model" / "model.safetensors").is_file()
    assert "max_steps: 2\n" in (output / "model" / "resolved_config.yaml").read_text()


def test_the_quick_demo_classifies_with_the_shipped_weights(tmp_path, capsys):
    output = tmp_path / "out put"
    assert main(["demo", "--quick", "--output", str(output), "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if " s  " in line and ".mp4: " in line]
    assert len(lines) == 12 and sum(line.endswith(", correct") for line in lines) >= 10
    assert f"{sum(line.endswith(', correct') for line in lines)} of 12 held-out clips correct" in printed
    assert f'predict "{output}' in printed.splitlines()[-1]
    assert sorted(path.name for path in output.iterdir()) == ["model", "report.png", "videos"]
    with Image.open(output / "report.png") as report:
        assert report.width > 1000
    quick_demo.prepare(output, 5)  # again, on the same folder
    (output / "model" / "resolved_config.yaml").touch()  # as a trained model has
    assert main(["demo", "--quick", "--output", str(output)]) == 2
    assert "another model" in capsys.readouterr().err


def test_the_shipped_weights_score_on_new_clips(tmp_path):
    """60 clips that neither the training nor its evaluation has seen; chance is 1 of 12."""
    assert sum(path.stat().st_size for path in quick_demo.SHIPPED.iterdir()) <= 2_000_000
    quick_demo.unpack_weights(tmp_path)
    classifier = load_video_classifier(str(tmp_path), {})
    rng, names = np.random.default_rng(20261130), labels()
    clips = [draw_clip(random_scene(names[index % 12], rng)) for index in range(60)]
    logits = classifier(classifier.processor(clips, return_tensors="pt").pixel_values_videos)
    found = [classifier.model.config.id2label[index] for index in logits.argmax(-1).tolist()]
    assert np.mean([label == names[index % 12] for index, label in enumerate(found)]) >= 0.85


def test_packed_weights_are_those_of_the_model_to_half_a_step(tmp_path):
    model = make_model(TubeViTForVideoClassification, tiny_config())
    model.save_pretrained(tmp_path / "model")
    TubeViTVideoProcessor().save_pretrained(tmp_path / "model")
    TubeViTImageProcessor().save_pretrained(tmp_path / "model")
    quick_demo.pack_weights(tmp_path / "model", tmp_path / "packed")
    quick_demo.unpack_weights(tmp_path / "again", tmp_path / "packed")
    found = TubeViTForVideoClassification.from_pretrained(tmp_path / "again").state_dict()
    num_rounded = 0
    for name, tensor in model.state_dict().items():
        if tensor.ndim < 2 or tensor.numel() < quick_demo.LEAST_INT8:
            assert torch.equal(found[name], tensor), name
            continue
        half_step = tensor.flatten(1).abs().amax(1) / 254
        num_rounded += 1
        assert ((found[name] - tensor).flatten(1).abs() <= half_step[:, None] * 1.001).all(), name
    assert num_rounded > 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--quick", "--steps", "5"], "--steps has no effect with --quick"),
        (["--quick", "--data", "x"], "--data has no effect with --quick"),
        (["--gradio", "--max-clips", "5"], "--max-clips has no effect with --gradio"),
        (["--gradio", "--quick"], "--quick has no effect with --gradio"),
        (["--quick", "--port", "5"], "--port has no effect without --gradio"),
        (["--model", "m"], "--model has no effect without --gradio"),
    ],
)
def test_options_without_effect_are_refused(argv, words, capsys):
    assert main(["demo", *argv]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_the_page_names_the_extra_that_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--gradio", "--output", str(tmp_path)]) == 2
    assert "pip install 'tubevit[gradio]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_has_labels_and_tubes_of_a_file(tmp_path):
    quick_demo.unpack_weights(tmp_path / "model")
    write_clip(tmp_path / "clip.mp4", draw_clip(random_scene("cross moving up", np.random.default_rng(1))))
    classify = FileClassifier(str(tmp_path / "model"))
    found, picture = classify(str(tmp_path / "clip.mp4"))
    expected = pipeline("video-classification", model=str(tmp_path / "model"))(str(tmp_path / "clip.mp4"), top_k=5)
    assert list(found) == [each["label"] for each in expected]
    assert list(found.values()) == pytest.approx([each["score"] for each in expected], abs=1e-5)
    assert picture.width > 800 and np.asarray(picture).std() > 10
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError):
        classify(str(tmp_path / "clip.mp4"))


def test_demo_does_not_change_a_folder_with_other_files(tmp_path, capsys):
    write_clips(tmp_path / "data", "run/1.mp4", "run/2.mp4", "walk/1.mp4", "walk/2.mp4")
    mine = tmp_path / "out" / "model" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    arguments = ["demo", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--steps", "1"]
    assert main(arguments) == 2
    assert "holds files that are not a model" in capsys.readouterr().err.splitlines()[-1]
    assert mine.read_text() == "mine"


def test_demo_takes_max_clips_evenly(tmp_path, capsys):
    write_clips(tmp_path / "data", *(f"{label}/{i}.mp4" for label in ("run", "walk") for i in range(4)))
    arguments = ["demo", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--steps", "1"]
    assert main([*arguments, "--max-clips", "5"]) == 0
    assert "5 of 8 clips are used" in capsys.readouterr().out
    rows = (tmp_path / "out" / "clips.csv").read_text().splitlines()[1:]
    assert len(rows) <= 5 and {row.split(",")[1] for row in rows} == {"run", "walk"}


def test_demo_on_a_folder_without_validation_clips_holds_some_out(tmp_path, capsys):
    write_clips(
        tmp_path / "data", "run/1.mp4", "run/2.avi", "run/3.mkv", "walk/1.webm.mkv", "walk/deep/2.mp4", "sit/1.mp4"
    )
    (tmp_path / "data" / "run" / "broken.mp4").write_bytes(b"no video")
    arguments = ["demo", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--steps", "2"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "There is no val/ folder" in printed.out
    assert "Classes with a single clip are not evaluated: sit." in printed.out
    assert "held-out clips correct" in printed.out
    assert printed.err.count("left out: ") == 1
    assert "broken.mp4" in printed.err
    labels = json.loads((tmp_path / "out" / "model" / "config.json").read_text())["id2label"]
    assert labels == {"0": "run", "1": "sit", "2": "walk"}


def test_demo_with_one_clip_per_class_warns_about_evaluation_on_training_clips(tmp_path, capsys):
    write_clips(tmp_path / "data", "run/1.mp4", "walk/1.mp4")
    arguments = ["demo", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--steps", "2"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "does not measure generalization" in printed
    assert "of 2 TRAINING clips correct" in printed


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.mp4", "b.mp4"], "2 videos but no class folders"),
        (["notes/readme.txt"], "no videos in class folders"),
        (["run/a.mp4", "run/b.mp4"], "one class only (run)"),
        (["val/run/a.mp4", "val/walk/a.mp4"], "no train/"),
        (["train/run/a.mp4", "train/walk/a.mp4", "val/sit/a.mp4"], "holds no videos of the classes in train/"),
        (["run/a.mp4", "walk/a.mp4"], "Fewer than two classes"),  # they are empty files
    ],
)
def test_demo_with_unusable_data_prints_one_line(tmp_path, capsys, names, message):
    touch(tmp_path / "data", *names)
    assert main(["demo", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tubevit demo: error: ")
    assert message in error


@pytest.mark.parametrize("option", ["--steps", "--clips-per-class", "--max-clips", "--seed"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_demo_with_wrong_numbers_prints_one_line(tmp_path, capsys, option, value):
    if (option, value) == ("--seed", "0"):
        return
    with pytest.raises(SystemExit) as exit_info:
        main(["demo", option, value, "--output", str(tmp_path / "out")])
    assert exit_info.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"tubevit demo: error: argument {option}: must be a whole number of at least ")
    assert f"got '{value}'" in error
    assert not (tmp_path / "out").exists()


def test_demo_with_a_missing_folder_fails(tmp_path, capsys):
    assert main(["demo", "--data", str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


# Class folders


def test_split_folders_are_the_splits(tmp_path):
    touch(
        tmp_path, "train/run/a.mp4", "train/walk/b.AVI", "validation/run/c.mkv", "train/walk/notes.txt", "extra/d.mp4"
    )
    found = find_clips(tmp_path)
    assert {(clip.path.name, clip.label) for clip in found.train} == {("a.mp4", "run"), ("b.AVI", "walk")}
    assert found.val == [LabeledClip(tmp_path / "validation" / "run" / "c.mkv", "run")]
    assert found.messages == [
        "Left out: 1 file in extra/, which is beside the folders of the splits.",
        "Left out: 1 file without the suffix of video files (1 .txt).",
    ]


def test_classes_without_training_clips_are_left_out_with_a_message(tmp_path):
    touch(tmp_path, "train/run/a.mp4", "train/walk/b.mp4", "test/run/c.mp4", "test/sit/d.mp4")
    found = find_clips(tmp_path)
    assert [clip.label for clip in found.val] == ["run"]
    assert "sit" in found.messages[0]


def test_hold_out_takes_a_fraction_of_each_class_and_loses_no_clip():
    clips = [LabeledClip(Path(f"{label}{i}"), label) for label, n in (("a", 8), ("b", 4), ("c", 2)) for i in range(n)]
    found = hold_out(clips, 0.25, seed=1)
    assert sorted(clip.label for clip in found.val) == ["a", "a", "b", "c"]
    assert sorted(map(str, found.train + found.val)) == sorted(map(str, clips))
    assert hold_out(clips[::-1], 0.25, seed=1) == found
    assert hold_out(clips, 0.25, seed=2).val != found.val


def test_take_evenly_takes_a_clip_of_every_class_first():
    clips = [LabeledClip(Path(f"{label}{i}"), label) for label, n in (("a", 9), ("b", 2), ("c", 5)) for i in range(n)]
    random.Random(0).shuffle(clips)
    assert sorted(clip.label for clip in take_evenly(clips, 3)) == ["a", "b", "c"]
    assert sorted(clip.label for clip in take_evenly(clips, 8)) == ["a"] * 3 + ["b"] * 2 + ["c"] * 3
    assert len(set(take_evenly(clips, 99))) == len(clips)
    assert take_evenly([], 3) == []


# The report


NUM_FRAMES, IMAGE_SIZE = 16, 64
TUBE_CASES = [Tube((8, 8, 8), (4, 12, 12)), Tube((16, 4, 4), (16, 12, 12)), Tube((1, 16, 16), (8, 16, 16))]


def test_report_shows_all_clips(tmp_path):
    size = (NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE)
    frames = np.zeros((NUM_FRAMES, 2 * IMAGE_SIZE, 2 * IMAGE_SIZE, 3), np.uint8)
    correct = ReportClip(frames, "run", [("run", 0.8), ("walk", 0.2)])
    wrong = replace(correct, label="walk")
    assert correct.is_correct
    assert not wrong.is_correct
    heights = []
    for clips in ([correct], [correct, wrong]):
        draw_report(tmp_path / "report.png", clips, TUBE_CASES, size, title="t", subtitle="s", clips_are="clips")
        with Image.open(tmp_path / "report.png") as image:
            heights.append(image.height)
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert heights[1] > heights[0]
    assert {(0x2A, 0x9D, 0x5C), (0xD1, 0x49, 0x5B)} <= set(
        map(tuple, pixels)
    )  # a bar of a correct and of a wrong prediction
