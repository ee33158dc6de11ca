"""What was measured, from the files that benchmarks wrote: tables for their page, and three sentences for README.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tests.benchmarks.report import RESULTS, Kept, Table
from tests.pages.tables import markdown

OURS = "freeze_thaw"
# What the search was developed on, then what had no part in it.
GROUPS = {"LCBench": "search", "CNNs": "search-elsewhere", "TaskSet": "search-elsewhere"}


def result_names() -> list[str]:
    """Return the name of every committed result."""
    return sorted(file.stem for file in RESULTS.glob("*.json"))


@cache
def kept(name: str) -> Kept:
    """Return a committed result."""
    return Kept.read(RESULTS / f"{name}.json")


def result(name: str) -> str:
    """Return a result as Markdown: how it came to be, its tables, its notes."""
    found = kept(name)
    return "\n\n".join([_source(found), *map(_drawn, found.report.tables), *found.report.notes])


def _source(found: Kept) -> str:
    where = f", on {found.machine}" if found.machine else ""
    if not found.command:
        return f"Measured by others, copied here on {found.date}; what measured it is no part of this project."
    if found.transcribed:
        return f"Printed by `{found.command}` on {found.date}{where}, before results were kept as files."
    return f"`{found.command}`, on {found.date}{where}."


def _drawn(table: Table) -> str:
    drawn = markdown(table.rows[0], table.rows[1:])
    title = f"{table.title[:1].upper()}{table.title[1:]}"
    if table.detail:
        return f"<details><summary>{title}</summary>\n\n{drawn}\n\n</details>"
    return f"{title}:\n\n{drawn}" if title else drawn


def headlines() -> str:
    """Return what README.md says: of the search a range, since on some curves it is level with another."""
    return "\n".join(f"- {sentence}" for sentence in (_of_the_search(), _of_overhead(), _of_reliability()))


def _of_the_search() -> str:
    asha, tpe = ({group: _ratio(peer, group) for group in GROUPS} for peer in ("asha", "tpe_median"))
    others = [group for group in GROUPS if group != "LCBench"]
    return (
        "**Search.** Until one of the best hundredth of configurations is seen, 8 workers train"
        f" {_range(asha, GROUPS)} as many epochs with asynchronous successive halving (ASHA) as with freeze-thaw"
        f" search, and {_range(tpe, GROUPS)} as many with Optuna's TPE and its median pruner. On LCBench, on which the"
        f" search was developed, it is {_range(asha, ['LCBench'])} and {_range(tpe, ['LCBench'])}; on learning curves"
        f" that had no part in its development, {_range(asha, others)} and {_range(tpe, others)}."
    )


def _ratio(peer: str, group: str) -> float:
    return kept(GROUPS[group]).report.figures[f"{peer} / {OURS}, {group}, W = 8"]


def _range(ratios: Mapping[str, float], groups: Mapping[str, str] | list[str]) -> str:
    found = sorted({_short(ratios[group]) for group in groups}, key=float)
    return f"{' to '.join(dict.fromkeys([found[0], found[-1]]))} times"


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 1 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _of_overhead() -> str:
    figures = kept("overhead").report.figures
    return (
        f"**Overhead.** 24 short trials take {figures['tuning / optuna']:.2f} of the time that a script with Optuna"
        f" takes, and {figures['tuning / keras_tuner']:.2f} of KerasTuner's, each as its documentation shows it."
    )


def _of_reliability() -> str:
    figures = kept("soak").report.figures
    finished = f"{figures['trials finished']:.0f} of {figures['trials promised']:.0f} trials finished"
    return (
        f"**Reliability.** In {figures['minutes']:.0f} minutes under fire, workers were killed, paused or orphaned"
        f" {figures['workers hit']:.0f} times: {finished}, {figures['results lost']:.0f} results were lost."
    )
