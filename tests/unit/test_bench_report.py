"""What a benchmark found is kept whole, and says how it was found."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from tests.benchmarks.data import __main__ as data
from tests.benchmarks.recipe import __main__ as recipe
from tests.benchmarks.report import Kept, Report, Table, as_make, keep, machine_in_words
from tests.benchmarks.search import __main__ as bench
from tests.benchmarks.search import budgeted, thinking
from tests.benchmarks.throughput import gpu, memory, overhead
from tests.benchmarks.throughput.contestants import Outcome
from tests.benchmarks.throughput.data import Plan
from tests.benchmarks.training import __main__ as training
from tests.faults import soak
from tests.pages.measured import kept

A_REPORT = Report(
    [Table("who is how fast", [["who", "s"], ['"we", \\ they', "1"]]), Table("", [["a"], ["b"]], detail=True)],
    ["A note.", "Another one."],
    {"we / they": 0.5},
)


def test_a_report_is_printed_with_titles_and_aligned_columns() -> None:
    printed = str(A_REPORT)
    assert printed.startswith('who is how fast\nwho           s\n"we", \\ they  1\n\na\nb\n\nA note.\nAnother one.')


def test_what_is_kept_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    kept = Kept(A_REPORT, "make bench-search SEEDS=2", "2026-11-29", "a machine", transcribed=True)
    kept.write(file)
    read = Kept.read(file)
    assert read == Kept(
        Report([Table(one.title, [list(row) for row in one.rows], one.detail) for one in A_REPORT.tables],
               list(A_REPORT.notes), A_REPORT.figures),
        "make bench-search SEEDS=2", "2026-11-29", "a machine", transcribed=True,
    )  # fmt: skip


def test_a_row_of_a_table_is_a_line_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    Kept(A_REPORT, "make", "2026-11-29", "").write(file)
    lines = [line.strip().rstrip(",") for line in file.read_text().splitlines()]
    assert '["who", "s"]' in lines
    assert json.dumps(['"we", \\ they', "1"]) in lines


def test_a_command_line_is_told_as_make_has_it() -> None:
    given = ["--seeds", "40", "--workers", "1", "8", "--until-seen", "--result", "a.json", "--jobs", "4"]
    parser = bench.make_parser()
    assert as_make("bench-search", parser, parser.parse_args(given)) == (
        'make bench-search WORKERS="1 8" SEEDS=40 UNTIL_SEEN=1'
    )
    assert as_make("bench-search", parser, parser.parse_args([])) == "make bench-search"


def test_what_readme_says_of_a_benchmark_can_be_said_of_a_new_run_of_it() -> None:
    measured = overhead.Measured()
    for name in ("tuning", "optuna", "keras_tuner", "bound"):
        measured.add(name, Outcome(10.0, 1.0, 10.0, {0: 0.9, 1: 0.8}))
    plan = Plan("mnist_sample", train_images=1, validation_images=1, epochs=1, configurations=[])
    assert set(overhead.report(measured, plan, 2, {}).figures) >= set(kept("overhead").report.figures)
    assert set(soak.report(soak.LONG, soak.Outcome()).figures) == set(kept("soak").report.figures)


@pytest.mark.parametrize("module", [bench, budgeted, thinking, overhead, memory, gpu, data, training, recipe, soak])
def test_every_benchmark_can_be_told_to_keep_what_it_prints(module: object) -> None:
    parser = module.make_parser()  # type: ignore[attr-defined]
    assert parser.parse_args(["--result", "a.json"]).result == Path("a.json")
    assert parser.parse_args([]).result is None


def test_nothing_is_kept_unless_asked_for_and_no_number_that_is_none(tmp_path: Path) -> None:
    parser = thinking.make_parser()
    report = Report([], figures={"known": 1 / 3, "unknown": math.nan, "endless": math.inf})
    keep(report, "bench-thinking", parser, parser.parse_args([]))
    assert not list(tmp_path.iterdir())
    file = tmp_path / "kept.json"
    keep(report, "bench-thinking", parser, parser.parse_args(["--result", str(file)]))
    kept = Kept.read(file)
    assert kept.report.figures == {"known": 0.3333}
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", kept.date)
    assert kept.machine == machine_in_words()
    assert not kept.transcribed


def test_the_machine_is_told_in_words() -> None:
    assert re.fullmatch(r".+ with \d+ cores?, \d+ GB of memory, no GPU, Python 3\.\d+\.\d+", machine_in_words())


def test_how_long_the_search_thinks_is_kept_as_it_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "thinking.json"
    assert thinking.main(["--trials", "12", "--handovers", "3", "--contestants", "random", "--result", str(file)]) == 0
    kept = Kept.read(file)
    assert capsys.readouterr().out.strip() == str(kept.report)
    assert kept.command == "make bench-thinking CONTESTANTS=random TRIALS=12 HANDOVERS=3"
