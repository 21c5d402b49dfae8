"""Try every mutant: `make mutation`, or `python -m tests.mutation NAME ...` for some of them.

Each mutant is applied in a copy of the repository, where its nearest quick tests run first and, only if these pass, all
quick tests. One that no test notices survives. The exit code is 1 if one survives, or if one is noticed that the list
calls equivalent.

What was found is kept in `build/mutation.json`, so that an interrupted run goes on where it stopped; it holds for one
content of all files, and any change of them starts afresh.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.mutation.copied import Copy
from tests.mutation.mutant import Mutant, read_mutants

ROOT = Path(__file__).parents[2]
_KEPT = ROOT / "build" / "mutation.json"
_PROCESSES = 2  # for the whole quick set, as `make quick` does


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        noticed_by: The first test that failed; empty if all passed.
        nearest: Whether it is one of the nearest tests.
        seconds: Time that it took to find.
    """

    noticed_by: str
    nearest: bool
    seconds: float

    def words(self, mutant: Mutant) -> str:
        """What happened, in a word."""
        if self.noticed_by:
            return "NOTICED" if mutant.equivalent else "caught"
        return "equivalent" if mutant.equivalent else "SURVIVED"


def tried(mutant: Mutant, copy: Copy) -> Verdict:
    """Run the nearest tests on a mutant, one file or folder after the other, then all quick tests, until one fails."""
    started = time.perf_counter()
    near = (copy.failing_test([place], edits=mutant.edits) for place in mutant.tests)
    noticed_by = next(filter(None, near), "")
    nearest = bool(noticed_by)
    if not nearest:
        noticed_by = copy.failing_test(processes=_PROCESSES, edits=mutant.edits)
    return Verdict(noticed_by=noticed_by, nearest=nearest, seconds=time.perf_counter() - started)


class Kept:
    """Verdicts that hold for one content of all files.

    Args:
        path: The file that holds them.
        fingerprint: Content hash of all files.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint
        content = json.loads(path.read_text()) if path.exists() else {}
        same = content.get("fingerprint") == fingerprint
        self.verdicts = {name: Verdict(**one) for name, one in content["verdicts"].items()} if same else {}

    def keep(self, mutant: Mutant, verdict: Verdict) -> None:
        """Add a verdict and write the file anew, whole or not at all."""
        self.verdicts[mutant.name] = verdict
        content = {
            "fingerprint": self._fingerprint,
            "verdicts": {name: asdict(one) for name, one in self.verdicts.items()},
        }
        self._path.parent.mkdir(exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(self._path)


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[NAME]...")
def main(names: tuple[str, ...]) -> None:
    """Try the named mutants, or all."""
    known = {mutant.name: mutant for mutant in read_mutants()}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"there is no mutant {unknown[0]!r}; they are: {', '.join(known)}")
    chosen = [known[name] for name in names] if names else list(known.values())
    started = time.perf_counter()
    with TemporaryDirectory(prefix="crosslayer-mutation-") as folder, Copy(ROOT, Path(folder)) as copy:
        kept = Kept(_KEPT, copy.fingerprint())
        if not kept.verdicts and (failing := copy.failing_test(processes=_PROCESSES)):
            raise click.ClickException(f"{failing} fails without any mutant; mend that first")
        width = max(len(mutant.name) for mutant in chosen)
        for mutant in chosen:
            if mutant.name not in kept.verdicts:
                kept.keep(mutant, tried(mutant, copy))
            verdict = kept.verdicts[mutant.name]
            near = "" if verdict.nearest or not verdict.noticed_by else "  (not one of its nearest tests)"
            click.echo(
                f"{mutant.name:{width}}  {verdict.words(mutant):10}  {verdict.seconds:4.0f} s  "
                f"{verdict.noticed_by or mutant.equivalent}{near}"
            )
    found = [(mutant, kept.verdicts[mutant.name]) for mutant in chosen]
    caught = sum(bool(verdict.noticed_by) for _, verdict in found)
    click.echo(
        f"{caught} of {len(found)} mutants caught, {sum(bool(mutant.equivalent) for mutant, _ in found)} proved "
        f"equivalent, in {time.perf_counter() - started:.0f} s"
    )
    wrong = [mutant for mutant, verdict in found if bool(verdict.noticed_by) == bool(mutant.equivalent)]
    for mutant in wrong:
        what = "is noticed, though the list calls it equivalent" if mutant.equivalent else "survives"
        click.echo(f"{mutant.name} {what}: {mutant.breaks}", err=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
