import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.errors import DatasetInvalidError
from search.images.content import Source
from search.images.parquet import read_parquet
from tests.support.pictures import as_png, content_of, pictures, pixels_of, refused, write_parquet

PIXELS, LABELS = pictures(24)
CONTENTS = [as_png(image) for image in PIXELS]
NAMES = json.dumps(
    {
        "info": {
            "features": {"image": {"_type": "Image"}, "label": {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}}
        }
    }
)


def read(folder: Path, **options: Any) -> Source:
    return read_parquet(sorted(folder.rglob("*.parquet")), path=folder, **options)


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label"), ("image", "labels")])
@pytest.mark.parametrize("plain", [False, True])
def test_rows_are_images_with_labels(image: str, label: str, plain: bool, tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "made.parquet", CONTENTS, LABELS, image=image, label=label, plain=plain)
    source = read_parquet([file], path=file)
    assert np.array_equal(pixels_of(source), PIXELS)
    assert source.splits["all"].labels.tolist() == LABELS.tolist()
    assert (source.name, source.location) == ("made", str(file))
    assert source.class_names == ("0", "1", "2")


def test_one_file_is_one_part_whatever_its_name(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "test-00000-of-00002.parquet", CONTENTS, LABELS)
    assert list(read_parquet([file], path=file).splits) == ["all"]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-00000-of-00001", "test-00000-of-00001"], ["train", "test"]),
        (["train-00000-of-00001-b42e1a", "validation-00000-of-00001-3b3f", "test-00000-of-00001-abc"], None),
        (["train", "valid", "test"], None),
        (["Train_0", "val.0", "TEST"], None),
        (["train-1", "train-2", "train_x"], ["train"]),
        (["part-0", "part-1"], ["all"]),
        (["0000", "0001"], ["all"]),
        (["trainset", "testers"], ["all"]),
    ],
)
def test_files_are_named_after_their_split(names: list[str], splits: list[str] | None, tmp_path: Path) -> None:
    for number, name in enumerate(names):
        pixels, _ = pictures(24, seed=number)
        write_parquet(tmp_path / f"{name}.parquet", [as_png(image) for image in pixels], LABELS)
    source = read(tmp_path)
    assert list(source.splits) == (splits or ["train", "validation", "test"])
    assert sum(len(part.labels) for part in source.splits.values()) == 24 * len(names)
    found = {image.tobytes() for split in source.splits for image in pixels_of(source, split)}
    assert found == {image.tobytes() for number in range(len(names)) for image in pictures(24, seed=number)[0]}


def test_shards_and_row_groups_follow_each_other(tmp_path: Path) -> None:
    for shard, rows in enumerate((slice(0, 7), slice(7, 9), slice(9, 24))):
        file = tmp_path / "data" / f"train-0000{shard}-of-00003.parquet"
        write_parquet(file, CONTENTS[rows], LABELS[rows], rows_of_group=3)
    source = read(tmp_path)
    assert np.array_equal(pixels_of(source, "train"), PIXELS)
    part = source.splits["train"]
    for i in (23, 0, 8, 7, 9, 6):
        assert np.array_equal(part.read(i), PIXELS[i])


def test_a_row_group_is_read_once_in_ascending_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_parquet(tmp_path / "made.parquet", CONTENTS, LABELS, rows_of_group=5)
    source = read_parquet([file], path=file)
    groups: list[int] = []

    class Noting(pq.ParquetFile):  # type: ignore[misc]
        def read_row_group(self, i: int, **options: Any) -> Any:
            groups.append(i)
            return super().read_row_group(i, **options)

    monkeypatch.setattr(pq, "ParquetFile", Noting)
    pixels_of(source)
    assert groups == [0, 1, 2, 3, 4]


def test_empty_shards_do_no_harm(tmp_path: Path) -> None:
    for shard, rows in enumerate((slice(0, 0), slice(0, 24), slice(0, 0))):
        labels = pa.array(LABELS[rows], pa.int64())
        table = pa.table({"image": pa.array(CONTENTS[rows], pa.binary()), "label": labels})
        pq.write_table(table, tmp_path / f"train-0000{shard}-of-00003.parquet")
    assert np.array_equal(pixels_of(read(tmp_path), "train"), PIXELS)


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        (NAMES, ("ant", "bee", "cow")),
        (NAMES.replace('"cow"', '"cow", "dog"'), ("ant", "bee", "cow")),
        ("{}", ("0", "1", "2")),
        ("no JSON", ("0", "1", "2")),
        ('{"info": {"features": {"label": {"names": 3}}}}', ("0", "1", "2")),
        ('{"info": [3]}', ("0", "1", "2")),
    ],
)
def test_classes_have_the_names_of_the_metadata(metadata: str, names: tuple[str, ...], tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", CONTENTS, LABELS, metadata={"huggingface": metadata})
    assert read(tmp_path).class_names == names


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_may_be_text(kind: Any, tmp_path: Path) -> None:
    labels = pa.array(np.array(["ant", "bee", "cow"])[LABELS]).cast(kind)
    table = pa.table({"image": pa.array(CONTENTS, pa.large_binary()), "label": labels})
    pq.write_table(table.replace_schema_metadata({"huggingface": NAMES}), tmp_path / "train.parquet")
    source = read(tmp_path)
    assert source.class_names == ("ant", "bee", "cow")
    assert source.splits["train"].labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, bool])
def test_labels_may_be_numbers_of_any_kind(kind: Any, tmp_path: Path) -> None:
    labels = (LABELS % 2).astype(kind)
    write_parquet(tmp_path / "train.parquet", CONTENTS, labels)
    assert read(tmp_path).splits["train"].labels.tolist() == (LABELS % 2).tolist()


def test_the_signature_follows_the_files(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "train.parquet", CONTENTS, LABELS)
    before = read(tmp_path).signature
    assert read(tmp_path).signature == before
    os.utime(file, ns=(1, 1))
    assert read(tmp_path).signature != before


def test_images_of_several_sizes_need_one(tmp_path: Path) -> None:
    tall = [as_png(image) for image in pictures(12, height=9, channels=1)[0]]
    write_parquet(tmp_path / "train.parquet", [*CONTENTS, *tall], [*LABELS, *LABELS[:12]])
    with refused(f"`data` {tmp_path} has images of 2 sizes (height x width) between 5x7 and 9x7, most often"):
        read(tmp_path, parameter="data")
    assert read(tmp_path, image_size=(4, 6)).image_shape == (3, 4, 6)


def test_images_that_cannot_be_used_are_named_with_file_and_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet", CONTENTS, LABELS)
    contents: list[Any] = list(CONTENTS)
    contents[3] = CONTENTS[3][: CONTENTS[3].index(b"IDAT") + 20]  # which only its pixels show
    contents[6], contents[8] = b"no image", None
    write_parquet(tmp_path / "train-00001-of-00002.parquet", contents, LABELS)
    with refused(
        f"`dataset` {tmp_path} has 3 of 48 images that cannot be used: row 3 of train-00001-of-00002.parquet is "
        "damaged, or no image, row 6 of train-00001-of-00002.parquet is damaged, or no image, row 8 of "
        "train-00001-of-00002.parquet has no bytes; mend"
    ):
        read(tmp_path)


def test_images_that_end_too_early_are_all_named_when_the_first_is_read(tmp_path: Path) -> None:
    contents = list(CONTENTS)
    for place in (3, 20):
        contents[place] = contents[place][: contents[place].index(b"IDAT") + 20]
    write_parquet(tmp_path / "train.parquet", contents, LABELS)
    read_image = read(tmp_path).splits["train"].read
    assert np.array_equal(read_image(2), PIXELS[2])
    with refused("has 2 of 24 images that cannot be used: row 3 of train.parquet is damaged", "row 20 of"):
        read_image(3)


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    for shard in (0, 3):
        write_parquet(tmp_path / f"train-0000{shard}-of-00004.parquet", CONTENTS, LABELS)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", CONTENTS, LABELS)
    with refused(f"`dataset` {tmp_path} lacks 2 of the 4 files of train, those with the numbers 1, 2; "):
        read(tmp_path)


def refused_files(tmp_path: Path, words: list[str], **files: list[Any]) -> None:
    for name, labels in files.items():
        file = tmp_path / f"{name.replace('__', '-')}.parquet"
        write_parquet(file, (CONTENTS * 2)[: len(labels)], labels)
    with refused(f"`dataset` {tmp_path}", *words):
        read(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    whole = LABELS.tolist()
    twice = [" holds several files for the same part of train: train-00000-of-00001.parquet, train.parquet; keep one"]
    refused_files(tmp_path / "a", twice, train__00000__of__00001=whole, train=whole)
    twice = [" holds several files for the same part of train: "]
    refused_files(tmp_path / "b", twice, train__00000__of__00001=whole, train__00000__of__00001__abc=whole)
    unnamed = [" holds Parquet files that name no split, train, validation or test, beside files that do: more.parquet"]
    refused_files(tmp_path / "c", unnamed, train=whole, more=whole)
    refused_files(tmp_path / "d", [" has images for test, but none to train on"], test=whole, test__2=whole)
    refused_files(tmp_path / "e", [" has no images of the class '7' in train"], train=whole, test=[*whole, 7])


def test_files_of_other_data_sets_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", CONTENTS, LABELS, image="img")
    write_parquet(tmp_path / "train.parquet", CONTENTS, LABELS, metadata={"huggingface": NAMES})
    with refused(
        "is of another data set than the other files: its images are in 'image', its labels in 'label', and it names 3 "
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"pixels": [b"1"], "label": [1]},
            ["train.parquet has the columns pixels, label; it needs images in one of image, img, and classes"],
        ),
        ({"image": [b"1"], "y": [1]}, ["has the columns image, y; it needs"]),
        ({"image": [[1, 2]], "label": [1]}, ["the column 'image' of train.parquet is of type list<"]),
        (
            {"image": ["1.png"], "label": [1]},
            ["the column 'image' of train.parquet is of type string; it must"],
        ),
        ({"image": [{"path": "1.png"}], "label": [1]}, ["the column 'image' of train.parquet is of type struct<path"]),
        (
            {"image": [b"1"], "label": [[1, 2]]},
            ["the column 'label' of train.parquet is of type list<", "number or a"],
        ),
        ({"image": [b"1"] * 3, "label": [1, None, None]}, ["2 of the 3 labels of train.parquet are missing"]),
        ({"image": [b"1"] * 3, "label": [1, 0.5, 0]}, ["labels of train look like measurements, not classes"]),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int8())}, ["labels of train are none"]),
    ],
)
def test_tables_without_images_and_labels_are_refused(table: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    with refused(f"`dataset` {tmp_path}: ", *words):
        read(tmp_path)


def test_labels_outside_of_the_names_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", CONTENTS, LABELS - 1, metadata={"huggingface": NAMES})
    with refused("has labels outside of its 3 classes 0 to 2: -1; give each image one of these"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no Parquet", b"PAR1" + bytes(50) + b"\x10\0\0\0PAR1"])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    for names in (("train",), ("test", "train")):
        for name in names:
            write_parquet(tmp_path / f"{name}.parquet", CONTENTS, LABELS)
        (tmp_path / f"{names[-1]}.parquet").write_bytes(content)
        with refused(f"`dataset` {tmp_path}: {names[-1]}.parquet is damaged, or no Parquet file"):
            read(tmp_path)


def test_damaged_pages_are_noticed(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "train.parquet", CONTENTS, LABELS, rows_of_group=24)
    content = bytearray(file.read_bytes())
    content[4:2000] = bytes(1996)
    file.write_bytes(content)
    with refused(f"`dataset` {tmp_path}: train.parquet is damaged"):
        read(tmp_path)


@settings(max_examples=25, deadline=None, derandomize=True)  # pyarrow may take other damage for terabytes
@given(st.data())
def test_a_file_with_other_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(write_parquet(folder / "made.parquet", CONTENTS[:12], LABELS[:12]).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "made.parquet").write_bytes(content)
    with suppress(DatasetInvalidError):
        pixels_of(read_parquet([folder / "made.parquet"], path=folder / "made.parquet"))


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with refused(f"`dataset` {tmp_path}: train.parquet cannot be read (No such file or directory)"):
        read_parquet([tmp_path / "train.parquet"], path=tmp_path)


def test_the_content_is_that_of_the_rows(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", CONTENTS, LABELS)
    expected = sorted((image.tobytes(), int(label)) for image, label in zip(PIXELS, LABELS, strict=True))
    assert content_of(read(tmp_path)) == {"train": expected}
