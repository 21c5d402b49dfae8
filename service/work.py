"""The place and the means of evaluations, as a worker is given them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The place and the means of evaluations, named as the parameters of `search.run`.

    Attributes:
        storage: Results database, as an SQLAlchemy URL.
        workers: Number of Ray workers.
        data_dir: Folder of datasets.
        stages: Folder or fsspec URL of trained networks.
        stages_limit: Size limit of what is kept there.
        ray_address: Address of a Ray cluster to join.
        timeout_s: Seconds after which an evaluation is stopped.
    """

    storage: str
    workers: int | None = None
    data_dir: str | None = None
    stages: str | None = None
    stages_limit: str | None = None
    ray_address: str | None = None
    timeout_s: float | None = None
