"""Write tables of results: `python -m benchmarks.tables`.

Those of `results/` go into README.md beside it, that of `bit_errors.json` into docs/approximation.md, that of
`searches.json` into docs/search.md, that of `service.json` into docs/service.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.bit_errors import table as bit_error_table
from benchmarks.searches import table as search_table
from benchmarks.service import table as service_table

HERE = Path(__file__).parent


def main() -> None:
    """Replace what is between the markers."""
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
    _write(HERE / "README.md", "results", "\n\n".join(sections))
    searches = json.loads((HERE / "searches.json").read_text())
    _write(HERE.parent / "docs" / "search.md", "searches", search_table(searches))
    service = json.loads((HERE / "service.json").read_text())
    _write(HERE.parent / "docs" / "service.md", "service", service_table(service))
    found = json.loads((HERE / "bit_errors.json").read_text())
    _write(HERE.parent / "docs" / "approximation.md", "bit errors", bit_error_table(found))


def _write(document: Path, marker: str, text: str) -> None:
    pattern = re.compile(rf"(<!-- {marker}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    document.write_text(pattern.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", document.read_text(), count=1))


if __name__ == "__main__":
    main()
