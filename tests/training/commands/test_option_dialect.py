"""All commands accept `--option value` and `option=value`, dashes and underscores, and old names."""

import argparse
import re

import pytest

from tubevit.training.command_line import normalize_argv, parse_arguments, whole_number
from tubevit.training.option_names import current_name


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--model", default="a/model")
    parser.add_argument("--top-k", type=whole_number(1), default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", nargs="+")
    parser.add_argument("--video_root")
    return parser


def parse(*argv) -> dict:
    return vars(parse_arguments(make_parser(), [str(each) for each in argv]))


EXPECTED = [
    "a.mp4",
    "--model",
    "m",
    "--top-k",
    "3",
    "--device",
    "cuda",
    "--json",
    "--task",
    "order",
    "--video_root",
    "here",
]


@pytest.mark.parametrize(
    "argv",
    [
        ["model=m", "top_k=3", "device=cuda", "json=true", "task=order", "video-root=here", "a.mp4"],
        [
            "--model_name_or_path",
            "m",
            "--top_k=3",
            "--device=cuda",
            "--json=true",
            "a.mp4",
            "--task=order",
            "--video-root=here",
        ],
        [
            "--model-name-or-path=m",
            "a.mp4",
            "top-k=3",
            "--device",
            "cuda",
            "--json",
            "video_root=here",
            "--task",
            "order",
        ],
        [
            "model_name_or_path=m",
            "clips=a.mp4",
            "--json",
            "top-k=3",
            "device=cuda",
            "--task=order",
            "--video_root=here",
        ],
        ["a.mp4", "--json", "model=m", "--top-k", "9", "top_k=3", "device=cuda", "task=order", "--video_root", "here"],
    ],
)
def test_all_forms_of_an_option_are_equal(argv, capsys):
    assert parse(*argv) == parse(*EXPECTED)
    assert capsys.readouterr().err == ""


def test_old_names_work_with_a_warning(capsys):
    assert parse("--video-folder", "here")["video_root"] == parse("video_folder=here")["video_root"] == "here"
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["warning: video_folder is now video_root; the next release removes video_folder."] * 2


def test_only_the_first_process_warns(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert current_name("fit", ["resize_mode"]) == "resize_mode" and current_name("fit", ["fit"]) == "fit"
    assert capsys.readouterr().err == ""


def test_false_turns_a_switch_off():
    assert not parse("json=false")["json"]
    with pytest.raises(ValueError, match="json must be true or false, got 'maybe'"):
        parse("json=maybe")


def test_existing_file_with_an_equals_sign_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take=2.mp4").touch()
    assert parse("take=2.mp4", "https://host/clip?top_k=1")["clips"] == ["take=2.mp4", "https://host/clip?top_k=1"]
    assert normalize_argv(["--", "top_k=1"], make_parser()) == ["--", "top_k=1"]


def test_abbreviated_options_are_errors():
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parse("--dev", "cuda")


def test_pairs_around_an_option_with_an_optional_value():
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--use_cpu", nargs="?", const="true")
    found = parse_arguments(parser, ["--use_cpu", "a.b=c", "--dry-run", "d=e"])
    assert (found.use_cpu, found.dry_run, found.overrides) == ("true", True, ["a.b=c", "d=e"])
    assert parse_arguments(parser, ["a=b", "--use-cpu", "false"]).use_cpu == "false"
    assert parse_arguments(parser, ["--a.b", "c", "--a.d=e"]).overrides == ["a.b=c", "a.d=e"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top_kk=3", "There is no option 'top_kk'; the nearest is 'top_k'."),
        ("take=2.mp4", "There is no option 'take'"),
    ],
)
def test_unknown_names_print_one_line(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_values_of_pairs_are_checked():
    for text in ("top_k=0", "device=tpu"):
        with pytest.raises((argparse.ArgumentError, argparse.ArgumentTypeError)):
            parse(text)


def export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("model")
    parser.add_argument("output")
    return parser


@pytest.mark.parametrize(
    "argv",
    [
        ["m", "out"],
        ["--model", "m", "out"],
        ["out", "--model_name_or_path=m"],
        ["output=out", "model=m"],
        ["m", "--output", "out"],
        ["--output", "out", "--model-name-or-path", "m"],
    ],
)
def test_positional_arguments_by_name_in_any_order(argv):
    assert vars(parse_arguments(export_parser(), argv)) == {"model": "m", "output": "out"}


@pytest.mark.parametrize("argv", [["--model", "m"], ["model=m"], ["--model_name_or_path", "m"], ["m"]])
def test_a_command_with_several_models_accepts_model(argv):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("models", nargs="*")
    assert vars(parse_arguments(parser, argv)) == {"models": ["m"]}
