"""The trials of an objective on this machine: workers started, watched, and what became of the study told."""

from __future__ import annotations

from pathlib import Path

import optuna

from storage.claims import Claims
from storage.settings import Home
from studies.leaderboard import best_trial
from studies.stored import StudyRecord
from tuning.launch.progress import Progress
from tuning.launch.summary import Report
from tuning.launch.watching import Watching
from tuning.launch.workforce import Workforce
from tuning.machine.devices import Placement
from tuning.messages import WorkerOptions
from tuning.words import counted, duration, parameters_in_words


def workforce_of(
    claims: Claims, places: list[Placement], file: Path, home: Home, url: str, record: StudyRecord, report: Report
) -> Workforce:
    """Return the workers of an objective.

    Args:
        claims: of its study.
        places: where each runs.
        file: what they are handed, see `tuning.user_functions`.
        home: where files are.
        url: where the study is.
        record: what it records.
        report: takes one line about each death.
    """

    def options(place: Placement) -> WorkerOptions:
        return WorkerOptions.at(place, record.name, None, None, function=str(file))

    return Workforce.of_study(claims, places, options, home=home, url=url, record=record, report=report)


class Optimizing(Watching):
    """Runs the trials of an objective: until the budget is spent, the time is up, or a stop is asked for.

    Args:
        study: Optuna's own.
        trials: how many were asked for.
        claims: the study's.
        workforce: its workers on this machine.
        progress: shows what happens meanwhile.
        report: takes one line for the user.
        timeout_s: seconds in which it ends; None for as long as it takes.
    """

    def __init__(
        self,
        study: optuna.Study,
        trials: int,
        claims: Claims,
        workforce: Workforce,
        progress: Progress,
        report: Report,
        timeout_s: float | None,
    ) -> None:
        super().__init__(claims, workforce, None, progress, report, timeout_s)
        self._study = study
        self._trials = trials

    def run(self) -> int:
        """Run them; see `Watching.run`. Where none is left, no worker is started."""
        standing = self._claims.standing()
        if standing.done:
            self._report(f"nothing to do: {standing.finished} of {standing.budget} trials are finished")
            return 0
        return super().run()

    def _begin(self) -> None:
        self._workforce.start(preflight=False)
        self._workforce.go()

    def _conclude(self, elapsed_s: float) -> None:
        standing, best = self._claims.standing(), best_trial(self._study)
        self._report(
            f"{standing.finished} of {counted(standing.budget, 'trial')} finished ({standing.complete} complete,"
            f" {standing.pruned} pruned), {standing.failed} failed, in {duration(elapsed_s)}"
        )
        if best is not None:
            self._report(f"best: trial {best.number}, {best.value:.6g}, {parameters_in_words(best.params)}")
        if not standing.done:
            why = "interrupted" if self.interrupted else "time is up"
            waiting = counted(standing.waiting, "trial")
            self._report(f"{why}: {waiting} back in the queue; the same call goes on")
        elif standing.budget < self._trials:
            self._report(f"the objective or its sampler stopped the study before its {self._trials} trials")
