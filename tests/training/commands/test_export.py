"""`tubevit export`: a checkpoint that loads without the package."""

import json
import textwrap
from pathlib import Path

import pytest
import torch
from saved_models import save_model
from video_files import moving_frames, write_video
from warm_processes import run_python

from tubevit import TubeViTForVideoClassification
from tubevit.processing import TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor
from tubevit.training.cli import main


PIXELS = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("model"))
    TubeViTProcessor(TubeViTImageProcessor(**PIXELS), TubeViTVideoProcessor(num_frames=8, **PIXELS)).save_pretrained(
        folder
    )
    return folder


def test_export_loads_where_the_package_cannot_be_imported(capsys, model, tmp_path):
    clip = tmp_path / "a.mp4"
    write_video(clip, moving_frames(12, 32, 40))
    assert main(["export", str(model), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out.partition("\n")[2].replace("clip.mp4", str(clip))
    code = f"""
import sys, torch
sys.modules["tubevit"] = None
from transformers import AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor, pipeline
{textwrap.dedent(printed)}
print(outputs.logits[0].tolist())
assert type(processor).__name__ == "TubeViTProcessor"
classify = pipeline("video-classification", model={str(tmp_path / "out")!r}, trust_remote_code=True)
classify.save_pretrained({str(tmp_path / "saved")!r})  # without the video processor
again = pipeline("video-classification", model={str(tmp_path / "saved")!r}, trust_remote_code=True)
assert again({str(clip)!r}) == classify({str(clip)!r})
processor = AutoVideoProcessor.from_pretrained({str(tmp_path / "saved")!r}, trust_remote_code=True)
with torch.no_grad():
    print(model(**processor({str(clip)!r}, return_tensors="pt")).logits[0].tolist())
"""
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    pixels = TubeViTVideoProcessor(num_frames=8, **PIXELS)(str(clip), return_tensors="pt")
    with torch.no_grad():
        expected = TubeViTForVideoClassification.from_pretrained(model)(**pixels).logits[0]
    for line in result.stdout.splitlines()[-2:]:
        assert json.loads(line) == pytest.approx(expected.tolist(), abs=1e-5)


def test_export_into_a_folder_with_files_fails(capsys, model, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert main(["export", str(model), str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
