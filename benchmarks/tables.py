"""Write the tables in README.md from the results beside it: `python -m benchmarks.tables`."""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Replace what is between the markers by a table for each file of results."""
    sections = []
    for path in sorted((HERE / "results").glob("*.json")):
        content = json.loads(path.read_text())
        machine = ", ".join(f"{name}: {value}" for name, value in content["machine"].items())
        rows = ["| measured | ratio | bound | median times, ms |", "|---|---|---|---|"]
        for row in content["results"]:
            bound = "" if row["target"] is None else f"{'>=' if row['at_least'] else '<='} {row['target']:g}"
            bound += "" if row["met"] else " missed"
            times = ", ".join(f"{name} {ms:.3g}" for name, ms in row["times_ms"].items())
            rows.append(f"| {row['name']} | {row['ratio']:.2f} | {bound} | {times} |")
        sections.append("\n".join([f"**{path.stem}**: {machine}", "", *rows]))
    readme = HERE / "README.md"
    pattern = re.compile(r"(<!-- results: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    text = "\n" + "\n\n".join(sections) + "\n\n"
    readme.write_text(pattern.sub(lambda match: match[1] + text + match[2], readme.read_text()))


if __name__ == "__main__":
    main()
