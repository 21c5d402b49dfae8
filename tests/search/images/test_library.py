import os
import time
from pathlib import Path

import pytest

from search.images.library import ImageLibrary
from tests.support.sources import shapes

SOURCE = shapes({"all": (5, 4)})


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, recent = tmp_path / ".storing-old", tmp_path / ".storing-recent"
    for left in (old, recent):
        (left / "data").mkdir(parents=True)
        (left / "data" / "pixels.npy").write_bytes(b"half")
    day_ago = time.time() - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    ImageLibrary(tmp_path).store(SOURCE)
    assert not old.exists()
    assert recent.exists()


def test_images_that_are_not_stored_to_the_end_leave_nothing(tmp_path: Path) -> None:
    def stop(done: int, of: int) -> None:
        assert of == 9
        if done == 5:
            raise KeyboardInterrupt

    library = ImageLibrary(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        library.store(SOURCE, on_image=stop)
    assert list(tmp_path.iterdir()) == []
    assert library.all() == []
