"""Write tables of results: `python -m benchmarks.tables`.

The tables of `results/` go into README.md beside it, those of the other files into documents in docs/: recipes.json and
derived.json into data-sets.md, replications.json into replications.md, the others into approximation.md,
energy-model.md, search.md and service.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks import bit_errors, conversion, derived, memories, recipes, replications, searches, service

HERE = Path(__file__).parent


def main() -> None:
    """Replace the tables between the markers."""
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
    docs = HERE.parent / "docs"
    for document, marker, name, table in (
        ("search.md", "searches", "searches.json", searches.table),
        ("service.md", "service", "service.json", service.table),
        ("approximation.md", "conversion", "conversion.json", conversion.table),
        ("data-sets.md", "recipes", "recipes.json", recipes.table),
        ("data-sets.md", "derived", "derived.json", derived.table),
        ("replications.md", "replications", "replications.json", replications.table),
        ("approximation.md", "bit errors", "bit_errors.json", bit_errors.table),
        ("energy-model.md", "memories", "memories.json", memories.table),
    ):
        _write(docs / document, marker, table(json.loads((HERE / name).read_text())))


def _write(document: Path, marker: str, text: str) -> None:
    pattern = re.compile(rf"(<!-- {marker}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    document.write_text(pattern.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", document.read_text(), count=1))


if __name__ == "__main__":
    main()
