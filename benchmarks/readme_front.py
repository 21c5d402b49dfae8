"""Write the front in README.md from a finished search: `python -m benchmarks.readme_front [--storage URL] NAME`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
_ANSWERS = ("Cheapest", "Nothing cheaper", "NOT CONFIRMED")  # how the sentence that names the answer begins


def main() -> None:
    """Replace the text between the markers by the table that `search show` prints and the answer below it.

    Both have the savings against the right-sized network, and the answer's lines the fresh runs of both references.
    """
    arguments = sys.argv[1:] or ["digits-1"]
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "search", "show", *arguments], capture_output=True, text=True, check=True
    )
    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    end = next(number for number, line in enumerate(lines) if line.startswith("base "))
    answer = next(number for number, line in enumerate(lines) if line.startswith(_ANSWERS))
    table = "\n".join([*(line for line in lines[1 : end + 1] if line), "", *lines[answer:]])
    pattern = re.compile(r"(<!-- front: .*? -->\n```\n).*?(\n```\n<!-- end -->)", re.DOTALL)
    README.write_text(pattern.sub(lambda match: match[1] + table + match[2], README.read_text()))


if __name__ == "__main__":
    main()
