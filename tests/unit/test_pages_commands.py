"""tuning/README.md says what there is: each command, option, target and variable is the code's own. No Keras."""

from __future__ import annotations

import re
import shlex

import pytest

from storage.settings import STORAGE_VARIABLE
from studies.datasets.own import pictures
from studies.declaration import catalog_names
from tests.pages.command_line import commands, shown_names, visible
from tests.pages.makefile import recipes, variables
from tests.pages.page import ROOT, Page, named, page_paths, row_of, rows
from tests.pages.screenshots import MADE_BY
from tuning.building import CODE, WEIGHTS
from tuning.bundles import bundle

PACKAGES = ("models", "storage", "studies", "tuning")
PAGE = Page.read("tuning/README.md")
STORAGE = Page.read("storage/README.md")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

# --- Commands


COMMANDS = commands()


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_a_section_with_exactly_its_options(words: str) -> None:
    documented = [name for row in rows(PAGE.section(f"`{words}`")) for name in named(row[0])]
    there = [name for parameter in visible(COMMANDS[words]) for name in shown_names(parameter)]
    assert sorted(documented) == sorted(there)


@pytest.mark.parametrize("words", COMMANDS)
def test_the_defaults_of_options_are_the_commands_own(words: str) -> None:
    for parameter in visible(COMMANDS[words]):
        row = row_of(PAGE.section(f"`{words}`"), shown_names(parameter)[0])
        if parameter.required:
            assert row[1] == "required", row
        elif isinstance(parameter.default, (str, int)) and not isinstance(parameter.default, bool):
            assert str(parameter.default) in (row[1], *named(row[1])), row


def test_no_command_is_described_that_does_not_exist() -> None:
    titles = re.findall(r"^### `(tuning [^`]+)`$", PAGE.section("Commands and options"), re.MULTILINE)
    assert sorted(titles) == sorted(COMMANDS)


def test_every_export_format_and_picture_format_is_named() -> None:
    assert set(bundle.FORMATS) <= set(named(PAGE.section("`tuning export`")))
    assert {file.removesuffix("/") for file in named(STORAGE.section("A bundle"))} >= {
        *bundle.FORMATS.values(),
        WEIGHTS,
        CODE,
        bundle.CARD,
        bundle.MODEL_CARD,
        bundle.METRICS,
        bundle.VALIDATION,
        bundle.CONFUSION_MATRIX,
        bundle.LEARNING_CURVE,
    }
    assert all(name.lower() in PAGE.section("`tuning predict`").lower() for name in pictures.FORMATS)


# --- Make


RECIPES = recipes()


def test_the_makefile_was_understood() -> None:
    assert {"tune", "export", "help", "clean"} <= set(RECIPES)
    own = {"STUDY", "DATASET", "STORAGE", "TRIAL", "FORMAT", "OUT", "MODEL", "FLIPS"}
    assert set(variables(RECIPES["export"])) == own
    assert variables(RECIPES["gc"]) == {"STUDY": False, "STORAGE": False, "YES": True}
    assert list(variables(RECIPES["test"])) == ["ARGS"]


@pytest.mark.parametrize("target", RECIPES)
def test_every_target_is_listed_with_exactly_its_variables(target: str) -> None:
    cells = row_of(PAGE.section("Make targets"), target)
    assert {name.partition("=")[0] for name in named(cells[2])} == set(variables(RECIPES[target]))
    # What `make` itself prints of the target names no others, and all of them unless it says that there are more.
    told = RECIPES[target].partition("\n")[0].partition("## ")[2]
    known = set(re.findall(r"\b([A-Z_]+)=", told))
    assert known <= set(variables(RECIPES[target]))
    assert known == set(variables(RECIPES[target])) or "..." in told


def test_no_target_is_listed_that_does_not_exist() -> None:
    assert {name for row in rows(PAGE.section("Make targets")) for name in named(row[0])} == set(RECIPES)


# --- Environment


def variables_read() -> set[str]:
    """The environment variables that the code reads by name; a web server calls each request's headers so, too."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "dashboard" not in path.parts]
    sources = [path.read_text(encoding="utf-8") for path in files]
    return {name for text in sources for name in re.findall(r"environ(?:\.get\(|\[)[\"']([A-Z_]+)[\"']", text)}


def test_every_environment_variable_is_described() -> None:
    described = {name for row in rows(PAGE.section("Environment variables")) for name in named(row[0])}
    read = variables_read()
    assert {"TUNING_HOME", "DATA_DIR", "CUDA_VISIBLE_DEVICES"} <= read
    # Python, Keras and typer read theirs by themselves.
    assert read | {"PYTHONPATH", "KERAS_BACKEND", STORAGE_VARIABLE} == described


def test_what_set_up_reads_is_described() -> None:
    assert re.search(r"^CUDA \?=", MAKEFILE, re.MULTILINE)
    assert "$(PYTHON)" in MAKEFILE
    assert {"PYTHON", "CUDA=yes", "CUDA="} <= set(named(PAGE.section("Make targets")))


# --- Command lines on all pages


CALL = re.compile(r"([A-Z_]+=\S+ )*(make|tuning|\.venv/bin/tuning)( |$)")


def command_lines() -> list[str]:
    """Every call of `make` or `tuning` in a code block, and every one with arguments in the text, on one line each."""
    found: list[str] = []
    for page in map(Page.read, page_paths()):
        shown = [text for language in ("console", "sh") for text in page.blocks(language)]
        shown += [line for text in page.blocks("text") for line in text.splitlines() if line.startswith("$ ")]
        lines = [line for text in shown for line in text.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"^#.*", "", page.prose, flags=re.MULTILINE)
        lines += [words for words in named(prose) if len(words.split()) > 1 and "..." not in words]
        parts = [part.strip() for line in lines for part in re.split(r"&&|\|\||[;|]", line.removeprefix("$ "))]
        found += [part for part in parts if CALL.match(part)]
    return list(dict.fromkeys(found))


COMMAND_LINES = command_lines()


def test_command_lines_of_several_pages_were_found() -> None:
    assert {"make tune DATASET=mnist_sample", "make dashboard", "make test-fast"} <= set(COMMAND_LINES)
    assert any(line.startswith("make worker") for line in COMMAND_LINES)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_line_is_understood(line: str) -> None:
    words = shlex.split(line)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words.pop(0) == "make":
        assert_make(words)
    else:
        assert_tuning(words)


def assert_make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    given = dict(word.split("=", 1) for word in words if "=" in word)
    assert set(targets) <= set(RECIPES)
    anywhere = {"TUNING_HOME", "FILES", "DATA_DIR", "PYTHON", "CUDA"}
    known = anywhere.union(*(variables(RECIPES[target]) for target in targets))
    assert set(given) <= known
    dataset = given.get("DATASET", "cifar10")
    assert dataset in catalog_names() or dataset.startswith("./")


def assert_tuning(words: list[str]) -> None:
    name = next(name for name in COMMANDS if " ".join(["tuning", *words, ""]).startswith(f"{name} "))
    arguments = words[len(name.split()) - 1 :]
    with COMMANDS[name].make_context(name, arguments, resilient_parsing=not arguments) as context:
        assert context.params.get("dataset") in (None, *catalog_names())


@pytest.mark.parametrize("command", MADE_BY)
def test_the_study_of_the_screenshots_is_made_by_commands_that_are_understood(command: tuple[str, ...]) -> None:
    assert_tuning([*command])


@pytest.mark.parametrize(
    "line",
    ["tuning tune --nonsense", "tuning tune --trials many", "make tuen", "make tune NONSENSE=1", "tuning nonsense"],
)
def test_a_wrong_command_line_would_be_noticed(line: str) -> None:
    with pytest.raises((AssertionError, StopIteration, Exception)) as caught:
        test_every_command_line_is_understood(line)
    assert not isinstance(caught.value, pytest.fail.Exception)
