"""Links, pictures, commands and make targets of the README exist."""

import re

from repository import ROOT

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
