"""`tubevit embed`: the embedding of a file is the model's of the processor's clip; runs are resumed; nothing is overwritten."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from video_classifiers import save_tubevit
from video_files import moving_frames, write_video
from warm_processes import run_python

from tubevit import TubeViTForVideoClassification, TubeViTModel
from tubevit.processing import TubeViTVideoProcessor
from tubevit.training.cli import main
from tubevit.training.evaluation import embeddings as files
from tubevit.training.evaluation.embeddings import read_embeddings
from tubevit.training.models.encoders import VideoEncoder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Seven videos of two splits and three classes; `persons.csv` names their groups."""
    root = tmp_path_factory.mktemp("videos")
    rows = ["path,label,split,person"]
    for index, name in enumerate("abcabca"):
        split = "train" if index < 4 else "val"
        path = root / split / name / f"{index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(10 + index, 32, 40, seed=index), fps=10)
        rows.append(f"{path.relative_to(root)},{name},{split},p{index // 2}")
    (root / "persons.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tubevit(tmp_path_factory.mktemp("tubevit"))


@pytest.fixture(scope="module")
def expected(videos, model):
    """Path to the `pooler_output` of the model for the clip of the processor."""
    own, processor = TubeViTModel.from_pretrained(model).eval(), TubeViTVideoProcessor.from_pretrained(model)
    with torch.no_grad():
        return {
            str(path): own(**processor(str(path), return_tensors="pt")).pooler_output[0].numpy()
            for path in videos.rglob("*.mp4")
        }


def embed(data, model, output, *options) -> int:
    return main(["embed", str(data), f"--model={model}", f"--output={output}", "--use_cpu", *options])


def by_path(path) -> dict[str, np.ndarray]:
    found = read_embeddings(path)
    return dict(zip(found.columns["path"], found.vectors, strict=True))


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for path, vector in found.items():
        np.testing.assert_allclose(vector, expected[path], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".parquet", ["batch_size=1"]), (".npy", ["batch_size=3", "dataloader_num_workers=2"])],
)
def test_embedding_of_a_file_is_that_of_the_processors_clip(suffix, options, videos, model, expected, tmp_path):
    output = tmp_path / f"a{suffix}"
    assert embed(videos / "persons.csv", model, output, "group_column=person", *options) == 0
    assert_equal(by_path(output), expected)
    found = read_embeddings(output)
    assert found.vectors.shape == (7, 24) and found.vectors.dtype == np.float32
    assert found.columns["split"] == ["train"] * 4 + ["validation"] * 3
    assert found.columns["label"] == list("abcabca")
    assert found.columns["group"] == ["p0", "p0", "p1", "p1", "p2", "p2", "p3"]
    assert (found.settings["level"], found.settings["shape"], found.settings["num_videos"]) == ("pooled", [24], 7)
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == [output.name]
        if suffix == ".parquet"
        else ["a.json", "a.npy"]
    )
    if suffix == ".parquet":
        assert pq.read_schema(output).names == ["video_id", "split", "label", "group", "path", "embedding"]


def test_views_are_averaged_and_tubes_have_a_vector_each(videos, model, tmp_path):
    assert (
        embed(videos, model, tmp_path / "a.parquet", "split=train", "num_temporal_views=2", "num_spatial_views=3") == 0
    )
    assert embed(videos, model, tmp_path / "t.npy", "split=train", "--level=tube") == 0
    path, vector = next(iter(by_path(tmp_path / "a.parquet").items()))
    processor = TubeViTVideoProcessor.from_pretrained(model, num_temporal_views=2, num_spatial_views=3)
    own = TubeViTModel.from_pretrained(model).eval()
    with torch.no_grad():
        views = own(pixel_values_videos=processor(path, return_tensors="pt").pixel_values_videos[0]).pooler_output
    assert len(views) == 6
    np.testing.assert_allclose(vector, views.mean(0), rtol=1e-4, atol=1e-5)
    assert np.load(tmp_path / "t.npy").shape == (4, 3, 24)


def test_frames_of_several_sizes_are_not_mixed(tmp_path, capsys):
    """A processor without a crop keeps the aspect ratio: each size is a batch of its own, and has its own number of tokens."""
    model = save_tubevit(tmp_path / "m", processor={"do_center_crop": False, "size": {"shortest_edge": 16}})
    (tmp_path / "flat").mkdir()
    for index, size in enumerate([(32, 64), (32, 32), (32, 64)]):
        write_video(tmp_path / "flat" / f"{index}.mp4", moving_frames(9, *size, seed=index), fps=10)
    for batch_size in (1, 16):
        assert (
            embed(tmp_path / "flat", model, tmp_path / f"{batch_size}.npy", "--unlabeled", f"batch_size={batch_size}")
            == 0
        )
    np.testing.assert_allclose(np.load(tmp_path / "1.npy"), np.load(tmp_path / "16.npy"), rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    assert embed(tmp_path / "flat", model, tmp_path / "t.npy", "--unlabeled", "--level=token") == 2
    error = capsys.readouterr().err
    assert (
        "frames of several sizes have several numbers of tokens; set level=pooled." in error and error.count("\n") == 1
    )


@pytest.fixture
def stops_after(monkeypatch):
    """A function that makes the encoder raise `KeyboardInterrupt` after some batches, and counts all clips."""
    counts, own = {"clips": 0, "left": None}, VideoEncoder.__call__

    def call(self, clips):
        if counts["left"] == 0:
            raise KeyboardInterrupt
        counts["left"] = counts["left"] and counts["left"] - 1
        counts["clips"] += len(clips)
        return own(self, clips)

    monkeypatch.setattr(VideoEncoder, "__call__", call)
    return counts


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
def test_resumed_run_equals_an_uninterrupted_one(
    suffix, videos, model, expected, tmp_path, stops_after, monkeypatch, capsys
):
    monkeypatch.setattr(files, "VIDEOS_PER_PART", 2)
    output, stops_after["left"] = tmp_path / f"a{suffix}", 3
    assert embed(videos, model, output, "batch_size=1") == 130
    assert not output.exists() and len(list(files.parts_folder(output).glob("*.arrow"))) == 2
    assert embed(videos, model, output) == 2
    assert "holds the embeddings of a run that was stopped: continue it with --resume" in capsys.readouterr().err
    assert main(["probe", str(output)]) == 2 and "--resume: it goes on" in capsys.readouterr().err
    stops_after["left"] = None
    assert embed(videos, model, output, "--level=tube", "--resume") == 2
    assert "was written with level='pooled', and this run has level='tube'" in capsys.readouterr().err
    assert embed(videos, model, output, "--resume") == 0
    assert "7 videos with embeddings of shape (24,), 4 of them new" in capsys.readouterr().out
    assert stops_after["clips"] == 7 and not files.parts_folder(output).exists()
    assert_equal(by_path(output), expected)
    assert embed(videos, model, output, "--resume") == 0 and stops_after["clips"] == 7
    assert embed(videos, model, output, "--resume", "split=train") == 2
    assert "hold 3 videos that this run does not have" in capsys.readouterr().err


def test_existing_file_is_refused_and_a_resumed_one_gets_what_it_lacks(videos, model, expected, tmp_path, capsys):
    output = tmp_path / "a.npy"
    assert embed(videos, model, output, "split=train") == 0
    before = output.read_bytes()
    assert embed(videos, model, output) == 2
    error = capsys.readouterr().err
    assert f"{output} exists: name another output" in error and error.count("\n") == 1
    assert output.read_bytes() == before
    assert embed(videos, model, output, "--resume") == 0
    assert "7 videos with embeddings of shape (24,), 3 of them new" in capsys.readouterr().out
    assert_equal(by_path(output), expected)


def test_two_processes_embed_every_video_once(videos, model, expected, tmp_path):
    """In real processes: each rank writes parts of its own, and the first merges them."""
    output = tmp_path / "a.parquet"
    argv = ["embed", videos, f"--model={model}", f"--output={output}", "--use_cpu"]
    result = run_python("-m", "tubevit.training.cli", *argv, ranks=2)
    assert result.returncode == 0, result.stderr
    assert_equal(by_path(output), expected)
    assert result.stdout.count("7 videos with embeddings") == 1


def test_folder_without_labels_and_files_that_cannot_be_read(videos, model, expected, tmp_path, capsys):
    for path in videos.rglob("*.mp4"):
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "flat" / "text.mp4").write_bytes(b"no video " * 100)
    output = tmp_path / "a.npy"
    assert embed(tmp_path / "flat", model, output, "--unlabeled") == 1
    captured = capsys.readouterr()
    assert (
        "INCOMPLETE: 1 of 8 videos were not embedded:" in captured.err and "text.mp4: is not a video" in captured.err
    )
    assert_equal(
        {Path(path).name: each for path, each in by_path(output).items()},
        {Path(path).name: each for path, each in expected.items()},
    )
    rows = json.loads(output.with_suffix(".json").read_text())["rows"]
    assert [row["video_id"] for row in rows] == [f"{index}.mp4" for index in range(7)]
    assert {(row["label"], row["split"]) for row in rows} == {(None, "all")}
    assert embed(tmp_path / "flat", model, output, "--unlabeled", "--resume", "allow_incomplete=true") == 0
    assert main(["probe", str(output)]) == 2 and "has 0 classes in the column 'label'" in capsys.readouterr().err


def test_nothing_is_left_when_no_video_can_be_embedded(model, tmp_path, capsys):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "text.mp4").write_bytes(b"no video " * 100)
    assert embed(tmp_path / "flat", model, tmp_path / "a.parquet", "--unlabeled") == 2
    assert "None of 1 videos could be embedded; the first: is not a video" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["flat"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output=a.csv"], "output=a.csv must end with .parquet or .npy."),
        (["--output=nowhere/a.npy"], "there is no folder nowhere"),
        ([], "Give output, the file to write"),
        (["--output=a.npy", "split=test"], "There is no split 'test'; the data have: train, validation."),
        (["--output=a.npy", "--level=frame"], "level=frame needs an image model"),
        (["--output=a.npy", "--level=tubes"], "level must be one of pooled, tube, frame, token"),
        (["--output=a.npy", "streaming=true"], "leave out streaming=true"),
        (["--output=a.npy", "--unlabeled", "label_column=x"], "label_column has no effect with unlabeled=true"),
    ],
)
def test_wrong_options_are_one_line(options, message, videos, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", str(videos), f"--model={model}", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", ["a.npy", "a.json"])
def test_a_file_of_another_program_is_not_overwritten_by_a_resumed_run(existing, videos, model, tmp_path, capsys):
    (tmp_path / existing).write_bytes(b"mine")
    assert embed(videos, model, tmp_path / "a.npy", "--resume") == 2
    error = capsys.readouterr().err
    other = {"a.npy": "a.json", "a.json": "a.npy"}[existing]
    assert f"{existing} exists, and there is no {other} beside it" in error and error.count("\n") == 1
    assert (tmp_path / existing).read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1


def test_other_weights_in_the_same_folder_are_not_mixed(videos, tmp_path, capsys):
    model, output = save_tubevit(tmp_path / "m"), tmp_path / "a.parquet"
    assert embed(videos, model, output, "split=train") == 0
    save_tubevit(tmp_path / "m")  # the same weights
    assert embed(videos, model, output, "split=train", "--resume") == 0
    trained = TubeViTForVideoClassification.from_pretrained(model)
    with torch.no_grad():
        trained.get_input_embeddings().projections[0].bias += 1
    trained.save_pretrained(model)
    capsys.readouterr()
    assert embed(videos, model, output, "--resume") == 2
    error = capsys.readouterr().err
    assert "was written with weights_sha256='" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["rank0-000000.arrow", "settings.json", None])
def test_damaged_files_of_a_stopped_run_are_one_line(name, videos, model, tmp_path, stops_after, capsys):
    """Parts, their settings, or the file itself."""
    output, stops_after["left"] = tmp_path / "a.parquet", 1
    assert embed(videos, model, output, "batch_size=1") == 130
    damaged = output if name is None else files.parts_folder(output) / name
    damaged.write_bytes(b"damaged")
    capsys.readouterr()
    assert embed(videos, model, output, "--resume") == 2
    error = capsys.readouterr().err
    assert f"{damaged} cannot be read: it is damaged, or not of this format" in error and error.count("\n") == 1
