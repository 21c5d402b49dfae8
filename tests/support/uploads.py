"""Archives of images, as clients upload them."""

import io
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from numpy.typing import NDArray

BINARY = {"Content-Type": "application/octet-stream"}


def pictures(count: int = 60, classes: int = 3, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Gray images whose class is the brightness of their left half: shape (N, 8, 8), and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = random.integers(0, 60, (count, 8, 8), np.uint8)
    images[:, :, :4] += (labels * 60).astype(np.uint8)[:, None, None]
    return images, labels


def archive(**arrays: Any) -> bytes:
    """An .npz archive of these arrays; by default of `pictures`."""
    images, labels = pictures()
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **(arrays or {"images": images, "labels": labels}))
    return file.getvalue()


def upload(
    client: TestClient, content: Any = None, name: str = "flowers", *, key: str | None = None, **query: Any
) -> Any:
    """The response to an upload, by default of `pictures`."""
    headers = BINARY if key is None else {**BINARY, "Authorization": f"Bearer {key}"}
    content = archive() if content is None else content
    return client.post("/v1/datasets", params={"name": name, **query}, content=content, headers=headers)
