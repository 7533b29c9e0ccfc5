"""`tubevit eval`: results do not depend on batches and processes, and the counts include videos that were not scored."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from dataset_files import add_clip, add_table, class_folders
from repository import ROOT
from tiny_models import tiny_clips
from video_classifiers import CLASSES, PEERS, save_peer, save_tubevit
from video_files import moving_frames, write_video
from warm_processes import run_python

from tubevit.training.cli import main
from tubevit.training.evaluation.multi_view import VideoPrediction
from tubevit.training.evaluation.results import ScoredVideos
from tubevit.training.models.loading import load_model, load_video_classifier


SCRIPT = ROOT / "training" / "evaluate_video_classification.py"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Seven validation videos of three classes, no two alike."""
    root = tmp_path_factory.mktemp("videos")
    for index, name in enumerate(["a", "a", "a", "b", "b", "c", "c"]):
        path = root / "val" / name / f"{index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(10 + index, 32, 40, seed=index), fps=10)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tubevit(tmp_path_factory.mktemp("tubevit"))


@pytest.fixture
def with_broken(videos, tmp_path):
    """The videos in a list with one missing file, one file that is no video, and one truncated file."""
    (tmp_path / "text.mp4").write_bytes(b"no video " * 100)
    whole = next((videos / "val" / "c").iterdir()).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    rows = [{"path": str(path), "label": path.parent.name} for path in sorted(videos.rglob("*.mp4"))]
    rows += [{"path": name, "label": "a"} for name in ("gone.mp4", "text.mp4", "cut.mp4")]
    return add_table(tmp_path / "videos.csv", rows)


def run_eval(model, data, out, *options, data_option="data"):
    argv = [
        "eval",
        f"model_name_or_path={model}",
        f"{data_option}={data}",
        f"output_dir={out}",
        "use_cpu=true",
        *options,
    ]
    return main(argv)


def read_json(path):
    return json.loads(path.read_text())


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def probabilities(folder):
    """Mean probabilities of each video, from the parquet file of logits."""
    table = pq.read_table(folder / "predictions.parquet").to_pylist()
    found = {}
    for row in table:
        found.setdefault(row["video_id"], []).append(torch.tensor(row["logits"]).double().softmax(-1))
    return {video: torch.stack(views).mean(0) for video, views in found.items()}


def test_results_equal_the_model_on_each_video(videos, model, tmp_path):
    assert run_eval(model, videos, tmp_path / "out", "num_temporal_views=2") == 0
    own = load_model(str(model))
    processor = load_video_classifier(str(model), {"num_temporal_views": 2, "num_spatial_views": 3}).processor
    right, by_class = 0, {}
    for video, scores in probabilities(tmp_path / "out").items():
        pixels = processor(str(videos / "val" / video), return_tensors="pt").pixel_values_videos
        assert pixels.shape[1] == 6
        with torch.no_grad():
            expected = own(pixel_values_videos=pixels).logits.softmax(-1)[0]
        torch.testing.assert_close(scores.float(), expected, rtol=1e-4, atol=1e-5)
        is_right = CLASSES[expected.argmax()] == video[0]
        right += is_right
        by_class.setdefault(video[0], []).append(is_right)
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["accuracy"] == pytest.approx(right / 7)
    assert metrics["mean_class_accuracy"] == pytest.approx(np.mean([np.mean(each) for each in by_class.values()]))
    assert metrics["num_videos"] == metrics["num_scored"] == 7 and metrics["is_complete"] is True
    assert (metrics["num_temporal_views"], metrics["num_spatial_views"]) == (2, 3)
    assert metrics["view_aggregation"] == "probs"


def test_result_files_are_complete_and_agree(videos, model, tmp_path):
    out = tmp_path / "out"
    assert run_eval(model, videos, out, "num_temporal_views=2", "num_spatial_views=1") == 0
    written = {path.name for path in out.iterdir()}
    assert written == {
        "metrics.json",
        "throughput.json",
        "environment.json",
        "label_map.json",
        "resolved_config.yaml",
        "predictions.parquet",
        "predictions.csv",
        "per_class.csv",
        "confusion_matrix.png",
    }
    table = pq.read_table(out / "predictions.parquet")
    assert table.num_rows == 14 and json.loads(table.schema.metadata[b"class_names"]) == CLASSES
    assert [row["view"] for row in table.to_pylist()] == [0, 1] * 7
    scores = probabilities(out)
    rows = read_table(out / "predictions.csv")
    assert [row["video_id"] for row in rows] == list(scores) == sorted(scores)
    for row in rows:
        best = scores[row["video_id"]].max(0)
        assert (row["label"], row["status"], row["reason"]) == (row["video_id"][0], "scored", "")
        assert row["predicted"] == CLASSES[best.indices]
        assert float(row["score"]) == pytest.approx(best.values.item(), abs=1e-6)
    per_class = read_table(out / "per_class.csv")
    assert [row["class"] for row in per_class] == CLASSES
    assert [row["num_videos"] for row in per_class] == ["2", "3", "2", "0"]
    assert sum(int(row["num_predicted"]) for row in per_class) == 7 and per_class[3]["accuracy"] == ""
    throughput = read_json(out / "throughput.json")
    assert throughput["clips_per_second"] == pytest.approx(2 * throughput["videos_per_second"], rel=0.01)
    assert 0 <= throughput["share_of_time_waiting_for_data"] <= 1
    assert yaml.safe_load((out / "resolved_config.yaml").read_text())["views"]["num_temporal_views"] == 2
    assert read_json(out / "label_map.json")["id2label"]["0"] == "c"


TWO_VIEWS = ("num_temporal_views=2", "num_spatial_views=1")


def test_segments_of_one_film_are_rows_of_their_own(model, tmp_path):
    frames = moving_frames(40, 32, 40, seed=3)
    write_video(tmp_path / "film.mp4", frames, fps=10)
    segments = [(0, 1.5), (2, 4), (3, 7)]
    rows = [{"path": "film.mp4", "start": start, "end": end, "label": "a"} for start, end in segments]
    rows.append({"path": "film.mp4", "start": "", "end": "", "label": "b"})
    data = add_table(tmp_path / "val.csv", rows)
    assert run_eval(model, data, tmp_path / "out", *TWO_VIEWS, data_option="validation_data") == 1
    found = read_table(tmp_path / "out" / "predictions.csv")
    assert [(row["video_id"], row["start"], row["end"], row["status"]) for row in found] == [
        ("film.mp4#t=0,1.5", "0.0", "1.5", "scored"),
        ("film.mp4#t=2,4", "2.0", "4.0", "scored"),
        ("film.mp4#t=3,7", "3.0", "7.0", "skipped"),
        ("film.mp4", "", "", "scored"),
    ]
    assert {row["path"] for row in found} == {str(tmp_path / "film.mp4")}
    assert found[2]["reason"] == "lasts 4.000 s; the segment 3 to 7 s is outside of the video."
    views = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert [(row["start"], row["end"]) for row in views] == [(0, 1.5)] * 2 + [(2, 4)] * 2 + [(None, None)] * 2
    # The logits are those of a video that holds the segment only.
    classifier = load_video_classifier(str(model), {"num_temporal_views": 2, "num_spatial_views": 1})
    for row, source in ((views[2], {"path": str(tmp_path / "film.mp4"), "start": 2, "end": 4}),):
        pixels = classifier.processor(source, return_tensors="pt").pixel_values_videos[0]
        torch.testing.assert_close(classifier(pixels)[0].cpu(), torch.tensor(row["logits"]), rtol=1e-4, atol=1e-5)


def test_batches_and_workers_change_nothing(videos, model, tmp_path):
    for name, options in {"one": ["batch_size=1"], "many": ["batch_size=13", "dataloader_num_workers=2"]}.items():
        assert run_eval(model, videos, tmp_path / name, "num_temporal_views=2", *options) == 0
    one, many = probabilities(tmp_path / "one"), probabilities(tmp_path / "many")
    assert list(one) == list(many)
    torch.testing.assert_close(one, many)


def test_two_processes_score_every_video_once(videos, model, tmp_path):
    assert run_eval(model, videos, tmp_path / "one", "num_spatial_views=1") == 0
    options = [
        f"model_name_or_path={model}",
        f"data={videos}",
        f"output_dir={tmp_path / 'two'}",
        "num_spatial_views=1",
    ]
    done = run_python(SCRIPT, *options, ranks=2)
    assert done.returncode == 0, done.stderr
    one, two = tmp_path / "one", tmp_path / "two"
    assert read_json(two / "throughput.json")["num_processes"] == 2
    assert list(probabilities(one)) == list(probabilities(two))  # seven, though two processes cannot share them evenly
    torch.testing.assert_close(probabilities(one), probabilities(two))
    assert read_json(one / "metrics.json") == read_json(two / "metrics.json")
    assert done.stdout.count("videos scored") == 1


def test_videos_that_cannot_be_scored_are_counted_and_fail(with_broken, model, tmp_path, capsys):
    options = ["num_temporal_views=1", "num_spatial_views=1", "split=train", "validation_fraction=0"]
    assert run_eval(model, with_broken, tmp_path / "out", *options) == 1
    assert "INCOMPLETE: 3 of 10 videos were not scored" in capsys.readouterr().err
    metrics = read_json(tmp_path / "out" / "metrics.json")
    counts = {"num_videos": 10, "num_scored": 7, "num_missing": 1, "num_skipped": 2, "is_complete": False}
    assert counts.items() <= metrics.items()
    left_out = {row["path"].rsplit("/")[-1]: row for row in read_table(tmp_path / "out" / "predictions.csv")[7:]}
    assert {name: row["status"] for name, row in left_out.items()} == {
        "gone.mp4": "missing",
        "text.mp4": "skipped",
        "cut.mp4": "skipped",
    }
    assert all(row["reason"] and not row["predicted"] for row in left_out.values())
    assert len(probabilities(tmp_path / "out")) == 7
    assert run_eval(model, with_broken, tmp_path / "allowed", *options, "--allow-incomplete") == 0
    assert read_json(tmp_path / "allowed" / "metrics.json") == metrics


def test_metrics_exclude_videos_that_were_not_scored(with_broken, videos, model, tmp_path):
    options = ["num_temporal_views=1", "num_spatial_views=1"]
    run_eval(model, with_broken, tmp_path / "broken", *options, "split=train", "validation_fraction=0")
    run_eval(model, videos, tmp_path / "whole", *options)
    broken, whole = (read_json(tmp_path / name / "metrics.json") for name in ("broken", "whole"))
    assert broken["accuracy"] == whole["accuracy"]


def test_nan_logits_are_not_scored():
    logits = np.zeros((1, 2), np.float32)
    good = VideoPrediction(0, "good", "", 0, logits)
    results = ScoredVideos.of(
        [good, good._replace(index=1, logits=None, reason="not finite")], ["x", "y"], "probs", False
    )
    assert results.counts() == {
        "num_videos": 2,
        "num_scored": 1,
        "num_missing": 0,
        "num_skipped": 1,
        "num_without_label": 0,
        "is_complete": False,
    }


def test_model_with_nan_logits_raises(videos, model, tmp_path, capsys):
    broken = load_model(str(model))
    with torch.no_grad():
        broken.classifier.bias.fill_(math.nan)
    folder = save_tubevit(tmp_path / "broken")
    broken.save_pretrained(folder)
    assert run_eval(folder, videos, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "1 tensors contain NaN or inf" in error and "classifier.bias" in error


@pytest.mark.parametrize("name", PEERS)
def test_transformers_models_get_the_pixels_of_their_own_processor(name, videos, tmp_path):
    model, processor = save_peer(tmp_path / "model", name)
    num_crops = 3 if processor.do_center_crop else 1
    options = ["num_temporal_views=2", f"num_spatial_views={num_crops}"]
    assert run_eval(tmp_path / "model", videos, tmp_path / "out", *options) == 0
    classifier = load_video_classifier(str(tmp_path / "model"), {})
    frames = tiny_clips(batch=1, frames=4, size=30, dtype=torch.uint8)[0, ..., :24]
    inputs = processor(frames, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits.reshape(1, -1)
    clips = classifier.processor(frames, return_tensors="pt").pixel_values_videos
    torch.testing.assert_close(classifier(clips), expected)
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["num_scored"] == 7 and metrics["num_frames"] == 4
    assert metrics["crop_size"] == ({"height": 16, "width": 16} if processor.do_center_crop else None)
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows == 7 * 2 * num_crops


def test_processor_without_crop_has_one_spatial_view(videos, tmp_path, capsys):
    save_peer(tmp_path / "model", "videoprism")
    assert run_eval(tmp_path / "model", videos, tmp_path / "out") == 2
    assert "num_spatial_views=3 needs do_center_crop=True" in one_line(capsys)


def test_processor_normalizes_if_its_statistics_differ_from_the_models(model, tmp_path):
    other = save_tubevit(tmp_path / "model", processor={"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 0.5, 0.25]})
    clips = tiny_clips(batch=1, frames=8, size=16, dtype=torch.uint8)
    normalized = (clips / 255 - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([1, 0.5, 0.25])[
        :, None, None
    ]
    with torch.no_grad():
        expected = load_model(str(other))(pixel_values_videos=normalized).logits
    torch.testing.assert_close(load_video_classifier(str(other), {})(clips), expected)
    assert (
        load_video_classifier(str(model), {}).processors.normalizer is None
    )  # there the model does, on the pixels that it reads


def test_labels_are_matched_by_name(videos, model, tmp_path):
    """The same weights with classes in another order have the same accuracy."""
    order = [2, 0, 3, 1]
    shuffled = load_model(str(model))
    with torch.no_grad():
        for parameter in (shuffled.classifier.weight, shuffled.classifier.bias):
            parameter.copy_(parameter[order].clone())
    names = [CLASSES[index] for index in order]
    folder = save_tubevit(tmp_path / "model", names)
    shuffled.config.id2label = dict(enumerate(names))
    shuffled.config.label2id = {name: index for index, name in enumerate(names)}
    shuffled.save_pretrained(folder)
    for name, checkpoint in (("a", model), ("b", folder)):
        assert run_eval(checkpoint, videos, tmp_path / name, "num_spatial_views=1") == 0
    predicted = [[row["predicted"] for row in read_table(tmp_path / name / "predictions.csv")] for name in "ab"]
    assert predicted[0] == predicted[1]
    assert (
        read_json(tmp_path / "a" / "metrics.json")["accuracy"]
        == read_json(tmp_path / "b" / "metrics.json")["accuracy"]
    )


def test_class_indices_use_class_names_file(videos, model, tmp_path):
    """The list has another order of classes than the checkpoint."""
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    paths = sorted(videos.rglob("*.mp4"))
    lines = [f"{path} {'abc'.index(path.parent.name)}" for path in paths]
    (tmp_path / "val.txt").write_text("\n".join(lines) + "\n")
    options = ["num_temporal_views=1", "num_spatial_views=1", f"class_names_file={tmp_path / 'names.txt'}"]
    assert run_eval(model, tmp_path / "val.txt", tmp_path / "out", *options, data_option="validation_data") == 0
    found = [row["label"] for row in read_table(tmp_path / "out" / "predictions.csv")]
    assert found == [path.parent.name for path in paths]


def test_several_labels_per_video(videos, tmp_path):
    folder = save_tubevit(tmp_path / "model", problem_type="multi_label_classification")
    paths = sorted(videos.rglob("*.mp4"))
    rows = [{"path": str(path), "label": "a;b" if index % 2 else "c"} for index, path in enumerate(paths)]
    table = add_table(tmp_path / "val.csv", rows)
    options = ["multi_label=true", "view_aggregation=max", "num_spatial_views=1", "num_temporal_views=2"]
    assert run_eval(folder, table, tmp_path / "out", *options, data_option="validation_data") == 0
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert "accuracy" not in metrics and metrics["view_aggregation"] == "max"
    precisions = {row["class"]: row["average_precision"] for row in read_table(tmp_path / "out" / "per_class.csv")}
    assert precisions["d"] == ""  # has no positives, and does not count
    assert metrics["mean_average_precision"] == pytest.approx(
        np.mean([float(precisions[name]) for name in "abc"]), abs=1e-6
    )
    assert read_table(tmp_path / "out" / "predictions.csv")[1]["label"] == "a;b"
    assert not (tmp_path / "out" / "confusion_matrix.png").exists()


def test_videos_without_labels_have_predictions_and_no_metrics(videos, model, tmp_path, capsys):
    rows = [{"path": str(path), "label": ""} for path in sorted(videos.rglob("*.mp4"))]
    table = add_table(tmp_path / "test.csv", rows)
    assert run_eval(model, table, tmp_path / "out", "num_temporal_views=1", data_option="test_data") == 0
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["num_scored"] == metrics["num_without_label"] == 7 and "accuracy" not in metrics
    assert "None of the videos has a label" in capsys.readouterr().out
    assert not (tmp_path / "out" / "confusion_matrix.png").exists()


def test_streamed_split_is_scored(videos, model, tmp_path):
    import datasets

    paths = sorted(map(str, videos.rglob("*.mp4")))
    features = datasets.Features(
        {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    )
    rows = {
        "video": [{"path": path, "bytes": None} for path in paths],
        "label": [Path(path).parent.name for path in paths],
    }
    saved = datasets.DatasetDict({"validation": datasets.Dataset.from_dict(rows, features=features)})
    saved.save_to_disk(str(tmp_path / "data"))
    options = ["num_temporal_views=2", "num_spatial_views=1"]
    assert run_eval(model, tmp_path / "data", tmp_path / "stream", *options, "streaming=true") == 0
    assert run_eval(model, videos, tmp_path / "files", *options) == 0
    stream, files = (read_json(tmp_path / name / "metrics.json") for name in ("stream", "files"))
    assert {**stream, "data": None} == {**files, "data": None}


def test_dry_run_scores_one_batch_and_writes_nothing(videos, model, tmp_path, capsys):
    assert run_eval(model, videos, tmp_path / "out", "--dry-run") == 0
    assert not (tmp_path / "out").exists()
    assert "1 of 1 videos scored" in capsys.readouterr().out


def test_views_come_from_the_config_file(videos, model, tmp_path):
    config = {
        "model": {"model_name_or_path": str(model)},
        "data": {"data": str(videos)},
        "views": {"num_temporal_views": 3, "num_spatial_views": 1, "fps": 5, "pad_mode": "last"},
        "run": {"output_dir": str(tmp_path / "out"), "use_cpu": True},
    }
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(config))
    assert main(["eval", "--config", str(tmp_path / "eval.yaml"), "num_temporal_views=2"]) == 0
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert (metrics["sampling"], metrics["fps"], metrics["pad_mode"]) == ("fixed_rate", 5, "last")
    assert metrics["num_temporal_views"] == 2
    classifier = load_video_classifier(str(model), {"fps": 5, "num_temporal_views": 2, "pad_mode": "last"})
    video = next((videos / "val" / "a").iterdir())
    times = type("Metadata", (dict,), {"fps": 10.0, "total_num_frames": 10, "duration": 1.0})()
    # 8 frames at 5 fps last 1.6 s, longer than the second of video: both clips start at 0 and hold the last frame.
    assert classifier.processor.sample_frames(times).tolist() == [0, 2, 4, 6, 8, 9, 9, 9] * 2
    assert classifier.processor(str(video), return_tensors="pt").pixel_values_videos.shape[1:3] == (2, 8)


def one_line(capsys):
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["num_temporal_view=2"], "no option 'num_temporal_view'; the nearest is 'num_temporal_views'"),
        (["num_temporal_views=0"], "num_temporal_views must be"),
        (["view_aggregation=mean"], "view_aggregation must be one of probs, logits, max, got 'mean'"),
        (["batch_size=0"], "batch_size must be at least 1, got 0"),
        (["split=test"], "There is no split 'test'; the data have: validation"),
        (["sampling=fixed_rate"], "needs fps"),
        (["num_frames=1"], "does not fit"),
        (["model_name_or_path=nowhere/model/x"], "There is no model folder nowhere/model/x"),
        (["data=./nowhere"], "There is no file or folder ./nowhere"),
    ],
)
def test_wrong_options_print_one_line(options, message, videos, model, tmp_path, capsys):
    assert run_eval(model, videos, tmp_path / "out", *options) == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_nothing_is_overwritten(videos, model, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    assert run_eval(model, videos, tmp_path / "out") == 2
    assert "is not empty" in one_line(capsys) and (tmp_path / "out" / "metrics.json").read_text() == "{}"


def test_class_that_the_checkpoint_does_not_have_raises(model, tmp_path, capsys):
    class_folders(tmp_path / "data", {"val": {"a": 1, "zebra": 1}})
    assert run_eval(model, tmp_path / "data", tmp_path / "out") == 2
    assert "'zebra'" in one_line(capsys)


def test_checkpoint_without_class_names_needs_the_same_number_of_classes(videos, tmp_path, capsys):
    save_peer(tmp_path / "model", "videomae", names=None)
    assert run_eval(tmp_path / "model", videos, tmp_path / "out") == 2
    assert "The data have 3 classes and the checkpoint 4, without names" in one_line(capsys)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    options = ["num_temporal_views=1", f"class_names_file={tmp_path / 'names.txt'}"]
    assert run_eval(tmp_path / "model", videos, tmp_path / "out2", *options) == 0
    assert "its classes are assumed to have the order of the data, c, a, b, ..." in capsys.readouterr().out


def test_checkpoint_and_data_must_agree_on_the_kind_of_labels(videos, tmp_path, capsys):
    folder = save_tubevit(tmp_path / "model", problem_type="multi_label_classification")
    assert run_eval(folder, videos, tmp_path / "out") == 2
    assert "one label per video, the checkpoint was trained on several labels per video" in one_line(capsys)


def test_random_weights_are_never_scored(videos, tmp_path, capsys):
    from transformers import VideoMAEModel

    model, processor = save_peer(tmp_path / "model", "videomae")
    backbone = VideoMAEModel(model.config)
    backbone.save_pretrained(tmp_path / "backbone")
    processor.save_pretrained(tmp_path / "backbone")
    assert run_eval(tmp_path / "backbone", videos, tmp_path / "out") == 2
    assert "lacks" in (line := one_line(capsys)) and "classifier" in line


def test_images_and_other_models_raise(videos, model, tmp_path, capsys):
    from transformers import ViTConfig, ViTForImageClassification

    ViTForImageClassification(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path / "vit"
    )
    assert run_eval(tmp_path / "vit", videos, tmp_path / "out") == 2
    assert "A ViT model does not classify videos" in one_line(capsys)
    from PIL import Image

    (tmp_path / "images" / "val" / "a").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "val" / "a" / "0.png")
    assert run_eval(model, tmp_path / "images", tmp_path / "out") == 2
    assert "The data are images" in one_line(capsys)


def test_training_split_is_not_the_default(model, tmp_path, capsys):
    class_folders(tmp_path / "data", {"": {"a": 1, "b": 1}})
    assert run_eval(model, tmp_path / "data", tmp_path / "out", "validation_fraction=0") == 2
    assert "The data have no validation or test split; set split to one of: train" in one_line(capsys)


def test_data_set_of_one_clip_is_scored(model, tmp_path):
    add_clip(tmp_path / "data" / "val" / "a" / "0.mp4")
    assert run_eval(model, tmp_path / "data", tmp_path / "out", "num_temporal_views=1", "num_spatial_views=1") == 0
    assert read_json(tmp_path / "out" / "metrics.json")["num_videos"] == 1
