"""The tables of what was found, and the sentences below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.leases import BEAT_S
from tests.benchmarks.best.quiet import QUIET
from tests.benchmarks.claims.figures import Found, Latency, bound, fairness, others, per_s, share, use_of, wanted
from tests.benchmarks.claims.simulated import Played
from tests.benchmarks.claims.worker import BEAT, STEPS
from tests.benchmarks.report import Report, Table
from tests.benchmarks.storage.studies import REPORTS
from tests.benchmarks.throughput.measures import shown

All = Mapping[str, Mapping[int, Found]]
"""What was found, by database and by number of workers."""


def report(found: All, *, cores: int, epochs_s: Sequence[float], gpus: int, notes: Sequence[str]) -> Report:
    """Return what is printed.

    Args:
        found: all of it.
        cores: of this machine.
        epochs_s: the lengths of an epoch that were played; the first one was measured, too.
        gpus: the workers of the last table.
        notes: what else is to be said.
    """
    workers = {name: {n: one for n, one in each.items() if n != gpus} for name, each in found.items()}
    tables = [
        Table("Workers without pause, calls a second and milliseconds a call", _busy(workers)),
        Table("What they had of what they share, and what bounds them", _bounds(workers, cores)),
        Table(
            "The share of a worker's time that is no training, %; on this machine, and with a core for each worker",
            _shares(workers, epochs_s),
        ),
        Table(
            f"{gpus:,} GPUs on paper, a core for each worker, {cores} for the server", _on_paper(found, gpus, epochs_s)
        ),
        Table("A call of the only worker at work, in ms, in a study where others hold trials", _alone(found), True),
    ]
    return Report(
        tables, [*_words(cores), *notes, *_disturbed(workers, cores)], _figures(workers, found, gpus, epochs_s)
    )


def _disturbed(found: All, cores: int) -> list[str]:
    crowds = [crowd for each in found.values() for one in each.values() for crowd in (one.crowd, one.steady) if crowd]
    most = max((others(crowd, cores) for crowd in crowds), default=0.0)
    if most <= QUIET:
        return []
    share = f"{100 * most:.0f}%"
    words = "what is measured is slower than it need be, and further from what is simulated"
    return [f"Other work had up to {share} of the cores meanwhile: {words}."]


def _words(cores: int) -> list[str]:
    trial = (
        f"A trial is {len(STEPS)} calls, {REPORTS} of them reports, and a beat each {BEAT_S:g} s beside them. A report"
        " writes a value, reads what others did and asks whether the trial goes on; a claim reads, asks what comes next"
        " and takes it. Who draws and decides thinks of nothing here."
    )
    simulated = (
        "Simulated workers are on a virtual clock, and their calls take what one worker alone was measured to take in"
        f" the same run, with as many trials running; all share the {cores} cores, unless they are said to be apart. In"
        " brackets: simulated, since so many do not fit."
    )
    return [trial, simulated]


def _busy(found: All) -> list[list[str]]:
    head = ["database", "workers", "claims/s", "simulated", "reports/s", "simulated", "a claim: median, p99, worst",
            "a report: median, p99, worst", "slowest / mean"]  # fmt: skip
    rows = [head]
    for name, each in found.items():
        for workers, one in each.items():
            played = one.played["busy"]
            row = [name, str(workers)]
            for step in ("claim", "report"):
                row += ["-" if one.crowd is None else shown(per_s(one.crowd, step), 1), shown(played.per_s(step), 1)]
            row += [_latency(one, step) for step in ("claim", "report")]
            rows.append([*row, "-" if one.crowd is None else shown(fairness(one.crowd))])
    return rows


def _latency(one: Found, step: str) -> str:
    waited = one.played["busy"].waited[step] if one.crowd is None else [call.wall_s for call in one.crowd.calls(step)]
    found = Latency.of(waited)
    words = ", ".join(f"{ms:,.0f}" if ms >= 100 else shown(ms, 1) for ms in vars(found).values())
    return f"({words})" if one.crowd is None else words


def _bounds(found: All, cores: int) -> list[list[str]]:
    head = ["database", "workers", "cores, %", "of it the server", "lock held, %", "waiting for it, %", "at disk, %",
            "without flushes", "bound", "a connection that works waits for"]  # fmt: skip
    rows = [head]
    for name, each in found.items():
        for workers, one in each.items():
            if one.crowd is None or one.unflushed is None:
                continue
            use = use_of(one.crowd, cores, one_writer=one.alone.one_writer)
            faster = per_s(one.unflushed, "report") / per_s(one.crowd, "report")
            parts = [shown(100 * part, 0) for part in vars(use).values()]
            words = bound(one.crowd, one.unflushed, cores, one_writer=one.alone.one_writer)
            seen = one.crowd.server.waits
            total = max(1, sum(seen.values()))
            waits = ", ".join(f"{event} {100 * number / total:.0f}%" for event, number in seen.most_common(3))
            rows.append([name, str(workers), *parts, f"{faster:.2f} times", words, waits or "-"])
    return rows


def _shares(found: All, epochs_s: Sequence[float]) -> list[list[str]]:
    first = f"{epochs_s[0]:g} s"
    here = [f"epochs of {first}, measured", "simulated"]
    rows = [["database", "workers", *here, *(f"apart, {epoch_s:g} s" for epoch_s in epochs_s)]]
    for name, each in found.items():
        for workers, one in each.items():
            measured = "-" if one.steady is None else _percent(share(one.steady))
            apart = [_percent(one.apart[f"{epoch_s:g} s"].share) for epoch_s in epochs_s]
            rows.append([name, str(workers), measured, _percent(one.played[first].share), *apart])
    return rows


def _percent(value: float) -> str:
    return shown(100 * value, 2 if value < 0.1 else 1)


def _on_paper(found: All, gpus: int, epochs_s: Sequence[float]) -> list[list[str]]:
    head = ["database", "an epoch", "claims/s", "reports/s", "beats/s", "made, %", "lock held, %", "server's cores, %",
            "share of a worker's time, %"]  # fmt: skip
    rows = [head]
    for name, each in found.items():
        for epoch_s in epochs_s:
            asked, played = wanted(gpus, epoch_s, BEAT_S), each[gpus].apart[f"{epoch_s:g} s"]
            row = [name, f"{epoch_s:g} s", *(shown(asked[step], 1) for step in ("claim", "report", BEAT))]
            made = played.per_s("report") / asked["report"]
            server = "-" if each[gpus].alone.one_writer else shown(100 * played.cores, 0)
            row += [shown(100 * made, 0), shown(100 * played.lock, 0), server, _percent(played.share)]
            rows.append(row)
    return rows


def _alone(found: All) -> list[list[str]]:
    steps = [*dict.fromkeys(STEPS), BEAT]
    rows = [["database", "trials that run", *steps, "a flush"]]
    for name, each in found.items():
        for workers, one in each.items():
            took = [shown(one.alone.median_ms(step), 1) for step in steps]
            rows.append([name, str(workers), *took, shown(one.alone.flush_s * 1e3, 1)])
    return rows


def _figures(found: All, every: All, gpus: int, epochs_s: Sequence[float]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, each in found.items():
        for workers, one in each.items():
            for step in ("claim", "report"):
                if one.crowd is not None:
                    figures[f"{step}s/s, {workers} on {name}"] = per_s(one.crowd, step)
                figures[f"{step}s/s, {workers} on {name}, simulated"] = one.played["busy"].per_s(step)
            if one.steady is not None:
                figures[f"share, {workers} on {name}"] = share(one.steady)
            figures |= _of_shares(f"{workers} on {name}", one.apart)
        figures |= _of_shares(f"{gpus} on {name}", every[name][gpus].apart)
    return figures


def _of_shares(who: str, played: Mapping[str, Played]) -> dict[str, float]:
    return {f"share, {who}, epochs of {what}, apart": one.share for what, one in played.items() if what != "busy"}
