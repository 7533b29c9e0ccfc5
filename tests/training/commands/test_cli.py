"""The `tubevit` command itself starts without torch and Transformers."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "argv", [[], ["--help"], ["--version"], ["predcit"], ["data"], ["data", "--help"], ["experiments", "swep"]]
)
def test_help_version_and_wrong_commands_load_no_library(argv):
    code = f"""
import sys
from tubevit.training.cli import main
try:
    code = main({argv})
except SystemExit as exit:
    code = exit.code
heavy = {{"torch", "transformers", "numpy", "av", "PIL", "matplotlib", "yaml", "huggingface_hub"}}
print(code, *sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1].split() == ["2" if argv and argv[-1] in ("predcit", "swep") else "0"], result
