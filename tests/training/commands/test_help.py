"""Help and options of every command: each option is described once, and accepted in all forms."""

import argparse
import re

import pytest

from tubevit.training.cli import COMMANDS, GROUPS, PREFIXES, RENAMED, find_command, main, make_parser
from tubevit.training.options import normalize_argv


# Words that refer to another line, which `--help | grep option` does not show, or that have to be read twice.
UNCLEAR = ("likewise", "that there is not", "whoever", "what is run", "shall")


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return {name: make_parser(name)[1] for name in COMMANDS}


def shown_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.help is not argparse.SUPPRESS]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described_once(parsers, name):
    for action in shown_actions(parsers[name]):
        where = f"{name} {action.dest}"
        assert action.help and len(action.help.split()) > 1, where
        assert len(re.findall(r"\bdefault: ", action.help)) <= 1, where
        if action.choices is not None and action.metavar is not None:  # else argparse shows the choices
            assert all(str(choice) in f"{action.help} {action.metavar}" for choice in action.choices), where


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_plain(parsers, name):
    text = " ".join(parsers[name].format_help().split())
    assert [word for word in UNCLEAR if word in text] == []
    assert "--traceback" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_options_accept_dashes_underscores_and_pairs(parsers, name):
    parser = parsers[name]
    for action in shown_actions(parser):
        if not action.option_strings or action.dest == "help":
            continue
        option = action.option_strings[-1].lstrip("-").replace("-", "_")
        value = "true" if action.nargs == 0 else "1"
        spellings = [f"--{option}={value}", f"--{option.replace('_', '-')}={value}", f"{option}={value}"]
        spellings += [f"{option.replace('_', '-')}={value}"]
        (found,) = {tuple(normalize_argv([each], parser)) for each in spellings}
        assert found and found[0].startswith("--"), option


def test_the_overview_has_one_line_per_command(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for title, group in GROUPS.items():
        assert f"{title}:" in lines
        for name, (_, summary) in group.items():
            (line,) = [each for each in lines if each.startswith(f"  {name} ")]
            assert line.endswith(f" {summary}") and len(line) < 120


@pytest.mark.parametrize("prefix", PREFIXES)
def test_group_lists_its_commands(prefix, capsys):
    assert main([prefix]) == 0
    listed = re.findall(rf"^  ({prefix} \w+)  ", capsys.readouterr().out, re.MULTILINE)
    assert listed == [name for name in COMMANDS if name.startswith(f"{prefix} ")]


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (["predcit"], "did you mean 'predict'?"),
        (["data", "chek"], "did you mean 'data check'?"),
        (["check"], "did you mean 'data check'?"),
        (["experiment"], "did you mean 'experiments'?"),
        (["experiments", "compar"], "did you mean 'experiments compare'?"),
        (["data", "zzz"], "there are: data check, data prepare, data synthesize."),
    ],
)
def test_wrong_command_names_the_nearest(argv, nearest, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    error = capsys.readouterr().err
    assert exit_info.value.code == 2 and nearest in error and error.count("\n") == 1


@pytest.mark.parametrize("old", RENAMED)
def test_old_names_work_with_a_warning(old, capsys):
    name, arguments = find_command([*old.split(), "--help"])
    assert name in COMMANDS and [*name.split(), *arguments] == [*RENAMED[old].split(), "--help"]
    (line,) = capsys.readouterr().err.splitlines()
    assert f"`tubevit {old}` is now `tubevit {RENAMED[old]}`" in line and line.startswith("warning: ")
