"""README and the pages in docs/: links, commands and make targets exist, and the Python code runs."""

import re

import pytest
from repository import ROOT
from tiny_models import TINY_TUBES, tiny_config
from transformers import ViTConfig, ViTForImageClassification, pipeline
from video_files import moving_frames, write_video

from tubevit import TubeViTForVideoClassification, TubeViTImageProcessor, TubeViTModel, TubeViTVideoProcessor, presets
from tubevit.training.cli import COMMANDS, PREFIXES


GENERATED = {"reference/command-line.md", "reference/recipes.md"}  # by docs/conf.py, not in the repository
PAGES = {
    "README.md": ROOT / "README.md",
    **{
        path.relative_to(ROOT).as_posix(): path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.relative_to(ROOT / "docs").as_posix() not in GENERATED
    },
}
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def code_of(name: str) -> str:
    """Blocks between fences, then what is between single backticks elsewhere."""
    text = PAGES[name].read_text(encoding="utf-8")
    return "\n".join(FENCED.findall(text) + re.findall(r"`([^`\n]+)`", FENCED.sub("", text)))


@pytest.mark.parametrize("name", PAGES)
def test_linked_files_and_pictures_exist(name):
    """Sphinx checks the links of docs/ again, and their headings."""
    text = PAGES[name].read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    generated = {(ROOT / "docs" / page).resolve() for page in GENERATED}
    found = {target: (PAGES[name].parent / target.split("#")[0]).resolve() for target in targets}
    assert [target for target, path in found.items() if not (path.exists() or path in generated)] == []
    assert targets or name != "README.md"


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_make_targets_exist(name):
    """Commands have their current names, also those of two words."""
    code = code_of(name)
    named = {
        tuple(match.split())
        for match in re.findall(r"(?<!import )(?<!from )\btubevit ([a-z][a-z-]*(?: [a-z]+)?)", code)
    }
    commands = {" ".join(words[:2] if words[0] in PREFIXES else words[:1]) for words in named}
    assert commands <= {*COMMANDS, *PREFIXES}
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", code))
    assert targets <= set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    if name == "README.md":
        assert {"predict", "export", "bench", "doctor", "data check"} <= commands and {"demo", "test"} <= targets


# Names in the pages to those of a test: models that are downloaded there, and sizes that take seconds.
SMALLER = {
    "google/vit-base-patch16-224": "vit",
    "path/to/tiny-tubevit": "tubevit",
    'preset_config("small"': 'preset_config("tiny"',
    "torch.rand(2, 32, 3, 224, 224)": "torch.rand(2, 8, 3, 32, 32)",
    "num_train_epochs=10": "max_steps=1, use_cpu=True, report_to='none', disable_tqdm=True",
}


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The folder of a reader who has run `make demo`, with a tiny model, clips of two classes and small image models."""
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
    return tmp_path


@pytest.mark.parametrize("name", [name for name, path in PAGES.items() if PYTHON.search(path.read_text("utf-8"))])
def test_python_code_runs(name, reader, capsys):
    """All blocks of a page in their order, in one namespace. Models are tiny; no block is left out."""
    namespace = {}
    for code in PYTHON.findall(PAGES[name].read_text("utf-8")):
        for original, smaller in SMALLER.items():
            code = code.replace(original, smaller)
        exec(compile(code, name, "exec"), namespace)
    shown = capsys.readouterr().out
    if name == "README.md":
        assert shown.splitlines()[0] in "abcde" and "tensor([[1" in shown
    if name == "docs/guides/own-training-code.md":
        assert (reader / "runs/own/model/model.safetensors").is_file()
        found = pipeline("video-classification", "runs/own/model")("demo/videos/val/cross moving up/000.mp4", top_k=2)
        assert {each["label"] for each in found} == {"circle moving left", "cross moving up"}
