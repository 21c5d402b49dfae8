"""The text of C files, as far as it is looked at without a compiler."""

from __future__ import annotations

import re


def without_comments(text: str) -> str:
    """The text with a blank for each comment."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def closing(text: str, start: int) -> int:
    """The place of the brace that closes the one at `start`; the end of the text if there is none."""
    depth = 0
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.start()
    return len(text)
