"""A built wheel installs every module and data file of the three source folders as one package."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from repository import ROOT

from tubevit.training.models.lora import MIN_PEFT


# Source folder to its place in site-packages, as pyproject.toml's package-dir says.
INSTALLED_AS = {"modeling_tubevit": "tubevit", "processing": "tubevit/processing", "training": "tubevit/training"}
NOT_INSTALLED = ("training/experiments/results/",)  # results of past runs: read in a checkout only


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the files that a build reads, because a build leaves folders behind."""
    source = tmp_path / "source"
    source.mkdir()
    for folder in INSTALLED_AS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return source


def build(source: Path, kind: str) -> Path:
    """The "wheel" or "sdist" of `source`, by the build backend that pip calls."""
    target = source.parent / kind
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = target.iterdir()
    return archive


def installed_files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def missing_files(source: Path) -> set[str]:
    """Files of the source folders, as named once installed, that the wheel of `source` lacks."""
    expected = set()
    for folder, package in INSTALLED_AS.items():
        for path in (source / folder).rglob("*"):
            name = path.relative_to(source).as_posix()
            if path.is_file() and not path.name.startswith(".") and not name.startswith(NOT_INSTALLED):
                expected.add(package + name.removeprefix(folder))
    return expected - installed_files(build(source, "wheel"))


def test_a_wheel_holds_every_module_and_data_file(source):
    assert missing_files(source) == set()
    files = installed_files(next((source.parent / "wheel").iterdir()))
    assert {name.split("/")[0] for name in files} == {"tubevit"}
    assert "tubevit/py.typed" in files
    assert any(re.fullmatch(r"tubevit/training/recipes/.+\.yaml", name) for name in files)
    assert not any("/results/" in name for name in files)


def test_a_wheel_built_from_the_source_distribution_is_the_same(source):
    files = installed_files(build(source, "wheel"))
    with tarfile.open(build(source, "sdist")) as archive:
        archive.extractall(source.parent / "unpacked", filter="data")
    (unpacked,) = (source.parent / "unpacked").iterdir()
    shutil.rmtree(source.parent / "wheel")
    assert installed_files(build(unpacked.rename(source.parent / "again"), "wheel")) == files


@pytest.mark.parametrize(
    ("pattern", "replacement", "lost"),
    [
        (
            r'(?m)^("tubevit[a-z.]*" = )\[.*\]$',
            r"\1[]",
            r".*(/recipes/|/engine_configs/|/class_lists/|/web/page/|/demo_weights/|\.yaml$)",
        ),  # package-data emptied
        (r'(?m)^    "tubevit\.training\.data",\n', "", r"tubevit/training/data/\w+\.py$"),
    ],
    ids=["no package-data", "a package less"],
)
def test_what_pyproject_leaves_out_is_noticed(source, pattern, replacement, lost):
    pyproject = source / "pyproject.toml"
    text, num_changes = re.subn(pattern, replacement, pyproject.read_text())
    assert num_changes
    pyproject.write_text(text)
    missing = missing_files(source)
    assert missing and all(re.match(lost, name) for name in missing)


def test_the_lora_extra_asks_for_what_lora_rank_needs():
    """Not for more: an extra with a bound above every release cannot be installed."""
    bounds = re.findall(r'"peft>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert bounds == [MIN_PEFT, MIN_PEFT]  # extras `lora` and `dev`


def test_the_oldest_python_is_the_same_everywhere():
    """The tests on the lowest bounds run on it: a Python for which no release within the bounds exists shows there."""
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    workflow = (ROOT / ".github/workflows/tests.yml").read_text()
    tested = re.search(r'matrix:.*?python: \["3\.(\d+)"', workflow, re.DOTALL)[1]
    lowest = re.search(r'oldest-versions:.*?python-version: "3\.(\d+)"', workflow, re.DOTALL)[1]
    checked = re.search(r"sys\.version_info < \(3, (\d+)\)", (ROOT / "Makefile").read_text())[1]
    assert {tested, lowest, checked} == {oldest}
