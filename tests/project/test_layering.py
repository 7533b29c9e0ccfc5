"""The structure that Hub export and clean installs rely on, read from the sources themselves."""

import ast
import subprocess
import sys
from pathlib import Path

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


# Sub-packages of training/, from the top: each may import those of lower rows and the ground, never its own row or above.
ROWS = [
    {"scripts"},
    {"commands", "experiments"},
    {"trainer", "serving", "streaming", "web"},
    {"evaluation", "benchmarks"},
    {"visualization"},
    {"models"},
    {"data"},
    {"synthetic"},
    {"ground"},
]
SCRIPTS = {"cli", "run_video_classification", "run_video_classification_no_trainer", "evaluate_video_classification"}


def read_imports(folder: Path) -> dict[str, set[str]]:
    """
    Module (`data.prepare`) to the modules of `folder` that it imports, inside functions too.

    Not what stands under TYPE_CHECKING or `if __name__ == "__main__"`, which no import runs.
    """
    paths = {".".join(path.relative_to(folder).with_suffix("").parts): path for path in folder.rglob("*.py")}
    graph = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text())
        not_imported = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.If)
            and any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "__main__"))
            for child in ast.walk(node)
        }
        package = ["tubevit", "training", *name.split(".")[:-1]]
        targets = set()
        for node in ast.walk(tree):
            if id(node) in not_imported:
                continue
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                targets |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                targets.add(node.value)  # modules that are imported by their name
        prefix = "tubevit.training."
        found = {target.removeprefix(prefix) for target in targets if target.startswith(prefix)}
        graph[name] = {each for each in found if each in paths and each != name}
    return graph


def row_of(module: str) -> int:
    place = module.partition(".")[0] if "." in module else "scripts" if module in SCRIPTS else "ground"
    return next(index for index, row in enumerate(ROWS) if place in row)


def upward_imports(graph: dict[str, set[str]]) -> list[str]:
    """Imports from a row above, or from another sub-package of the same row."""
    wrong = []
    for module, targets in graph.items():
        for target in targets:
            is_same_place = module.partition(".")[0] == target.partition(".")[0] and "." in module
            is_loose = row_of(module) in (
                0,
                len(ROWS) - 1,
            )  # scripts share steps, and ground modules import each other
            if row_of(target) < row_of(module) or (
                row_of(target) == row_of(module) and not is_same_place and not is_loose
            ):
                wrong.append(f"{module} -> {target}")
    return sorted(wrong)


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which imports all the others, directly or not."""

    def reachable(module: str) -> set[str]:
        seen, todo = set(), [module]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        return seen

    reach = {module: reachable(module) for module in graph}
    circles = {frozenset(o for o in graph if o in reach[m] and m in reach[o]) for m in graph if m in reach[m]}
    return sorted(sorted(circle) for circle in circles)


def plant(folder: Path, **files: str) -> dict[str, set[str]]:
    """The graph of a made-up training folder; `data__loader` is data/loader.py."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_imports(folder)


def test_sub_packages_of_training_import_downwards():
    assert upward_imports(read_imports(ROOT / "training")) == []


def test_no_circle_of_modules_in_training():
    assert find_circles(read_imports(ROOT / "training")) == []


@pytest.mark.parametrize(
    "text",
    [
        "from ..trainer.video_trainer import VideoTrainer",
        "def f():\n    from ..trainer import video_trainer",
        "import tubevit.training.trainer.video_trainer",
        'MODULE = "tubevit.training.trainer.video_trainer"',
    ],
)
def test_a_planted_upward_import_is_found(tmp_path, text):
    graph = plant(tmp_path, data__loader=text, trainer__video_trainer="")
    assert upward_imports(graph) == ["data.loader -> trainer.video_trainer"]


def test_a_planted_circle_is_found(tmp_path):
    graph = plant(
        tmp_path,
        data__a="from .b import x",
        data__b="def f():\n    from .c import x",
        data__c="from .a import x",
        data__d="from .a import x",
        data__e="if TYPE_CHECKING:\n    from .f import x",
        data__f="from .e import x",
    )
    assert find_circles(graph) == [["data.a", "data.b", "data.c"]]


def test_every_sub_package_has_a_row():
    folders = {path.name for path in (ROOT / "training").iterdir() if (path / "__init__.py").is_file()}
    assert folders == set().union(*ROWS) - {"scripts", "ground"}


def test_text_files_are_utf8_on_every_platform():
    """Without `encoding`, Windows reads and writes reports in the code page of the machine."""
    missing = []
    for folder in (*HUB_FOLDERS, "training"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                is_text = isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text")
                if isinstance(node.func, ast.Name) and node.func.id == "open":
                    mode = [each.value for each in node.args[1:2] if isinstance(each, ast.Constant)] or ["r"]
                    is_text = "b" not in mode[0]
                if is_text and "encoding" not in {each.arg for each in node.keywords}:
                    missing.append(f"{path}:{node.lineno}")
    assert not missing


def test_percentages_have_a_space():
    """One form in all output, that of RESULTS.md: `50.0 %`. The format code `%` writes `50.0%`."""
    formatted = [
        f"{path}:{node.lineno}"
        for folder in (*HUB_FOLDERS, "training")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FormattedValue) and node.format_spec and ast.unparse(node.format_spec).endswith("%'")
    ]
    assert formatted == []
