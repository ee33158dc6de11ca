"""What the dashboard's page takes of a study besides its trials: what it says of itself, what is searched, the best."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import TrialState
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._inmemory_cache import _CachedExtraStudyProperty
from optuna_dashboard._named_objectives import get_objective_names
from optuna_dashboard._pareto_front import get_pareto_front_trials
from optuna_dashboard._serializer import serialize_frozen_study, serialize_study_detail

from storage import attributes
from storage.rows.trial_rows import distribution_of
from storage.rows.watched_rows import StudyRows
from tuning.commands.dashboard.reads.plots import Plot, Plots
from tuning.commands.dashboard.reads.shown_trial import Content, ShownTrial

PREFERENTIAL: Final = "preference:is_preferential"
"""The system attribute of a study that people judge by hand in the dashboard."""


def listed(row: StudyRows) -> dict[str, Any]:
    """Return a study as it stands in the list of studies."""
    return dict(serialize_frozen_study(_frozen(row)))


def head(row: StudyRows, contents: Iterable[Content], note: str, plots: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's page without the trials.

    Args:
        row: what the database has of it.
        contents: of its trials, each once.
        note: what is said of it where nobody has written a note.
        plots: what is drawn besides what somebody has saved, by its id: plotly's data and layout.
    """
    space, names, has_curve = _CachedExtraStudyProperty(), dict[str, bool](), False
    for content in contents:
        has_curve |= content.has_curve
        for name, is_number in content.user:
            names[name] = names.get(name, True) and is_number
        if content.params is not None:
            found = {name: distribution_of(text) for name, text in content.params}
            space._update_search_space(SimpleNamespace(distributions=found))
    said = serialize_study_detail(
        _frozen(row),
        [],
        [],
        space.intersection_search_space,
        space.union_search_space,
        list(names.items()),
        has_curve,
        {name: compact(plot) for name, plot in plots.items()} | get_plotly_graph_objects(row.system),
        [],
    )
    if not said["note"]["body"]:
        said["note"]["body"] = note
    return {key: value for key, value in said.items() if key not in ("trials", "best_trials")}


def best(row: StudyRows, trials: Sequence[ShownTrial]) -> list[int]:
    """Return the places of the best trials: one, or with several objectives all that none is better than.

    Only COMPLETE ones that keep to their constraints are; where there is one objective, the first of equals, of those
    of the search.
    """
    several = len(row.directions) > 1
    fit = {
        trial.number: place
        for place, trial in enumerate(trials)
        if trial.state == TrialState.COMPLETE
        and trial.feasible
        and (several or trial.phase == attributes.SEARCH)
        and len(trial.values) == len(row.directions)
    }
    candidates = [trials[place] for place in fit.values()]
    if several:
        return [fit[trial.number] for trial in get_pareto_front_trials(candidates, row.directions)]
    sign = -1 if row.directions == [StudyDirection.MINIMIZE] else 1
    first = max(candidates, key=lambda trial: sign * trial.values[0], default=None)
    return [fit[first.number]] if first is not None else []


def plots_of(row: StudyRows, trials: Sequence[ShownTrial], now: float) -> dict[str, Plot]:
    """Return the plots that are ours, by their ids; see `Plots`."""
    (name, *_) = get_objective_names(row.system) or ["value"]
    return Plots(trials, str(name), maximize=row.directions[:1] == [StudyDirection.MAXIMIZE], now=now).all()


def _frozen(row: StudyRows) -> FrozenStudy:
    return FrozenStudy(row.name, None, row.user, row.system, row.study_id, directions=row.directions)


compact: Final = json.JSONEncoder(separators=(",", ":")).encode
