"""The benchmark of the dashboard runs to its end, as small as it can be, and measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.dashboard import __main__ as bench
from tests.benchmarks.report import Kept


def test_it_tells_time_and_what_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dashboard.json"
    assert bench.main(["--smoke", "--result", str(file)]) == 0
    kept = Kept.read(file)
    assert capsys.readouterr().out.strip() == str(kept.report)
    assert kept.command == "make bench-dashboard SMOKE=1"
    figures = kept.report.figures
    for what in ("finished", "frozen"):
        for kind in ("ours", "stock"):
            assert figures[f"{what}, first data, s of processor time, {kind}"] > 0.001
        assert figures[f"{what}, nothing changed, kB sent, ours"] < 1
        assert figures[f"{what}, a trial changed, kB sent, ours"] > 1
