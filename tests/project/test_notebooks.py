"""The notebooks run from top to bottom, with fewer training steps, and show the kinds of outputs that they were committed with."""

import base64
import re
import sys

import nbformat
import pytest
import torch
from jupyter_client.provisioning import local_provisioner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from repository import ROOT
from transformers import Dinov2Config, Dinov2Model, ViTImageProcessor
from video_files import moving_frames, write_video
from warm_processes import Running

from tubevit import UniFormerV2Config, UniFormerV2ForVideoClassification


FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
# The committed outputs are those of the notebook as it is; the tests train for fewer steps.
FEWER_STEPS = {
    "01_quickstart": {"STEPS, BATCH = 250, 32": "STEPS, BATCH = 50, 32"},
    "02_from_image_vit": {
        "shapes, steps=200)": "shapes, steps=50)",
        "directions, steps=150)": "directions, steps=50)",
    },
    "04_fine_tuning": {
        '"train", 1200)': '"train", 100)',
        "plain, 250, 3e-3)": "plain, 20, 3e-3)",
        '"train", 600)': '"train", 100)',
        "small, 360, 2e-3,": "small, 40, 2e-3,",
    },
    "06_transfer": {'"num_train_epochs=12"': '"num_train_epochs=1"'},
}


def kinds_of_outputs(cell) -> list[tuple]:
    """The kinds of outputs of a cell, without values; text may be split into any number of outputs."""
    kinds = []
    for output in cell.outputs:
        kind = (output.output_type, output.get("name") or ("image" if "image/png" in output.data else "text"))
        kinds += [kind] if kinds[-1:] != [kind] else []
    return kinds


def start_kernel(command: list[str], env: dict[str, str], cwd: str, **options) -> Running:
    """As Jupyter starts kernels, but forked from a process that has imported torch and Transformers. The test ends the kernel."""
    assert command[0] == sys.executable, command
    return Running(*command[1:], environment=env, cwd=cwd)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_six():
    assert NAMES == [
        "01_quickstart",
        "02_from_image_vit",
        "03_tubes_by_hand",
        "04_fine_tuning",
        "05_published_weights",
        "06_transfer",
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's profile
    monkeypatch.setattr(local_provisioner, "launch_kernel", start_kernel)


def execute(notebook, folder) -> None:
    """Raises on the first error; the limit is per cell, and a machine may be doing other things."""
    for cell in code_cells(notebook):
        cell.outputs = []
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()


def replace(notebook, written: str, other: str) -> None:
    """Replace a regular expression that matches in one place of one cell."""
    (cell,) = (cell for cell in code_cells(notebook) if re.search(written, cell.source))
    cell.source, number = re.subn(written, lambda match: other, cell.source)
    assert number == 1, written


def printed(notebook) -> str:
    return "".join(output.get("text", "") for cell in code_cells(notebook) for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_and_shows_what_it_was_committed_with(path, here, tmp_path):
    committed, executed = nbformat.read(path, as_version=4), nbformat.read(path, as_version=4)
    for written, shorter in FEWER_STEPS.get(path.stem, {}).items():
        replace(executed, re.escape(written), shorter)
    execute(executed, tmp_path)
    assert [kinds_of_outputs(cell) for cell in code_cells(executed)] == [
        kinds_of_outputs(cell) for cell in code_cells(committed)
    ]


def test_a_file_and_a_video_take_the_place_of_the_stand_ins(here, tmp_path):
    """The notebook of published weights, as its first cell says, with a model of other sizes. Neither file is written to."""
    config = UniFormerV2Config(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=400,
    )
    files = [tmp_path / "published.pyth", tmp_path / "mine.mp4"]
    torch.save(UniFormerV2ForVideoClassification(config).to_reference(), files[0])
    write_video(files[1], moving_frames(20, 40, 56))
    before = [path.read_bytes() for path in files]
    notebook = nbformat.read(FOLDER / "05_published_weights.ipynb", as_version=4)
    (stand_ins,) = (cell for cell in code_cells(notebook) if "torch.save" in cell.source)
    notebook.cells.remove(stand_ins)
    replace(notebook, r"FILE, CLIP = .*", f"FILE, CLIP = {str(files[0])!r}, {str(files[1])!r}")
    execute(notebook, tmp_path)
    assert [path.read_bytes() for path in files] == before
    text = printed(notebook)
    assert "frames of 32" in text and "of 20\n" in text


def test_an_image_model_and_clips_take_the_place_of_the_stand_ins(here, tmp_path):
    """The notebook of the transfer, with the three lines that its first cell names."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "clips" / split / name).mkdir(parents=True)
            for index in range(2):
                write_video(tmp_path / "clips" / split / name / f"{index}.mp4", moving_frames(36, 40, 56, index))
    Dinov2Model(
        Dinov2Config(hidden_size=24, num_hidden_layers=12, num_attention_heads=3, mlp_ratio=1, image_size=98)
    ).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 98, "width": 98}).save_pretrained(tmp_path / "vit")
    notebook = nbformat.read(FOLDER / "06_transfer.ipynb", as_version=4)
    replace(notebook, r"MODEL = .*", f"MODEL = {str(tmp_path / 'vit')!r}")
    replace(notebook, r"DATA = .*", f"DATA = {str(tmp_path / 'clips')!r}")
    replace(notebook, r"(?s)STAND_IN = \[.*\]", "STAND_IN = []")
    execute(notebook, tmp_path)
    assert "4 validation clips" in printed(notebook)


def test_a_transfer_that_fails_shows_its_message(here, tmp_path):
    notebook = nbformat.read(FOLDER / "06_transfer.ipynb", as_version=4)
    replace(notebook, r"DATA = .*", "DATA = 'no/such/folder'")
    with pytest.raises(CellExecutionError, match="no/such/folder"):
        execute(notebook, tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_committed_clean_and_with_small_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(cell.metadata for cell in notebook.cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and max(len(base64.b64decode(picture)) for picture in pictures) < 150_000
    text = "\n".join(output.get("text", "") + str(output.get("data", {}).get("text/plain", "")) for output in outputs)
    # A folder of some machine, a warning or a progress bar.
    assert not re.search(r"/(tmp|home|root|usr|work|Users|var)/|Warning|\d+%\|", text)
