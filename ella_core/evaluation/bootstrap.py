"""Confidence intervals by resampling prompts.

Prompts are drawn, not questions or pictures, because the answers about one prompt depend on each
other.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .scores import Tally

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
LEVEL = 0.95

#: Low and high end.
Interval = tuple[float, float]


def interval(tally: Tally) -> Interval:
    """Return the percentile interval of a mean."""
    import numpy as np

    sums = np.array(list(tally.sums.values()))
    counts = np.array(list(tally.counts.values()))
    drawn_RP = _draw(len(sums))
    return _ends((drawn_RP @ sums) / (drawn_RP @ counts))


def difference_interval(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the percentile interval of mean(second) - mean(first), paired by prompt.

    Args:
        first: a score for each prompt.
        second: those of the other run, in the same order.
    """
    import numpy as np

    differences = np.array(second) - np.array(first)
    drawn_RP = _draw(len(differences))
    return _ends(drawn_RP @ differences / len(differences))


def _draw(prompts: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Return how often each prompt is drawn in each resample: the same numbers at every call."""
    import numpy as np

    chances = np.full(prompts, 1 / prompts)
    return np.random.default_rng(0).multinomial(prompts, chances, size=RESAMPLES)


def _ends(means: "np.ndarray[Any, np.dtype[np.float64]]") -> Interval:
    import numpy as np

    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
