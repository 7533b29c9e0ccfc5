"""`import tubevit` imports neither torch nor Transformers, and still registers every class with the Auto classes."""

import ast
import pickle
import subprocess
import sys

import pytest
from repository import ROOT
from warm_processes import TORCH_ONLY, run_python

import tubevit
import tubevit.processing


HEAVY = {"torch", "torchvision", "transformers", "numpy", "av", "PIL", "matplotlib", "datasets", "accelerate"}

# Uses everything that is registered. {first} is what a process imports before.
USE_ALL = """
{first}
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, AutoModelForVideoClassification
from transformers import AutoImageProcessor, AutoProcessor, AutoVideoProcessor, pipeline
import tubevit
config = AutoConfig.for_model(
    "tubevit", num_hidden_layers=1, hidden_size=24, num_attention_heads=2, intermediate_size=24, image_size=32, num_frames=24
)
assert type(config) is tubevit.TubeViTConfig
assert type(AutoModel.from_config(config)) is tubevit.TubeViTModel
assert type(AutoModelForImageClassification.from_config(config)) is tubevit.TubeViTForImageClassification
model = AutoModelForVideoClassification.from_config(config)
assert type(model) is tubevit.TubeViTForVideoClassification
model.save_pretrained("model")
tubevit.TubeViTProcessor(tubevit.TubeViTImageProcessor(), tubevit.TubeViTVideoProcessor(num_frames=24)).save_pretrained("model")
assert type(AutoVideoProcessor.from_pretrained("model")) is tubevit.TubeViTVideoProcessor
assert type(AutoImageProcessor.from_pretrained("model")) is tubevit.TubeViTImageProcessor
assert type(AutoProcessor.from_pretrained("model")) is tubevit.TubeViTProcessor
assert type(pipeline("video-classification", model="model").model) is tubevit.TubeViTForVideoClassification
import sys
assert not any(type(finder).__name__ == "_RegistrationHook" for finder in sys.meta_path)  # all is registered
"""

FIRST_IMPORTS = {
    "package first": "import tubevit",
    "Transformers first": "import transformers",
    "Auto classes first": "from transformers import AutoModel",
    "a module that imports the Auto classes and is imported by the model": "import tubevit\nimport transformers.modeling_layers",
    "a module of the model first": "from tubevit.modeling_tubevit import TubeViTModel",
    "the module of the Auto classes": "import tubevit\nfrom transformers.models.auto.modeling_auto import AutoModel",
    "reloaded": "import tubevit, importlib\nimportlib.reload(tubevit)\nfrom transformers import AutoModel\nimportlib.reload(tubevit)",
}


def run_code(code: str, cwd) -> subprocess.CompletedProcess:
    """Run code in a process that has imported torch, and neither Transformers nor this project."""
    check = "import sys\nassert not {'transformers', 'huggingface_hub', 'tubevit'} & set(sys.modules)\n"
    return run_python("-c", check + code, cwd=cwd, imported=TORCH_ONLY)


@pytest.mark.parametrize("first", FIRST_IMPORTS.values(), ids=FIRST_IMPORTS)
def test_the_auto_classes_know_the_package_in_any_order_of_imports(tmp_path, first):
    result = run_code(USE_ALL.format(first=first), tmp_path)
    assert result.returncode == 0, result.stderr


def test_importing_the_package_loads_no_library():
    code = f"import tubevit, tubevit.processing, tubevit.training, sys; print(*sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "", "")


def test_public_names_are_those_that_editors_see():
    """`__all__`, the table of modules and the imports under TYPE_CHECKING list the same names."""
    for package, folder in ((tubevit, "modeling_tubevit"), (tubevit.processing, "processing")):
        tree = ast.parse((ROOT / folder / "__init__.py").read_text())
        (block,) = [
            each for each in tree.body if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
        ]
        shown = {alias.name: node.module for node in block.body for alias in node.names}
        assert shown == package._MODULES and sorted(shown) == sorted(package.__all__)
        assert set(package.__all__) <= set(dir(package))
        assert all(getattr(package, name).__name__ == name for name in package.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tubevit' has no attribute 'TubeVit'"):
        _ = tubevit.TubeVit
    with pytest.raises(ImportError, match="cannot import name 'TubeVit'"):
        exec("from tubevit import TubeVit")
    assert not hasattr(tubevit, "__wrapped__")


def test_modules_are_found_as_attributes():
    code = "import tubevit; print(tubevit.processing.decode_video.__module__, tubevit.presets.__name__)"
    result = run_code(code, ROOT)
    assert result.stdout.split() == ["tubevit.processing.video_decoding", "tubevit.presets"], result.stderr


def test_a_pickled_class_loads_in_a_fresh_process(tmp_path):
    (tmp_path / "class.pickle").write_bytes(pickle.dumps(tubevit.TubeViTForVideoClassification))
    code = "import pickle; print(pickle.load(open('class.pickle', 'rb')).__qualname__)"
    result = run_code(code, tmp_path)
    assert result.stdout.strip() == "TubeViTForVideoClassification", result.stderr


def test_several_threads_may_import_first(tmp_path):
    code = """
import sys, threading
import tubevit
sys.setswitchinterval(1e-5)
def auto():
    from transformers import AutoModelForVideoClassification
def model():
    tubevit.TubeViTForVideoClassification
def processing():
    from tubevit.processing import TubeViTVideoProcessor
threads = [threading.Thread(target=each) for each in (auto, model, processing)]
[each.start() for each in threads]
[each.join() for each in threads]
from transformers import AutoModelForVideoClassification, AutoVideoProcessor
print(type(AutoModelForVideoClassification._model_mapping[tubevit.TubeViTConfig]).__name__)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("type", "")
    result = run_code(code, tmp_path)  # with torch loaded, all threads import Transformers at the same moment
    assert (result.stdout.strip(), result.stderr) == ("type", "")
