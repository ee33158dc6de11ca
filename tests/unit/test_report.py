"""A study's report: what is in it, that the same study makes the same bytes, and that no name in it does anything."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from storage import attributes
from storage.database import Database
from storage.errors import BadInput, shown
from storage.settings import Home, owner_of
from studies.findings.importance import LEAST_TRIALS, MOST_TRIALS, importances
from studies.findings.savings import saving, spending
from studies.objectives.objective import VALIDATION_ACCURACY
from studies.trials import of_phase
from tests.reported import SPEC, UID, add_later_phases, make_study, put_bundle, whole_study
from tuning.views.report.asked import dataset_word
from tuning.views.report.document import Report, Section, Table
from tuning.views.report.report import report_of, write_report
from tuning.views.report.subject import Subject
from tuning.views.report.writing import MOST_BYTES, html_of, markdown_of, script_json
from tuning.words import markdown_text

HOSTILE = "<script>alert(1)</script> | `x` *b* _i_ [l](javascript:1) ![p](http://e) \\ $a$ $$ &lt; </title> \"'#"
COLOUR = "</text><script>alert(2)</script>"


class Tags(HTMLParser):
    """What a browser would make of a page: its elements, their addresses, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_tells_everything_in_two_forms_and_needs_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with whole_study(home) as study:
        page, beside = write_report(study, home)
        report = report_of(study, home)
    text = page.read_text()
    assert text == html_of(report), "the same study gives the same bytes"
    assert_figures(text, report)
    assert page.stat().st_size < MOST_BYTES
    assert owner_of(page.parent) == UID
    tags = Tags(text)
    assert all(address.startswith(("data:image/", "#")) for address in tags.addresses)
    assert tags.names.count("script") == 1
    assert tags.handlers == []
    assert "Left out" not in text
    for words in (
        "24 of 24 trials on mnist_sample are over",
        "PED-ANOVA over 24 trials, compared after epoch 2",
        "16 trials ended",
        "The best mean is that of trial 3",
        "trained for 40 epochs",
        "label_smoothing at least 0.1",
        "1,600 training images",
        "make tune STUDY=mnist DATASET=mnist_sample TRIALS=24",
        "make explore DATASET=mnist_sample",
        "91.23% of the test images",
    ):
        assert words in " ".join(tags.text.split()), words
    linked = re.findall(r"\]\((report-pictures/[a-z-]+\.(?:svg|png))\)", beside.read_text())
    assert linked
    assert all((page.parent / one).is_file() for one in linked)
    assert tags.names.count("img") == len(linked)
    assert beside.read_text().startswith("# mnist\n")


def assert_figures(text: str, report: Report) -> None:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == json.loads(json.dumps(report.figures))
    assert report.figures["spent"]["by"][0] == {
        "phase": "search", "device": "CPU", "trials": 24, "epochs": 8 * 8 + 16 * 2, "hours": 3 * 96 / 3600
    }  # fmt: skip


def test_a_study_without_a_trial_is_told_with_the_reasons(database: Database, tmp_path: Path) -> None:
    study = make_study(database, trials=0)
    report = report_of(study, Home(tmp_path))
    left_out = {section.name: section.left_out for section in report.sections if section.left_out}
    assert left_out["best"] == "no trial has a value yet"
    assert left_out["data"].startswith("the study records no data")
    assert left_out["mistakes"] == "no model was exported"
    assert "fewer than 20" in left_out["importance"]
    assert set(left_out) == {section.name for section in report.sections} - {"asked"}
    assert "0 of 0 trials" in html_of(report)


def test_another_programs_study_is_refused(database: Database, tmp_path: Path) -> None:
    study = optuna.create_study(study_name="theirs", storage=database)
    with pytest.raises(BadInput, match="another program made it"):
        write_report(study, Home(tmp_path))


# --- Names that mean something elsewhere


def test_no_name_does_anything_in_any_form(database: Database, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    study = make_study(database, name=HOSTILE, optimizers=(COLOUR, "*adam*"), extra="<img src=x onerror=alert(3)>")
    study.set_user_attr("<script>", "<script>alert(4)</script>")
    add_later_phases(study)
    put_bundle(home, HOSTILE, ["<b>cat</b>", "|dog|`", "$x$$", "</svg><script>"], [])
    page, beside = write_report(study, home)
    text = page.read_text()
    tags = Tags(text)
    assert tags.names.count("script") == 1, "that of the figures"
    assert tags.names.count("b") == 0
    assert tags.handlers == []
    assert all(address.startswith(("data:image/", "#")) for address in tags.addresses)
    assert f"{HOSTILE}: report" in tags.text
    assert COLOUR in tags.text
    markdown = Tags(MarkdownIt("commonmark").enable("table").render(beside.read_text()))
    assert {"script", "b", "em", "strong"}.isdisjoint(markdown.names)
    assert all(address.startswith(f"{page.stem}-pictures/") for address in markdown.addresses)
    assert HOSTILE in markdown.text.replace("\u200b", "")
    assert COLOUR in markdown.text
    for picture in (page.parent / f"{page.stem}-pictures").glob("*.svg"):
        elements = {element.tag.rpartition("}")[2] for element in ElementTree.parse(picture).iter()}
        assert elements.isdisjoint({"script", "foreignObject", "a"}), picture


@given(st.text(max_size=60))
def test_markdown_shows_any_text_letter_for_letter(text: str) -> None:
    line = " ".join(shown(text).split())
    rows = Table(("heading",), [(line,)])
    report = Report("x", f"A {line} z", [Section("one", "One", tables=[rows])], again="a", check="b")
    rendered = Tags(MarkdownIt("commonmark").enable("table").render(markdown_of(report, "p")))
    assert set(rendered.names) <= {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "pre", "code"}
    assert rendered.text.replace("\u200b", "").count(line.replace("\u200b", "")) >= 2


@given(st.text(max_size=60))
def test_json_in_a_page_cannot_end_its_element(text: str) -> None:
    written = script_json({text: [text]})
    assert set("<>&").isdisjoint(written)
    assert json.loads(written) == {text: [text]}


@pytest.mark.parametrize("text", ["http://evil.example", "www.evil.example", "a@evil.example"])
def test_markdown_makes_no_link_by_itself(text: str) -> None:
    assert text not in markdown_text(text)
    assert markdown_text(text).replace("\u200b", "") == text


# --- What the numbers mean


def test_importance_is_of_the_epoch_that_every_trial_reached_and_has_an_interval(database: Database) -> None:
    trials = of_phase(make_study(database).get_trials())
    found = importances(trials, VALIDATION_ACCURACY)
    assert (found.epoch, found.trials) == (2, 24)
    assert found == importances(trials, VALIDATION_ACCURACY), "the same each time"
    assert sum(one.share for one in found.of) == pytest.approx(1)
    assert all(0 <= one.low <= one.high <= 1 for one in found.of)


def test_importance_says_how_many_trials_it_compared_and_waits_for_none_that_runs() -> None:
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}

    def trial(place: int, state: TrialState = TrialState.PRUNED) -> FrozenTrial:
        curve = {1: place / 400, **({2: place / 300} if state == TrialState.PRUNED else {})}
        return create_trial(
            state=state, params={"x": place / 400}, distributions=space, intermediate_values=curve,
            value=place / 300 if state == TrialState.PRUNED else None,
        )  # fmt: skip

    found = importances([*map(trial, range(400)), trial(1, TrialState.RUNNING)], VALIDATION_ACCURACY)
    assert (found.epoch, found.trials) == (2, MOST_TRIALS)


def test_importance_of_few_trials_is_left_out(database: Database) -> None:
    trials = make_study(database, trials=LEAST_TRIALS - 1).get_trials()
    assert "19 trials have a value, and with fewer than 20" in importances(trials, VALIDATION_ACCURACY).left_out


def test_importance_finds_the_hyperparameter_that_decides() -> None:

    space: dict[str, BaseDistribution] = {"decides": FloatDistribution(0, 1), "does not": FloatDistribution(0, 1)}
    trials = [
        create_trial(
            value=place / 60, params={"decides": place / 60, "does not": (place * 37 % 60) / 60}, distributions=space,
            intermediate_values={1: place / 60},
        )
        for place in range(60)
    ]  # fmt: skip
    first, second = importances(trials, VALIDATION_ACCURACY).of
    assert (first.name, second.name) == ("decides", "does not")
    assert first.low > second.high


def test_what_pruning_saved_is_what_the_pruned_would_have_trained(database: Database) -> None:
    study = make_study(database)
    add_later_phases(study)
    found = saving(SPEC, of_phase(study.get_trials()))
    assert (found.trials, found.trained, found.spared) == (16, 32, 16 * 6)
    assert found.spared_s == pytest.approx(16 * 6 * 3.0)
    assert found.share == pytest.approx(96 / (24 * 8))


def test_time_is_told_by_phase_and_device(database: Database) -> None:
    study = make_study(database, trials=3)
    add_later_phases(study)
    rows = [(one.phase, one.device, one.trials, one.epochs) for one in spending(study.get_trials())]
    assert rows == [("search", "CPU", 3, 12), ("confirm", "CPU", 4, 4), ("refit", "CPU", 1, 40)]
    assert attributes.PHASES == ("search", "confirm", "refit")


@pytest.mark.parametrize("output", ["report.md", ".", "report", "notes.txt"])
def test_a_page_that_is_called_as_none_is_refused(database: Database, tmp_path: Path, output: str) -> None:
    study = make_study(database)
    with pytest.raises(BadInput, match=r"ends in \.html"):
        write_report(study, Home(tmp_path), tmp_path / output)


def test_a_command_of_a_report_names_its_database_and_its_data_as_one_word(database: Database, tmp_path: Path) -> None:
    study = make_study(database, name="x DATASET=$(reboot) #")
    subject = Subject.of(study, Home(tmp_path / "elsewhere"))
    assert shlex.split(subject.command("refit"))[2:] == [
        "STUDY=x DATASET=$(reboot) #", f"STORAGE={database.shown_url}"
    ]  # fmt: skip
    assert dataset_word(subject) == SPEC.dataset
