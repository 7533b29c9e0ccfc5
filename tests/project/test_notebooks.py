"""The notebooks run from top to bottom, with fewer training steps, and show the kinds of outputs that they were committed with."""

import base64
import re
import sys

import nbformat
import pytest
from jupyter_client.provisioning import local_provisioner
from nbclient import NotebookClient
from repository import ROOT
from warm_processes import Running


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_and_shows_what_it_was_committed_with(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's profile
    monkeypatch.setattr(local_provisioner, "launch_kernel", start_kernel)
    committed, executed = nbformat.read(path, as_version=4), nbformat.read(path, as_version=4)
    for cell in code_cells(executed):
        cell.outputs = []
    for written, shorter in FEWER_STEPS.get(path.stem, {}).items():
        (cell,) = (cell for cell in code_cells(executed) if written in cell.source)
        cell.source = cell.source.replace(written, shorter)
    # Raises on the first error; the limit is per cell, and a machine may be doing other things.
    NotebookClient(executed, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert [kinds_of_outputs(cell) for cell in code_cells(executed)] == [
        kinds_of_outputs(cell) for cell in code_cells(committed)
    ]


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
