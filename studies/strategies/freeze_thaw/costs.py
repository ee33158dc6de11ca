"""What an epoch of a configuration is expected to cost."""

from __future__ import annotations

import numpy as np

from studies.space import Points

# How much a feature's slope is held back, in units of one trial's evidence: with few trials all cost alike.
RIDGE = 1.0


def expected_log_seconds(features: Points, seconds: Points, wanted: Points) -> Points:
    """Return the expected logarithm of an epoch's seconds `(m,)`, by ridge regression on the features.

    Args:
        features: `(n, d)` of the trials whose epochs were timed; NaN where a parameter is inactive.
        seconds: `(n,)` of an epoch of each, above 0.
        wanted: `(m, d)` of the configurations in question.
    """
    if not len(seconds):
        return np.zeros(len(wanted))
    known, asked = (np.nan_to_num(part, nan=0.5) - 0.5 for part in (features, wanted))
    logs = np.log(seconds)
    centre = known.mean(axis=0)
    deviations = known - centre
    gram = deviations.T @ deviations + RIDGE * np.eye(known.shape[1])
    slopes = np.linalg.solve(gram, deviations.T @ (logs - logs.mean()))
    result: Points = logs.mean() + (asked - centre) @ slopes
    return result
