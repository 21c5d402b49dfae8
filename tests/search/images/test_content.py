import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.images.content import counted, in_order, listed, signature_of, split_named, suggested_name


@given(st.text("aZ9._- /:ö鳥\0"))
def test_a_suggested_name_is_a_name_and_stays_one(text: str) -> None:
    name = suggested_name(text)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,60}", name)
    assert suggested_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mnist", "mnist"),
        ("My birds (2026)", "My-birds-2026"),
        ("Vögel", "Vogel"),
        ("鳥", "images"),
        (".hidden", "hidden"),
        ("nets:load", "nets-load"),
        ("a" * 59 + ".x", "a" * 59),
    ],
)
def test_names_stay_as_close_to_the_text_as_they_may(text: str, name: str) -> None:
    assert suggested_name(text) == name


def test_splits_have_several_words_in_any_case() -> None:
    assert [split_named(word) for word in ("Train", "val", "VALID", "validation", "testing", "extra")] == [
        "train",
        "validation",
        "validation",
        "validation",
        "test",
        None,
    ]
    assert in_order(["test", "train", "validation"]) == ["train", "validation", "test"]


def test_of_many_things_the_first_are_named() -> None:
    assert listed("abc") == "a, b, c"
    assert listed("abcdef") == "a, b, c, d, e, f"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert [counted(1, "image"), counted(2000, "image"), counted(2, "class")] == [
        "1 image",
        "2,000 images",
        "2 classes",
    ]


def test_a_signature_changes_with_names_sizes_and_times_alone(tmp_path: Path) -> None:
    def signature(folder: str) -> str:
        return signature_of([str(tmp_path / folder / name) for name in sorted(os.listdir(tmp_path / folder))], tmp_path)

    file = tmp_path / "a" / "1.png"
    file.parent.mkdir()
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    first = signature("a")
    file.write_bytes(b"two")
    os.utime(file, ns=(5, 1))
    assert signature("a") == first
    os.utime(file, ns=(1, 2))
    assert signature("a") != first
    file.write_bytes(b"three")
    os.utime(file, ns=(1, 1))
    assert signature("a") != first
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    file.rename(file.with_name("2.png"))
    assert signature("a") != first
    file.with_name("2.png").rename(file)
    assert signature("a") == first
