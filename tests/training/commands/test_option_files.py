"""`--config FILE` and `key=value` say the same as the options that argparse declares."""

import argparse
import re

import pytest

from tubevit.training.option_files import add_option_file, parse_arguments
from tubevit.training.options import whole_number


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_option_file(parser)
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--top-k", type=whole_number(1), default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--files", nargs="*")
    return parser


def parse(*argv) -> dict:
    return vars(parse_arguments(make_parser(), [str(each) for each in argv]))


def write(tmp_path, text: str):
    (tmp_path / "options.yaml").write_text(text)
    return tmp_path / "options.yaml"


def test_a_file_pairs_and_options_say_the_same(tmp_path):
    path = write(tmp_path, "clips: [a.mp4, b.mp4]\ntop_k: 3\ndevice: cuda\njson: true\nfiles: [c, d]\n")
    expected = parse("a.mp4", "b.mp4", "--top-k", 3, "--device", "cuda", "--json", "--files", "c", "d")
    found = parse("--config", path)
    assert found.pop("option_file") == str(path) and expected.pop("option_file") is None
    assert found == expected
    pairs = parse("a.mp4", "b.mp4", "top_k=3", "device=cuda", "json=true", "--files", "c", "d")
    assert pairs == {**expected, "option_file": None}


def test_what_is_said_nearer_counts(tmp_path):
    """Arguments before pairs, and pairs before the file."""
    path = write(tmp_path, "clips: a.mp4\ntop-k: 3\njson: true\n")
    assert parse(f"--config={path}")["top_k"] == 3
    found = parse("--config", path, "top-k=4", "json=false", "b.mp4")
    assert (found["top_k"], found["json"], found["clips"]) == (4, False, ["b.mp4"])
    assert parse("--config", path, "top_k=4", "--top-k", 6)["top_k"] == 6
    assert parse("--config", path)["clips"] == ["a.mp4"]


def test_a_file_whose_name_looks_like_a_pair_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take=2.mp4").touch()
    assert parse("take=2.mp4", "https://host/clip?top_k=1")["clips"] == ["take=2.mp4", "https://host/clip?top_k=1"]


def test_options_are_not_shortened(tmp_path):
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parse("--conf", write(tmp_path, "top_k: 3\n"))


def test_a_parser_without_a_file_takes_its_own_pairs():
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="*")
    assert parse_arguments(parser, ["a=b"]).pairs == ["a=b"]


def test_files_and_pairs_stand_on_both_sides_of_an_option():
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="*")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--resume", nargs="?", const="true")
    found = parse_arguments(parser, ["--resume", "a.b=c", "--dry-run", "d=e"])
    assert (found.resume, found.pairs) == ("true", ["a.b=c", "d=e"])
    assert parse_arguments(parser, ["a=b", "--resume", "false"]).resume == "false"
    assert parse_arguments(parser, ["--dry-run", "a=b"]).pairs == ["a=b"]
    assert parse_arguments(parser, ["a=b", "--dry-run", "c=d"]).pairs == ["a=b", "c=d"]
    assert parse("a.mp4", "--json", "b.mp4")["clips"] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top_kk: 3", "There is no option 'top_kk'; the nearest is 'top_k'."),
        ("- 3", "must hold options"),
        ("json: maybe", "json must be true or false, got 'maybe'"),
        ("a: [", "is no YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(text, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse("--config", write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_values_are_checked_as_those_of_arguments_are(tmp_path):
    for text in ("top_k: 0", "device: tpu"):
        with pytest.raises((argparse.ArgumentError, argparse.ArgumentTypeError)):
            parse("--config", write(tmp_path, text))
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        parse("--config", tmp_path / "none.yaml")
