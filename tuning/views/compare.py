"""Two studies side by side: what was asked of each, what came of it, and what it took. No Keras."""

from __future__ import annotations

import json
import sys
from typing import Any

import optuna
from rich.console import Console

from storage.errors import shown
from studies.findings.reaching import Reached, reached
from studies.findings.savings import spending
from studies.leaderboard import value_of
from studies.objectives.objective import Objective
from studies.phases.confirmation import interval, winner
from studies.phases.known import best_configurations, confirmed, refitted, searched_value
from studies.spec import differences
from studies.stored import StudyRecord
from studies.trials import of_phase, spent_epochs
from tuning.commands.tables import Column, print_table
from tuning.words import counted, dataset_in_words

_PIPED_WIDTH = 80

Document = dict[str, Any]


def compare(first: optuna.Study, second: optuna.Study) -> Document:
    """Return two studies side by side, as `compare --json` prints them.

    Args:
        first: one study.
        second: the other.

    Returns:
        `studies`, what each is and has; `comparable`, and if not `why_not`; `spec_differences`, each with its `path`
        and the `values` of both; `same_value`, the best value that both have seen, and `reached`, the `epochs` and
        `hours` until each first had it, about. What is not known is None.

    Raises:
        ForeignStudy: another program made one.
    """
    records = [StudyRecord.of(study) for study in (first, second)]
    for record in records:
        record.require_ours()
    studies = [_one(study, record) for study, record in zip((first, second), records, strict=True)]
    why_not = _why_not(*records)
    bests = [one["best"]["value"] for one in studies if one["best"] is not None]
    objective = records[0].objective
    same = max(bests, key=objective.rank) if why_not is None and len(bests) == len(studies) else None
    mine, theirs = (record.spec.model_dump(mode="json") for record in records)
    return {
        "studies": studies,
        "comparable": why_not is None,
        "why_not": why_not,
        "spec_differences": [{"path": path, "values": [one, other]} for path, one, other in differences(mine, theirs)],
        "same_value": same,
        "reached": [None if same is None else _reached(study, same, objective) for study in (first, second)],
    }


def show_comparison(first: optuna.Study, second: optuna.Study, *, as_json: bool = False) -> None:
    """Print two studies side by side to stdout, as a table or as one JSON object."""
    found = compare(first, second)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2, allow_nan=False) + "\n")
        return
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    console = Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
    rows = _rows(found)
    names = [shown(one["study"]) for one in found["studies"]]
    columns = [Column("", [row[0] for row in rows], folds=True)]
    columns += [Column(name, [row[place] for row in rows], folds=True) for place, name in enumerate(names, start=1)]
    print_table(console, None, columns)
    if found["why_not"] is not None:
        console.print(f"Their values cannot be compared: {found['why_not']}.", soft_wrap=True)


def _one(study: optuna.Study, record: StudyRecord) -> Document:
    trials = study.get_trials(deepcopy=False)
    best = next(iter(best_configurations(study, 1)), None)
    refits = refitted(study)
    data = record.data
    return {
        "study": study.study_name,
        "dataset": record.dataset,
        "images": None if data is None else {"train": data["train"], "validation": data["validation"]},
        "budget": {"trials": record.budget, "epochs": record.budget_epochs},
        "trials": len(of_phase(trials)),
        "objective": record.objective.model_dump(),
        "best": None if best is None else {"number": best.number, "value": searched_value(best, record.objective)},
        "confirmed": _confirmed(study, record),
        "refitted": {"number": refits[0].number, "value": value_of(refits[0])} if refits else None,
        "epochs": spent_epochs(of_phase(trials)),
        "hours": sum(one.seconds for one in spending(of_phase(trials))) / 3600,
    }


def _confirmed(study: optuna.Study, record: StudyRecord) -> Document | None:
    known = confirmed(study, record.spec)
    if not known or record.data is None:
        return None
    best = winner(known)
    within = interval(best, known, record.data["validation"])
    return {"of": best.of, "mean": best.mean, "interval": [within.low, within.high]}


def _why_not(first: StudyRecord, second: StudyRecord) -> str | None:
    """Return why the values of two studies are unlike, or of different images; None where they can be compared."""
    if first.objectives != second.objectives:
        mine, theirs = (" with ".join(one.words for one in record.objectives) for record in (first, second))
        return f"they are of other objectives ({shown(mine)} and {shown(theirs)})"
    one, other = first.data, second.data
    if one is None or other is None:
        return f"{shown((first if one is None else second).name)} was never trained"
    if one["checksum"] != other["checksum"]:
        return "they are of other data"
    if one["split"] == other["split"]:
        return None
    # The validation part follows from these alone: it is the same where fewer images are trained on.
    for name in ("validation_images", "seed", "test_images"):
        mine, theirs = getattr(first.spec, name), getattr(second.spec, name)
        if mine != theirs:
            return f"they are of other validation images ({name.replace('_', ' ')} {mine} and {theirs})"
    return None


def _reached(study: optuna.Study, value: float, objective: Objective) -> Document | None:
    found: Reached | None = reached(of_phase(study.get_trials(deepcopy=False)), value, objective)
    return None if found is None else {"epochs": found.epochs, "hours": found.seconds / 3600}


def _rows(found: Document) -> list[tuple[str, str, str]]:
    lines = [_lines(one) for one in found["studies"]]
    rows = [(name, lines[0][name], lines[1][name]) for name in lines[0]]
    for one in found["spec_differences"]:
        mine, theirs = map(_value, one["values"])
        rows.append((shown(one["path"]), mine, theirs))
    if found["same_value"] is not None:
        first, second = (_taken(one) for one in found["reached"])
        share = Objective.model_validate(found["studies"][0]["objective"]).share
        rows.append((f"until {share(found['same_value'])}", first, second))
    return rows


def _taken(one: Document | None) -> str:
    return "not known" if one is None else f"{one['epochs']:,} epochs, {one['hours']:.2f} h"


def _lines(one: Document) -> dict[str, str]:
    images, best, sure, refit = one["images"], one["best"], one["confirmed"], one["refitted"]
    objective = Objective.model_validate(one["objective"])
    share = objective.share
    # What learned from the validation images, too, has no value.
    told = "" if refit is None or refit["value"] is None else f"{share(refit['value'])}, "
    return {
        "data": dataset_in_words(one["dataset"]),
        "images": "none yet" if images is None else f"{images['train']:,} + {images['validation']:,}",
        "trials": f"{one['trials']:,} of {counted(one['budget']['trials'], 'trial')}",
        "epochs": f"{one['epochs']:,}",
        "device-hours": f"{one['hours']:.2f}",
        "objective": shown(objective.words),
        "best": "none" if best is None else f"{share(best['value'])}, trial {best['number']}",
        "confirmed": "no"
        if sure is None
        else f"{share(sure['mean'])}, {' to '.join(map(share, sure['interval']))}, trial {sure['of']}",
        "trained for long": "no" if refit is None else f"{told}trial {refit['number']}",
    }


def _value(value: Any) -> str:
    return "not set" if value is None else shown(value if isinstance(value, str) else json.dumps(value))
