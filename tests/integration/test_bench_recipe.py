"""The benchmark of networks and recipes runs to its end, as small as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.recipe import __main__ as recipe
from tests.benchmarks.recipe.variants import VARIANTS
from tests.benchmarks.report import Kept
from tests.benchmarks.throughput import data


@pytest.mark.keras
def test_it_trains_each_variant_and_keeps_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "KEPT", tmp_path / "kept")
    file = tmp_path / "recipe.json"
    assert recipe.main(["--smoke", "--result", str(file)]) == 0
    kept = Kept.read(file)
    assert capsys.readouterr().out.strip() == str(kept.report)
    assert kept.command == "make bench-recipe SMOKE=1"
    (table,) = kept.report.tables
    assert [row[0] for row in table.rows[1:]] == [VARIANTS[name].words for name in ("fast", "fast-relu")]
    assert all(0.0 < float(row[1]) < 1.0 for row in table.rows[1:])
