"""Figures that notebooks show, and files of them."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from search.errors import UsageError
from search.report.figures import NotebookFigure, save_figure


def figure() -> NotebookFigure:
    made = NotebookFigure(3, 2)
    axes = made.subplots()
    axes.plot([1, 2], [3, 4])
    axes.set_title("a line of text")
    return made


def test_a_figure_shows_itself() -> None:
    assert isinstance(figure(), Figure)
    shown = figure()._repr_png_()
    assert shown.startswith(b"\x89PNG")
    assert (int.from_bytes(shown[16:20]), int.from_bytes(shown[20:24])) == (450, 300)  # its width and height


@pytest.mark.parametrize(
    ("suffix", "begins"),
    [(".png", b"\x89PNG"), (".SVG", b"<?xml"), pytest.param(".pdf", b"%PDF", marks=pytest.mark.slow)],
)
def test_the_same_figure_gives_the_same_file(tmp_path: Path, suffix: str, begins: bytes) -> None:
    one, other = (save_figure(figure(), tmp_path / f"{name}{suffix}") for name in "ab")
    assert one.read_bytes().startswith(begins)
    assert one.read_bytes() == other.read_bytes()


def test_letters_of_a_drawing_stay_letters(tmp_path: Path) -> None:
    assert ">a line of text<" in save_figure(figure(), tmp_path / "a.svg").read_text()


def test_files_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot draw to .*a\.doc: its suffix must be one of \.png, \.svg, \.pdf"):
        save_figure(figure(), tmp_path / "a.doc")
    with pytest.raises(UsageError, match=r"cannot draw to .*: No such file or directory; choose another file"):
        save_figure(figure(), tmp_path / "nowhere" / "a.png")
