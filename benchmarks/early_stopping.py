"""The gain of the rest of a retraining, on stored evaluations: `python -m benchmarks.early_stopping DB`.

Counts the evaluations trained to the end that would have been stopped early, although they reached the bar in the end.
"""

from __future__ import annotations

import sys
from statistics import quantiles

from search.evaluation.early_stopping import is_beaten
from search.locations import storage_url
from search.store.database import Store


def main() -> None:
    """Print the distribution of gains, and the wrong decisions."""
    with Store.open(storage_url(sys.argv[1] if len(sys.argv) > 1 else None), create=False) as store:
        searches = store.searches.all()
        evaluations = [record.evaluation for search in searches for record in store.evaluations.of_search(search)]
    stopped = sum(one.stopped for one in evaluations)
    whole = [(e.early_accuracy, e.accuracy) for e in evaluations if e.early_accuracy is not None and not e.stopped]
    gains = sorted(last - early for early, last in whole)
    cuts = quantiles(gains, n=100)
    wrong = sum(is_beaten(early, last) for early, last in whole)
    sys.stdout.write(
        f"{len(whole)} evaluations to the end, {stopped} stopped early\n"
        f"gain in points: median {cuts[49] * 100:.2f}, 95 % {cuts[94] * 100:.2f}, 99 % {cuts[98] * 100:.2f}, "
        f"most {gains[-1] * 100:.2f}\n"
        f"{wrong} of them would have been stopped at the accuracy that they reached in the end\n"
    )


if __name__ == "__main__":
    main()
