"""The pages hold together: links lead somewhere, pictures are shown, and each thing stands where it belongs."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from tests.pages.generated import blocks_of, written_by_hand
from tests.pages.page import ROOT, Page, page_paths

PICTURES = ROOT / ".readme"
BENCHMARKS = "tests/benchmarks/README.md"
PAGES = {path: Page.read(path) for path in page_paths()}

every_page = pytest.mark.parametrize("path", PAGES)


def test_each_room_has_its_page() -> None:
    assert set(PAGES) >= {
        "README.md",
        "models/README.md",
        "storage/README.md",
        "studies/README.md",
        "studies/datasets/README.md",
        "studies/strategies/README.md",
        "tuning/README.md",
        "tuning/WALK.md",
        BENCHMARKS,
    }


@pytest.mark.parametrize("path", ["README.md", "tuning/WALK.md"])
def test_who_begins_reads_at_most_150_lines(path: str) -> None:
    assert len(PAGES[path].text.splitlines()) <= 150


def test_the_three_commands_come_first() -> None:
    first = "$ make tune DATASET=mnist_sample\n$ make export\n$ make predict IMAGE=.readme/digit.png\n"
    assert PAGES["README.md"].blocks("console")[0] == first
    assert PAGES["README.md"].text.index(first) < 600


def test_readme_leads_to_every_page() -> None:
    links = {link.partition("#")[0] for link in PAGES["README.md"].links}
    assert set(PAGES) - {"README.md", "studies/recorded/README.md"} <= links  # which studies/README.md leads to


@every_page
def test_every_link_and_picture_leads_somewhere(path: str) -> None:
    page = PAGES[path]
    for link in page.links:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.folder / file).resolve() if file else ROOT / path
        assert target.is_file(), link
        if anchor:
            assert anchor in Page.read(target.relative_to(ROOT).as_posix()).anchors, link


def test_every_picture_is_shown_readable_and_small() -> None:
    shown = {(page.folder / link).resolve() for page in PAGES.values() for link in page.links}
    pictures = [path for path in sorted(PICTURES.iterdir()) if path.suffix == ".png"]
    assert pictures
    for path in pictures:
        assert path in shown, f"{path.name} is not shown"
        assert path.stat().st_size < 250_000, path.name
        with Image.open(path) as picture:
            picture.verify()


def test_readme_shows_one_picture() -> None:
    assert len([link for link in PAGES["README.md"].links if link.endswith(".png")]) == 1


@every_page
def test_every_picture_has_words_for_those_who_do_not_see_it(path: str) -> None:
    prose = PAGES[path].prose
    assert not re.findall(r"!\[\s*\]", prose)
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", prose))


@every_page
@pytest.mark.parametrize(
    "forbidden",
    [
        r"(?<![\w.])/(?:work|tmp|root|home|Users|var|opt)/",
        r"[\U0001F300-\U0001FAFF\u2600-\u27BF]",
        r"@@|TODO|FIXME|lorem",
    ],
)
def test_nothing_is_in_it_that_does_not_belong(path: str, forbidden: str) -> None:
    found = re.search(forbidden, PAGES[path].text)
    assert found is None, found


def test_no_address_is_named_but_where_data_and_their_authors_are() -> None:
    hosts = {host for page in PAGES.values() for host in re.findall(r"https?://([\w.-]+)", page.text)}
    assert hosts <= {"127.0.0.1", "github.com", "www.cs.toronto.edu", "yann.lecun.com"}


# What only a measurement has: a day, a processor, a ratio with its bounds, an error, a rate.
MEASURED = re.compile(
    r"\b20\d\d-\d\d-\d\d\b|\bEPYC\b|\bXeon\b|\btimes as (?:much|fast|many)\b|± ?\d|\b\d+(?:\.\d+)? R\b"
    r"|\bimages a second\b|\b\d+(?:\.\d+)? (?:ms|s of)\b"
)


def test_a_measured_figure_would_be_noticed() -> None:
    for words in ("on 2026-11-29,", "4.8 times as much", "0.12 ± 0.01", "2.7 R", "44 ms for", "an AMD EPYC server"):
        assert MEASURED.search(words), words


@pytest.mark.parametrize("path", [path for path in PAGES if path != "studies/recorded/README.md"])
def test_measured_figures_are_generated_from_results(path: str) -> None:
    # Code blocks show what a command says.
    found = MEASURED.search(written_by_hand(PAGES[path].prose))
    assert found is None, found


def test_measured_figures_stand_on_their_own_page() -> None:
    results = {path for path, page in PAGES.items() for name, _ in blocks_of(page.text) if name == "result"}
    headlines = {path for path, page in PAGES.items() for name, _ in blocks_of(page.text) if name == "headlines"}
    assert (results, headlines) == ({BENCHMARKS}, {"README.md"})


@every_page
def test_python_examples_are_python(path: str) -> None:
    for text in PAGES[path].blocks("python"):
        ast.parse(text)


def test_readme_is_the_packages_own_description() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["readme"] == "README.md"
    assert Path(PAGES["README.md"].path).name == "README.md"
