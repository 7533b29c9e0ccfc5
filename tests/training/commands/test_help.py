"""Help and options of every command: each option is described once, and accepted in all forms."""

import argparse
import re
from dataclasses import fields

import pytest

from tubevit.training.cli import COMMANDS, GROUPS, PREFIXES, RENAMED, find_command, main, make_parser
from tubevit.training.command_line import normalize_argv, parse_arguments
from tubevit.training.evaluation.evaluator import BLOCKS
from tubevit.training.models.families import preset_names
from tubevit.training.option_names import nearest_names
from tubevit.training.option_types import convert
from tubevit.training.options import read_options
from tubevit.training.trainer.run_config import RECIPES, all_blocks


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
        assert action.metavar != "VALUE", where
        assert action.help and len(action.help.split()) > 1, where
        assert len(re.findall(r"\bdefault: ", action.help)) <= 1, where
        if action.choices is not None and action.metavar is not None:  # else argparse shows the choices
            assert all(str(choice) in f"{action.help} {action.metavar}" for choice in action.choices), where


def test_help_of_a_preset_lists_those_of_each_family(parsers):
    (text,) = (action.help for action in parsers["train"]._actions if action.dest == "preset")
    assert all(name in text for name in preset_names()) and "TubeViT: tiny, small" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim=sdg", "optim must be one of 41 choices, the nearest is sgd (`--help` lists all), got 'sdg'."),
        ("lr_scheduler_type=cosin", "the nearest is cosine (`--help` lists all), got 'cosin'."),
        ("eval_strategy=epochs", "eval_strategy must be one of no, steps, epoch, got 'epochs'."),
    ],
)
def test_wrong_choice_names_the_nearest(text, message, capsys):
    assert main(["train", "m", "d", text]) == 2
    error = capsys.readouterr().err
    assert (
        re.sub(r"\d+ choices", "41 choices", message) in re.sub(r"\d+ choices", "41 choices", error)
        and len(error) < 200
    )


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


@pytest.mark.parametrize("name", ["train", "train-loop", "eval"])
def test_switches_are_set_to_the_given_value(name, parsers):
    blocks = BLOCKS if name == "eval" else all_blocks()
    switches = {
        each.name: each.default
        for block in blocks.values()
        for each in fields(block)
        if isinstance(each.default, bool) and each.name not in vars(block).get("UNSUPPORTED", ())
    }
    assert switches
    for option, default in switches.items():
        forms = {f"{option}=true": True, f"--{option}=true": True, f"--{option}": True, f"{option}=false": False}
        forms |= {f"--no_{option}": False} if default else {}
        for text, expected in forms.items():
            values = read_options(parse_arguments(parsers[name], [text]), blocks)
            assert list(values) == [option] and convert(values[option], bool, option) is expected, text


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


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    return {action.dest for action in shown_actions(parser) if action.option_strings} - {"help"}


def test_the_nearest_option_is_plausible(parsers):
    """For all commands and all options of the other commands: names that share only letters are not near."""
    options = {command: option_names(parser) for command, parser in parsers.items()}
    suggested = {
        (name, near)
        for own in options.values()
        for name in set().union(*options.values()) - own
        for near in nearest_names(name, own)
    }
    unlike = {(name, near) for name, near in suggested if name.rstrip("s").split("_")[-1] not in near}
    assert unlike == {("device", "use_cpu"), ("output_dir", "output")} and ("output", "output_dir") in suggested


@pytest.mark.parametrize(
    ("command", "option", "message"),
    [
        ("data synthesize", "--num-val", "there is no option --num-val, the nearest is --num-validation"),
        ("predict", "--modle", "there is no option --modle, the nearest is --model"),
        ("info", "--modle", "there is no option --modle, the nearest is --models ("),
        ("bench", "--model", "there is no option --model (`tubevit bench --help` lists the options)"),
        ("eval", "--batchsize", "the nearest is --batch_size"),
        ("eval", "--equal", "there is no option --equal (`tubevit eval --help` lists the options)"),
        ("train", "--epochs", "the nearest is --num_train_epochs"),
        ("train", "--batch_size", "the nearest are --per_device_train_batch_size, --per_device_eval_batch_size"),
        ("train", "lr=1", "There is no option 'lr'; the nearest is 'learning_rate'."),
        ("train", "auto_find_batch=1", "There is no option 'auto_find_batch'; `--help` lists the options."),
        ("data check", "labels=3", "There is no option 'labels'; there are: "),
    ],
)
def test_unknown_option_names_the_nearest(command, option, message, capsys):
    argv = [*command.split(), *([option] if "=" in option else [option, "3"])]
    try:
        code = main(argv)
    except SystemExit as exit_info:
        code = exit_info.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["train", "train-loop", "eval"])
@pytest.mark.parametrize(
    "argv",
    [
        ["m", "d"],
        ["--model", "m", "d"],
        ["d", "model=m"],
        ["m", "--data", "d"],
        ["data=d", "m"],
        ["--data=d", "--model=m"],
    ],
)
def test_model_and_data_need_no_names(name, argv):
    blocks = BLOCKS if name == "eval" else all_blocks()
    parser = make_parser(name)[1]
    expected = {"model_name_or_path": "m", "data": "d"}
    assert read_options(parse_arguments(parser, argv), blocks) == expected
    if name == "train":
        given = read_options(parse_arguments(parser, ["--config", "finetune-small", *argv]), blocks, RECIPES)
        assert given["learning_rate"] and expected.items() <= given.items()
    with pytest.raises(ValueError, match="'third' does not have the form option=value"):
        read_options(parse_arguments(parser, [*argv, "third"]), blocks)


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (["predcit"], "did you mean 'predict'?"),
        (["data", "chek"], "did you mean 'data check'?"),
        (["check"], "did you mean 'data check'?"),
        (["experiment"], "did you mean 'experiments'?"),
        (["experiments", "compar"], "did you mean 'experiments compare'?"),
        (["data", "zzz"], "there are: data check, data prepare, data shard, data synthesize."),
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


@pytest.mark.parametrize(
    ("command", "named", "unnamed"),
    [
        ("show", ["kernels", "--model", "m"], ["kernels", "m"]),
        ("info", ["--model", "m"], ["m"]),
        ("export", ["--model", "m", "out"], ["m", "out"]),
        ("convert", ["--model", "m", "--output", "out"], ["m", "out"]),
    ],
)
def test_model_is_accepted_with_and_without_its_name(command, named, unnamed):
    assert parse_arguments(make_parser(command)[1], named) == parse_arguments(make_parser(command)[1], unnamed)
