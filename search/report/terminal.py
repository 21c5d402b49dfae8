"""Consoles and tables in the common style, without what searches need."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def open_console(*, stderr: bool = False) -> Console:
    """Return a console; if it is not a terminal, and so has no width, it is as wide as every table needs."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=104)


def plain_table(title: str) -> Table:
    """Return an empty table in the common style."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
