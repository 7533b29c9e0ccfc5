"""Class names of any script in the figures: fonts, and what no font can show."""

import warnings

import numpy as np
import pytest
from matplotlib import font_manager

from tubevit.training.visualization.canvas import Canvas, find_fonts
from tubevit.training.visualization.confusion import draw_confusion_matrix


PRIVATE = "\U000f1234\U000f1235"  # letters of no script, which no font should have


def draw(path, names) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns for a letter that it draws as a box
        return draw_confusion_matrix(path, np.eye(len(names), dtype=int), names, "title", "subtitle")


@pytest.mark.parametrize("names", [["run", "jump"], ["a$b$", "$x^$"], ["Прыжок", "άλμα"], ["50 %", "a_b^c\\frac"]])
def test_names_of_the_default_font_are_drawn(names, tmp_path):
    assert draw(tmp_path / "figure.png", names) is None and (tmp_path / "figure.png").stat().st_size > 1000


def test_names_that_no_font_has_become_their_index(tmp_path):
    names = ["run", f"a{PRIVATE}", "broken\udcff"]
    note = draw(tmp_path / "figure.png", names)
    assert note.startswith("figure.png names 2 of 3 classes by their index in per_class.csv") and "\n" not in note
    draw(tmp_path / "expected.png", ["run", "class 1", "class 2"])
    assert (tmp_path / "figure.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_other_texts_replace_letters_that_no_font_has(tmp_path):
    canvas = Canvas(3, 1)
    canvas.text(0.1, 0.5, f"a{PRIVATE}", size=9)
    (text,) = canvas.figure.texts
    assert text.get_text() == "a" + 2 * "\N{REPLACEMENT CHARACTER}"


def test_a_font_with_the_letters_is_used(tmp_path, monkeypatch):
    """A font file that has letters which the default font lacks stands in for an installed font of another script."""
    default = font_manager.findfont(font_manager.FontProperties())
    letters = set(font_manager.get_font(default).get_charmap())
    names = {font.name for font in font_manager.fontManager.ttflist}
    files = {name: font_manager.findfont(font_manager.FontProperties(family=[name])) for name in names}
    others = {name: set(font_manager.get_font(file).get_charmap()) for name, file in files.items()}
    letter = next(
        chr(min(found - letters))
        for name, found in sorted(others.items())
        if found - letters and "Last Resort" not in name
    )
    families, missing = find_fonts(f"a{letter}")
    assert not missing and len(families) == 2 and ord(letter) in others[families[1]]
    assert draw(tmp_path / "figure.png", [f"a{letter}", "b"]) is None
