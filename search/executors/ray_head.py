"""Checks that Ray is alive: its head and its process on this machine."""

from __future__ import annotations

import socket
import time

import ray

from search.errors import ExecutorError
from search.executors.ray_errors import KEPT

_CHECK_S = 2.0
# A cluster's head may be restarting, which Ray waits for; on this machine nobody restarts it.
_SILENT_S = {"here": 5.0, "elsewhere": 40.0}


class RayHead:
    """Ray's head and its process on this machine, the raylet; nothing works without either.

    Ray ends a driver's process silently, a minute after the head is lost or as soon as the driver needs a lost raylet.
    """

    def __init__(self, address: str | None) -> None:
        context = ray.get_runtime_context()
        self._patience_s = _SILENT_S["here" if address is None else "elsewhere"]
        self._head: tuple[str, int] | None = None
        self._raylet: tuple[str, int] | None = None
        # A ray:// client notices a lost head by its own connection, and may not reach these addresses.
        if address is None or not address.startswith("ray://"):
            self._head = _host_and_port(context.gcs_address)
            here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
            self._raylet = (here["NodeManagerAddress"], here["NodeManagerPort"])
        self._checked_at = self._answered_at = time.monotonic()

    def check(self) -> None:
        """Raise ExecutorError if one of them no longer answers."""
        now = time.monotonic()
        if self._head is None or self._raylet is None or now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        if (why := _unreachable(self._raylet)) is not None:
            raise ExecutorError(f"Ray was lost: its process on this machine (raylet) does not answer: {why}. {KEPT}")
        why = _unreachable(self._head)
        if why is None:
            self._answered_at = now
        elif now - self._answered_at > self._patience_s:
            raise ExecutorError(f"Ray was lost: its head (gcs_server) does not answer: {why}. {KEPT}")


def _unreachable(place: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(place, timeout=_CHECK_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
