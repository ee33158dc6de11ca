"""A study's report, section by section. No Keras."""

from __future__ import annotations

from pathlib import Path

import optuna

from storage.errors import shown
from storage.settings import Home, mark
from studies.leaderboard import best_trial, value_of
from studies.phases.known import refitted
from studies.status import counts_of
from studies.stored import StudyRecord
from tuning.views.report.asked import asked_section, data_section
from tuning.views.report.document import Report
from tuning.views.report.mistakes import mistakes_section
from tuning.views.report.results import best_section, confirmed_section, winner_section
from tuning.views.report.search import search_sections
from tuning.views.report.subject import Subject
from tuning.views.report.writing import write
from tuning.words import counted, dataset_in_words


def report_of(study: optuna.Study, home: Home) -> Report:
    """Return what there is to say of a study.

    Raises:
        ForeignStudy: another program made it.
        SpecMismatch: its spec is another version's.
    """
    subject = Subject.of(study, home)
    sections = [
        asked_section(subject),
        best_section(subject),
        confirmed_section(subject),
        winner_section(subject),
        *search_sections(subject),
        data_section(subject),
        mistakes_section(subject),
    ]
    return Report(
        subject.name,
        _lead(subject),
        sections,
        again=subject.command("report"),
        check=subject.command("verify", FILE="report.html"),
    )


def write_report(study: optuna.Study, home: Home, output: Path | None = None) -> list[Path]:
    """Write a study's report; return the page's file and that of the Markdown.

    Args:
        study: whose it is.
        home: where artifacts, data and exported models are.
        output: the page's file; by default the study's own under the home.

    Raises:
        BadInput: another program made the study, or the file cannot be written.
    """
    report = report_of(study, home)
    if output is not None:
        return write(report, output.expanduser())
    uid = StudyRecord.of(study).uid
    folder = home.make(home.report(study.study_name, uid))
    written = write(report, folder / "report.html")
    if uid:
        mark(folder, uid)
    return written


def _lead(subject: Subject) -> str:
    count = counts_of(subject.searched)
    over = count["complete"] + count["pruned"]
    said = [
        (
            f"{over} of {counted(subject.record.budget, 'trial')} on {dataset_in_words(subject.spec.dataset)} are over,"
            f" {count['complete']} of them trained to their end."
        )
    ]
    best = best_trial(subject.study)
    words, share = shown(subject.objective.words), subject.objective.share
    if best is not None and (value := value_of(best)) is not None:
        said.append(f"The search's best is trial {best.number}, with a {words} of {share(value)}.")
    refits = refitted(subject.study)
    refit_value = value_of(refits[0]) if refits else None
    if refit_value is not None:
        said.append(f"Trained for long, the winner has {share(refit_value)}.")
    return " ".join(said)
