"""What a table says can be read on every terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tuning.commands.tables import Column, print_table

COLUMNS = [
    Column("trial", ["0", "12"], right=True),
    Column("state", ["COMPLETE", "PRUNED"]),
    Column("val accuracy", ["0.8123", "0.7001"], right=True),
    Column("learning_rate", ["0.00123", "0.1"]),
    Column("optimizer", ["adamw", "sgd"]),
]
TOGETHER = [*COLUMNS[:3], Column("parameters", ["learning_rate=0.00123, optimizer=adamw", "x=1"], folds=True)]


def printed(width: int) -> list[str]:
    file = io.StringIO()
    print_table(Console(file=file, width=width), "a study", COLUMNS, TOGETHER)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 160])
def test_nothing_is_cut_and_nothing_is_wider_than_the_terminal(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    assert "…" not in text
    for word in ("0.8123", "0.7001", "COMPLETE", "PRUNED", "12"):
        assert word in text


def test_each_width_gets_the_widest_layout_that_fits() -> None:
    assert any("learning_rate" in line and "optimizer" in line for line in printed(80)[:4])
    assert any("parameters" in line and "trial" in line for line in printed(60)[:4])
    assert [line.rstrip() for line in printed(40)] == [
        "a study",
        " 0  state COMPLETE, val accuracy 0.8123,",
        "    parameters learning_rate=0.00123,",
        "    optimizer=adamw",
        "12  state PRUNED, val accuracy 0.7001,",
        "    parameters x=1",
    ]
