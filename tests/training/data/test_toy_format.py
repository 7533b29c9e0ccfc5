"""A new annotation format needs one file, which an import or the folder of formats registers, and works in all commands."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
import toy_format  # the one line that registers it
from dataset_files import add_clip, error_of, load, table
from repository import ROOT
from tiny_runs import CLASSES, ONE_VIEW, arguments, make_videos
from warm_processes import run_python

from tubevit.training.cli import main
from tubevit.training.data.formats.registry import AnnotationFormat, get_format, list_formats, register_format
from tubevit.training.data.video_datasets import DataConfig


def write_annotations(root: Path, num_train: int, num_validation: int) -> Path:
    """Annotations of `make_videos(root)` in the toy format: the split "train" in train/, "validation" in val/."""
    lines = ["# toy"]
    for split, folder, number in (("train", "train", num_train), ("validation", "val", num_validation)):
        for name in CLASSES:
            lines.append(f"{split} {name}: " + " ".join(f"{folder}/{name}/{index}.mp4" for index in range(number)))
    path = root.parent / "metadata.toy"
    path.write_text("\n".join(lines))
    return path


def last_line(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_toy_format_in_train_eval_check_and_prepare(tmp_path, capsys):
    videos = make_videos(tmp_path / "videos", num_train=4, num_validation=2)
    annotations = write_annotations(videos, 4, 2)
    copies, run = tmp_path / "copies", tmp_path / "run"

    assert main(["data", "prepare", str(videos), str(copies), "--workers", "1", "--no-timing"]) == 0
    assert main(["data", "check", str(annotations), f"--video-root={copies}", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "train: 12 videos, 0 cannot be read" in printed and "validation: 6 videos, 0 cannot be read" in printed
    assert "4 classes" in printed

    options = {**ONE_VIEW, "num_train_epochs": 3, "learning_rate": 1e-2, "rand_augment_layers": 0}
    assert main(["train", *arguments(annotations, run, video_root=copies, **options)]) == 0
    assert json.loads((run / "config.json").read_text())["id2label"] == dict(
        zip("0123", toy_format.CLASSES, strict=True)
    )
    assert json.loads((run / "dataset.json").read_text())["train"]["used"] == 12
    assert "Format: toy." in (run / "README.md").read_text()

    out = tmp_path / "scores"
    arguments_of_eval = [
        f"model_name_or_path={run}",
        f"data={annotations}",
        f"video_root={copies}",
        f"output_dir={out}",
    ]
    assert main(["eval", *arguments_of_eval, "use_cpu=true", "num_temporal_views=1", "num_spatial_views=1"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_scored"] == 6 and metrics["accuracy"] >= 0.5  # chance: 1/4


def test_the_format_is_detected_and_checked_by_its_entry(tmp_path, capsys):
    add_clip(tmp_path / "a.mp4")
    (tmp_path / "metadata.toy").write_text("# toy\ntrain red: a.mp4\nvalidation blue: b.mp4\n")
    data = load(data=tmp_path)  # found in the folder by the suffixes of the format
    assert (data.data_format, data.class_names) == ("toy", list(toy_format.CLASSES))
    assert table(data, "train") == [("a.mp4", "red", "a.mp4")]
    assert table(data, "validation") == [("b.mp4", "blue", None)]
    assert "hold 4 classes, expected 3" in error_of(data=tmp_path, num_classes=3)
    assert "multi_label=true needs one of" in error_of(data=tmp_path, multi_label=True)
    assert load(data=tmp_path, label_column="x").messages == [
        "label_column has no effect: the format toy does not use it.",
        "3 of 4 classes have no training video (blue, green, yellow).",
    ]
    (tmp_path / "metadata.toy").write_text("# toy\nred: a.mp4\n")
    assert "metadata.toy, line 2: 'red: a.mp4' is not" in error_of(data=tmp_path)
    assert main(["data", "check", str(tmp_path)]) == 2 and "line 2: 'red: a.mp4' is not" in last_line(capsys)


def test_help_and_errors_list_the_format(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "toy: lines of a split, a class and paths" in printed
    assert "toy" in DataConfig.__dataclass_fields__["data_format"].metadata["choices"]
    assert main(["data", "check", "data=here", "data_format=toi"]) == 2
    assert "data_format must be one of 19 choices, the nearest is toy" in last_line(capsys)


def test_a_file_in_the_folder_of_formats_is_found(tmp_path):
    """In a new process: the file of the format is in a folder of the package `formats`, and nothing imports it by name."""
    (tmp_path / "toy_format.py").write_text(Path(toy_format.__file__).read_text())
    (tmp_path / "videos.csv").write_text("# toy\ntrain red: a.mp4\n")
    program = (
        "import sys; from tubevit.training.data import formats; formats.__path__.append(sys.argv[1]);"
        "from tubevit.training.data.video_datasets import DataConfig, load_video_dataset;"
        "print(load_video_dataset(DataConfig(data=sys.argv[1] + '/videos.csv')).data_format)"
    )
    result = run_python("-c", program, tmp_path)
    assert result.stdout.strip() == "toy", result.stderr


def test_no_other_module_names_a_format():
    names = {each.name for each in list_formats()} - {"datasets"}  # that word is also a library and an option
    for package in ("data", "models", "evaluation", "trainer"):
        paths = [path for path in (ROOT / "training" / package).rglob("*.py") if path.parent.name != "formats"]
        paths = [path for path in paths if not path.stem.startswith("published")]  # those name data sets
        assert paths
        for path in paths:
            constants = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            found = [(node.lineno, node.value) for node in constants if node.value in names]
            assert not found, f"{path}: {found}"


def test_formats_are_sniffed_in_order_of_priority():
    names = [each.name for each in list_formats()]
    assert names[0] == "toy" and names[-1] == "datasets"
    assert names.index("kinetics") < names.index("list") < names.index("csv")
    assert get_format("toy") is toy_format.TOY_FORMAT


def test_invalid_entries_raise():
    register_format(toy_format.TOY_FORMAT)  # again: a module may be imported under two names
    with pytest.raises(ValueError, match="There is a format 'toy' already"):
        register_format(replace(toy_format.TOY_FORMAT, priority=3))
    for name in ("auto", "two words"):
        with pytest.raises(ValueError, match="must be an identifier other than 'auto'"):
            replace(toy_format.TOY_FORMAT, name=name)
    with pytest.raises(ValueError, match="needs either read, or open_splits"):
        AnnotationFormat(name="x", description="", sniff=toy_format.sniff_toy)
