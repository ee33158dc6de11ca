"""A report is compared with its study: what was changed in the page, or in the study since, is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storage.errors import BadInput
from storage.settings import Home
from tests.reported import whole_study
from tuning.cli import run
from tuning.views.report.document import Picture, Report, Section, Table
from tuning.views.report.verifying import differences
from tuning.views.report.writing import html_of

REPORT = Report(
    "mnist",
    "24 of 24 trials are over.",
    [
        Section(
            "best", "Best", ["Trial 7 has 91.23%."], [Table(("trial", "value"), [("7", "0.9123"), ("8", "0.9000")])],
            [Picture("history", b"<svg/>", ".svg", "The <best> so far.")], "make trials",
            {"trials": [{"number": 7, "value": 0.9123}, {"number": 8, "value": 0.9}], "name": "<&>"},
        )
    ],
    again="make report", check="make verify",
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(html_of(REPORT))
    return file


def changed(page: Path, old: str, new: str) -> list[str]:
    text = page.read_text()
    assert text.count(old) == 1
    page.write_text(text.replace(old, new))
    return differences(page, REPORT)


def test_a_page_as_it_was_written_has_no_difference(page: Path) -> None:
    assert differences(page, REPORT) == []


def test_every_changed_digit_of_the_text_is_told(page: Path) -> None:
    text = html_of(REPORT)
    body = text.index("<body>"), text.index("<script")
    digits = [found.start() for found in re.finditer(r"\d", text) if body[0] < found.start() < body[1]]
    assert len(digits) > 10
    for place in digits:
        page.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        assert len(differences(page, REPORT)) == 1, text[place - 20 : place + 20]


def test_a_changed_number_is_told_with_both_values(page: Path) -> None:
    (line,) = changed(page, ">0.9123<", ">0.9923<")
    assert re.fullmatch(r"line \d+: the page says '7 +0.9923', anew it is '7 +0.9123'", line)


def test_a_changed_figure_behind_the_page_is_told_by_its_name(page: Path) -> None:
    assert changed(page, '"value": 0.9123', '"value": 0.9923') == [
        "best.trials[0].value: the page says 0.9923, the study 0.9123"
    ]


def test_another_picture_is_told_by_what_it_shows(page: Path) -> None:
    (line,) = changed(page, "base64,PHN2Zy8+", "base64,PHN2Zz4+")
    assert line.endswith("the picture differs: The <best> so far.")


def test_what_is_only_written_otherwise_is_told_too(page: Path) -> None:
    assert changed(page, '"number": 7', '"number":  7') == ["the page is written otherwise, though it shows the same"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"<html></html>", b'<script type="application/json" id="figures">{</script>']
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(content)
    with pytest.raises(BadInput):
        differences(file, REPORT)
    with pytest.raises(BadInput):
        differences(tmp_path / "none.html", REPORT)


def test_the_command_says_which_figures_differ_once_the_study_went_on(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "mine.html"
    with whole_study(Home(home)):
        assert run(["report", "--study", "mnist", "--output", str(page)]) == 0
        assert capsys.readouterr().out == f"{page}\n{tmp_path / 'mine.md'}\n"
        assert run(["verify", "--study", "mnist", str(page)]) == 0
        assert "as it is written now" in capsys.readouterr().out
        page.write_text(page.read_text().replace('"budget": 24', '"budget": 25', 1))
        assert run(["verify", "--study", "mnist", str(page)]) == 1
    assert capsys.readouterr().out == "asked.budget: the page says 25, the study 24\n"
