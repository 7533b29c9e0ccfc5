"""The structure that Hub export and clean installs rely on, read from the sources themselves."""

import ast
import subprocess
import sys

import pytest
from repository import ROOT


HUB_FOLDERS = ["modeling_tubevit", "processing"]
HUB_MODULES = [
    path for folder in HUB_FOLDERS for path in sorted((ROOT / folder).glob("*.py")) if path.stem != "__init__"
]
# What machines that run image and video models of Transformers have; anything else is imported where it is used, inside `try` or `if`.
ALWAYS_THERE = {"torch", "torchvision", "transformers", "numpy", "huggingface_hub", "safetensors", "tqdm", "PIL"}


def guarded_lines(tree: ast.AST) -> set[int]:
    return {
        child.lineno
        for node in ast.walk(tree)
        if isinstance(node, (ast.Try, ast.If))
        for child in ast.walk(node)
        if isinstance(child, (ast.Import, ast.ImportFrom))
    }


@pytest.mark.parametrize("path", HUB_MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_hub_modules_import_siblings_and_transformers_only(path):
    tree = ast.parse(path.read_text())
    guarded = guarded_lines(tree)
    siblings = {other.stem for other in path.parent.glob("*.py")}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module in siblings, f"line {node.lineno}: only `from .sibling import Name`"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            for name in (name.split(".")[0] for name in names):
                known = name in ALWAYS_THERE or name in sys.stdlib_module_names
                assert known or node.lineno in guarded, f"line {node.lineno}: {name} may be missing where the Hub runs"
    # Transformers finds the files to copy with a regular expression, which prose can fool.
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not any(line.lstrip().startswith("from .") for line in node.value.splitlines())


def test_module_names_are_unique_in_an_exported_folder():
    names = [path.stem for path in HUB_MODULES]
    assert len(names) == len(set(names))
    assert all(
        not path.is_dir() or path.name == "__pycache__" for folder in HUB_FOLDERS for path in (ROOT / folder).iterdir()
    )


@pytest.mark.parametrize(
    ("folder", "name"),
    [("modeling_tubevit", "tubevit"), ("processing", "tubevit.processing"), ("training", "tubevit.training")],
)
def test_importing_a_folder_by_its_own_name_names_the_right_import(folder, name):
    result = subprocess.run([sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError") and f"`{name}`" in last_line


def test_importing_the_package_stays_light():
    program = "import sys, tubevit; print(*sorted({'av', 'datasets', 'evaluate', 'matplotlib', 'torchcodec'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
