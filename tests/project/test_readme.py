"""Links, pictures, commands and make targets of the README exist, and its Python code runs."""

import re

import torch
from repository import ROOT
from tiny_models import TINY_TUBES, tiny_config
from transformers import ViTConfig, ViTForImageClassification, pipeline
from video_files import moving_frames, write_video

from tubevit import TubeViTForVideoClassification, TubeViTImageProcessor, TubeViTModel, TubeViTVideoProcessor, presets
from tubevit.training.cli import COMMANDS, PREFIXES


README = (ROOT / "README.md").read_text()
# Blocks between fences, then what is between single backticks elsewhere.
FENCED = re.findall(r"^```.*?^```", README, re.DOTALL | re.MULTILINE)
CODE = "\n".join(
    FENCED + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))
)


def test_linked_files_and_pictures_exist():
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target.split("#")[0]).exists()] == []


def test_commands_exist():
    """Commands have their current names, also those of two words."""
    named = {
        tuple(match.split())
        for match in re.findall(r"(?<!import )(?<!from )\btubevit ([a-z][a-z-]*(?: [a-z]+)?)", CODE)
    }
    commands = {" ".join(words[:2] if words[0] in PREFIXES else words[:1]) for words in named}
    assert {"predict", "export", "bench", "doctor", "data check"} <= commands
    assert commands <= {*COMMANDS, *PREFIXES}


def test_make_targets_exist():
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", CODE))
    assert {"demo", "test"} <= named
    assert named <= set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
# Names in the README to those of a test: models that are downloaded there, and sizes that take seconds.
SMALLER = {
    "google/vit-base-patch16-224": "vit",
    "path/to/tiny-tubevit": "tubevit",
    'preset_config("small"': 'preset_config("tiny"',
    "num_train_epochs=10": "max_steps=1, use_cpu=True, report_to='none', disable_tqdm=True",
}


def test_python_code_runs(tmp_path, monkeypatch, capsys):
    """All blocks in their order, in one namespace. Models are tiny; no block is left out."""
    assert len(PYTHON) >= 9
    monkeypatch.chdir(tmp_path)
    for name in ("circle moving left", "cross moving up"):
        for folder in ("demo/videos/val", "path/to/videos/train", "path/to/videos/val"):
            (tmp_path / folder / name).mkdir(parents=True)
            write_video(tmp_path / folder / name / "000.mp4", moving_frames(40, 32, 40, len(name)))
    config = tiny_config(id2label=dict(enumerate("abcde")))
    for folder in ("demo/model", "demo/export"):
        TubeViTForVideoClassification(config).save_pretrained(folder)
        TubeViTVideoProcessor(num_frames=8, size={"shortest_edge": 16}, crop_size=16).save_pretrained(folder)
    TubeViTModel(tiny_config()).save_pretrained("tubevit")
    sizes = {"hidden_size": 24, "num_hidden_layers": 9, "num_attention_heads": 2, "intermediate_size": 8}
    ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=16)).save_pretrained("vit")
    TubeViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained("vit")
    monkeypatch.setitem(presets.PRESETS, "tiny", {**sizes, "num_hidden_layers": 1, "tubes": TINY_TUBES})
    namespace = {
        "clips": torch.zeros(1, 32, 3, 224, 224, dtype=torch.uint8),
        "labels": torch.tensor([1]),
        "images": torch.zeros(1, 3, 224, 224, dtype=torch.uint8),
        "image_labels": torch.tensor([2]),
        "pipeline": pipeline,
    }
    for code in PYTHON:
        for name, smaller in SMALLER.items():
            code = code.replace(name, smaller)
        exec(compile(code, "README.md", "exec"), namespace)
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] in "abcde" and "tensor([[1" in shown
    assert (tmp_path / "runs/own/model/model.safetensors").is_file()
    assert pipeline("video-classification", "runs/own/model")("demo/videos/val/cross moving up/000.mp4", top_k=2)
