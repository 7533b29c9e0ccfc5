"""What a built wheel puts into site-packages."""

import shutil
import subprocess
import sys
import zipfile

from repository import ROOT


def test_the_wheel_holds_one_top_level_name_and_every_module(tmp_path):
    source = tmp_path / "source"  # a copy, because a build leaves folders behind
    source.mkdir()
    for name in ("modeling_tubevit", "processing", "training"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        source,
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in packaged} == {"tubevit"}
    installed_as = {"modeling_tubevit": "tubevit", "processing": "tubevit/processing", "training": "tubevit/training"}
    expected = {
        f"{installed_as[folder]}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder in installed_as
        for path in (ROOT / folder).rglob("*.py")
    }
    assert expected <= packaged
    assert "tubevit/py.typed" in packaged
