"""Where images are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from search.images.library import ImageLibrary
from search.locations import data_dir as find_data_dir
from search.locations import image_dir as find_image_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlaces:
    """Where images are.

    Attributes:
        data_dir: Folder of the files of built-in data sets.
        library: The other data sets.
    """

    data_dir: Path
    library: ImageLibrary

    @classmethod
    def at(
        cls, data_dir: str | os.PathLike[str] | None = None, image_dir: str | os.PathLike[str] | None = None
    ) -> ImagePlaces:
        """Return the places as given, or else by environment variable or default; see `search.locations`."""
        folder = find_image_dir() if image_dir is None else Path(image_dir)
        return cls(data_dir=find_data_dir(data_dir), library=ImageLibrary(folder))
