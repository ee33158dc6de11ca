"""``tuning tune`` with one worker that is never replaced by a fresh process, which no flag can say."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
from rich.console import Console

from storage.settings import Home
from studies.stored import DEFAULT_LIMITS, Limits
from tuning.launch.launcher import tune
from tuning.launch.understand import TuneOptions

ENDLESS: Limits = {**DEFAULT_LIMITS, "trials_per_worker": 10**9, "memory_growth_bytes": 2**62}


def main(spec: Path, study: str) -> int:
    """Run the study of a file; return the exit status."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = TuneOptions(spec_file=spec, study=study, workers=1, progress=False, limits=ENDLESS)
    return tune(options, Home.from_environment(), Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
