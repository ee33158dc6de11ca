"""A whole study under fire for a minute. The long form is `make soak`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.soak import SHORT, Soak, report


@pytest.mark.faults
@pytest.mark.keras
@pytest.mark.long
def test_every_promise_is_kept_while_workers_and_launchers_are_killed_and_paused(tmp_path: Path) -> None:
    outcome = Soak(SHORT, tmp_path, seed=0).run()
    assert outcome.broken == [], (
        f"{asdict(outcome)}\n{report(SHORT, outcome)}\n{(tmp_path / 'launcher.log').read_text()}"
    )
