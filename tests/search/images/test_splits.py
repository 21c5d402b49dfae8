import pytest

from search.images.splits import SplitSizes, held_out, split_sizes


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ({"train": 80, "validation": 10, "test": 10}, (80, 10, 10)),
        ({"train": 80, "test": 10}, (60, 20, 10)),
        ({"train": 80, "validation": 11}, (80, 6, 5)),
        ({"train": 100}, (56, 19, 25)),
        ({"all": 100}, (56, 19, 25)),
        ({"train": 60000, "test": 10000}, (54000, 6000, 10000)),
        ({"train": 1348, "test": 449}, (1011, 337, 449)),
    ],
)
def test_what_is_missing_is_cut_from_what_there_is(counts: dict[str, int], sizes: tuple[int, int, int]) -> None:
    train, validation, test = sizes
    assert split_sizes(counts) == SplitSizes(train=train, validation=validation, test=test)
    assert sum(sizes) == sum(counts.values())


def test_few_images_give_a_larger_share() -> None:
    assert (held_out(9_999), held_out(10_000)) == (2500, 1000)
    assert held_out(1) == 1


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ({"train": 80, "validation": 11, "test": 10}, (80, 5, 10, 6)),  # half of the validation images confirm
        ({"train": 80, "validation": 20}, (80, 5, 10, 5)),
        ({"train": 80, "test": 10}, (40, 20, 10, 20)),  # as many as validate are cut for it
        ({"all": 100}, (37, 19, 25, 19)),
        ({"train": 60000, "test": 10000}, (48000, 4000, 10000, 8000)),  # no more than 4,000 choose
        ({"train": 90000, "validation": 20000, "test": 10000}, (90000, 4000, 10000, 16000)),
    ],
)
def test_for_networks_that_come_trained_other_images_confirm(
    counts: dict[str, int], sizes: tuple[int, int, int, int]
) -> None:
    train, validation, test, confirmation = sizes
    assert split_sizes(counts, trained=True) == SplitSizes(
        train=train, validation=validation, test=test, confirmation=confirmation
    )
    assert sum(sizes) == sum(counts.values())
