"""Open whatever people give as their images: a path, an import path, or Python objects."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path

from search.errors import DatasetInvalidError, UsageError
from search.images.content import Source as Source
from search.images.content import SourceSplit as SourceSplit
from search.images.content import check_image_size, listed, suggested_name
from search.images.python_path import import_function, is_import_path, words_of

_FORMS = "a folder of images, an .npz or .parquet file, a folder of these, or package.module:function"
_KNOWN_TO_NPZ = (b"PK", b"\x93NUMPY", b"\x80")  # .zip, .npy and pickles, of which it says what to do instead


def open_source(
    given: str | os.PathLike[str],
    *,
    image_size: tuple[int, int] | None = None,
    folder: Path,
    parameter: str = "dataset",
) -> Source:
    """Open images that are given as text.

    Args:
        given: The path of a folder in ImageFolder layout, of an .npz file, of a Parquet file or a folder of these; or
            `package.module:function`, a function without arguments that returns what `source_of` takes.
        image_size: Height and width that images are resized to: bilinear and antialiased, without keeping their
            proportions. Without it, all must have one size.
        folder: Folder in which the module of a function is looked for first.
        parameter: The parameter that messages name.

    Raises:
        UsageError: If `given` is no text, or `image_size` no size.
        DatasetInvalidError: If there is nothing of that name, or it cannot be used.
    """
    return _opened(given, image_size, folder, parameter)


def source_of(data: object, *, image_size: tuple[int, int] | None = None) -> Source:
    """Open images that are given as Python objects.

    Args:
        data: A pair of images and labels, as arrays or tensors; pairs or torch Datasets for train and test, or for
            train, validation and test; a single Dataset; a mapping from "train", "validation" and "test" to pairs or
            Datasets; or a path, as for `open_source`, with modules looked for in the working directory.
        image_size: As for `open_source`.

    Raises:
        UsageError: If `image_size` is no size.
        DatasetInvalidError: If they are other objects, or cannot be used.
    """
    if isinstance(data, str | os.PathLike):
        return _opened(data, image_size, Path.cwd(), "data")
    from search.images.python_objects import read_objects

    return read_objects(data, name="images", subject="`data`", location=None, image_size=image_size)


def _opened(given: object, image_size: tuple[int, int] | None, folder: Path, parameter: str) -> Source:
    check_image_size(image_size)
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise UsageError(f"`{parameter}` must be {_FORMS}, got {given!r}")
    path = Path(os.path.abspath(text))
    if _exists(path, parameter):
        return (_of_folder if path.is_dir() else _of_file)(path, image_size, parameter)
    if is_import_path(text):
        return _of_function(text, image_size, folder, parameter)
    hint = f"; a function is named without .py: {text.replace('.py:', ':')}" if ".py:" in text else ""
    raise DatasetInvalidError(
        f"there is nothing at {path}; `{parameter}` takes {_FORMS}, and the names that `search datasets` lists{hint}"
    )


def _exists(path: Path, parameter: str) -> bool:
    try:
        path.stat()
    except PermissionError as error:
        raise DatasetInvalidError(f"`{parameter}` {path} cannot be read: {error.strerror}") from None
    except (OSError, ValueError):  # ValueError: a null character
        return False
    return True


def _of_folder(path: Path, image_size: tuple[int, int] | None, parameter: str) -> Source:
    from search.images.image_folder import read_image_folder, some_image_in_folders

    files = [*_parquet_files(path), *_parquet_files(path / "data")]
    if not files:
        return read_image_folder(path, image_size=image_size, parameter=parameter)
    subject = f"`{parameter}` {path}"
    image = some_image_in_folders(path, subject)
    if image is not None:
        raise DatasetInvalidError(
            f"{subject} holds Parquet files ({listed(file.name for file in files)}) beside folders of images "
            f"({image}); give a folder that holds one of them"
        )
    from search.images.parquet import read_parquet

    return read_parquet(files, path=path, image_size=image_size, parameter=parameter)


def _of_file(path: Path, image_size: tuple[int, int] | None, parameter: str) -> Source:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DatasetInvalidError(f"`{parameter}` {path} cannot be read: {error.strerror}") from None
    if path.suffix == ".parquet" or start.startswith(b"PAR1"):
        from search.images.parquet import read_parquet

        return read_parquet([path], path=path, image_size=image_size, parameter=parameter)
    if path.suffix == ".npz" or start.startswith(_KNOWN_TO_NPZ):
        from search.images.npz import read_npz

        return read_npz(path, name=path.stem, image_size=image_size, parameter=parameter)
    raise DatasetInvalidError(f"`{parameter}` {path} is a file of another kind; give {_FORMS}")


def _of_function(path: str, image_size: tuple[int, int] | None, folder: Path, parameter: str) -> Source:
    try:
        function = import_function(path, folder=str(folder), parameter=parameter, does="returns images")
    except UsageError as error:
        raise DatasetInvalidError(str(error)) from error
    from search.images.python_objects import read_objects

    needed = _needed_arguments(function)
    if needed:
        raise DatasetInvalidError(f"`{parameter}` {path} needs {listed(needed)}; it must need no arguments")
    try:
        data = function()
    except (Exception, SystemExit) as error:
        raise DatasetInvalidError(f"`{parameter}` {path}() failed: {words_of(error)}") from error
    return read_objects(
        data,
        name=suggested_name(path),
        subject=f"what `{parameter}` {path} returns",
        location=path,
        image_size=image_size,
    )


def _needed_arguments(function: Callable[..., object]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # Python does not know those of all functions
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is inspect.Parameter.empty and one.kind not in optional]


def _parquet_files(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # there is no such folder; or it is refused when its images are looked for
        return []
    return [folder / name for name in names if name.endswith(".parquet") and not name.startswith(".")]
