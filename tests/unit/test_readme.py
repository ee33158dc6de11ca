"""The README says what there is: each command, target, setting and bound in it is compared with the code. No Keras."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import optuna
import pytest
import typer
from optuna.trial import TrialState, create_trial
from PIL import Image
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from storage import checkpoints, claims
from storage.claims import DIVERGED, OUT_OF_MEMORY
from storage.settings import STORAGE_VARIABLE, Home
from studies.datasets.inventory import InventoryEntry
from studies.datasets.registry import DATASETS
from studies.declaration import CATALOG, Declaration, catalog_names, from_catalog, hypermodel_name, read_declaration
from studies.leaderboard import Row, status
from studies.spec import CORE_PARAMETERS, HYPERMODELS, STRATEGIES, ParameterRange, Plan, Sampler, StrategyChoice
from tests.databases import fresh_database
from tuning.bundles import bundle, images, predict
from tuning.cli import app
from tuning.launch import workforce
from tuning.worker import worker

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("models", "storage", "studies", "tuning")
PICTURES = ROOT / ".readme"
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


def section(title: str) -> str:
    """The text under a heading, up to the next heading of the same rank or a higher one."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", PROSE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {title!r}"
    rank = len(found[1])
    rest = PROSE[found.start(2) :]
    end = re.search(rf"^#{{1,{rank}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without heads."""
    table_lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {index - 1 for index, line in enumerate(table_lines) if set(line) <= set("|-: ")}
    bodies = [line for index, line in enumerate(table_lines) if index not in heads and not set(line) <= set("|-: ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in bodies]


def named(text: str) -> list[str]:
    """What stands between back ticks."""
    return re.findall(r"`([^`]+)`", text)


def row_of(text: str, name: str) -> list[str]:
    found = [row for row in rows(text) if name in named(row[0])]
    assert len(found) == 1, f"{name} has {len(found)} rows"
    return found[0]


# --- Commands


def commands() -> dict[str, click.Command]:
    """Every command that does something, by its words."""
    found: dict[str, click.Command] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            found[" ".join(words)] = command
            return
        for name, one in inner.items():
            walk(one, (*words, name))

    walk(typer.main.get_command(app), ("tuning",))
    return found


COMMANDS = commands()


def visible(command: click.Command) -> list[Any]:
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def shown_names(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return [parameter.metavar or parameter.name.upper()]
    return [*parameter.opts, *parameter.secondary_opts]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_a_section_with_exactly_its_options(words: str) -> None:
    documented = [name for row in rows(section(f"`{words}`")) for name in named(row[0])]
    there = [name for parameter in visible(COMMANDS[words]) for name in shown_names(parameter)]
    assert sorted(documented) == sorted(there)


@pytest.mark.parametrize("words", COMMANDS)
def test_the_defaults_of_options_are_the_commands_own(words: str) -> None:
    for parameter in visible(COMMANDS[words]):
        row = row_of(section(f"`{words}`"), shown_names(parameter)[0])
        if parameter.required:
            assert row[1] == "required", row
        elif isinstance(parameter.default, (str, int)) and not isinstance(parameter.default, bool):
            assert str(parameter.default) in (row[1], *named(row[1])), row


def test_no_command_is_described_that_does_not_exist() -> None:
    assert set(re.findall(r"^### `(tuning [^`]+)`$", PROSE, re.MULTILINE)) == set(COMMANDS)


def test_every_export_format_and_picture_format_is_named() -> None:
    assert set(bundle.FORMATS) <= set(named(section("`tuning export`")))
    assert {file.removesuffix("/") for file in named(section("Where files live"))} >= {
        *bundle.FORMATS.values(),
        bundle.CARD,
        bundle.METRICS,
        bundle.CONFUSION_MATRIX,
        bundle.LEARNING_CURVE,
    }
    assert all(name.lower() in section("`tuning predict`").lower() for name in images.FORMATS)


# --- Make


def recipes() -> dict[str, str]:
    """The text of each target that `make` lists."""
    found = re.finditer(r"^([a-z][a-z-]*):[^\n]*## [^\n]*\n((?:\t[^\n]*\n)*)", MAKEFILE, re.MULTILINE)
    return {match[1]: match[0] for match in found}


RECIPES = recipes()


def variables(recipe: str) -> set[str]:
    calls = re.findall(r"(?:flag|switch),--[a-z-]+,([A-Z_]+)\)", recipe)
    return {*calls, *re.findall(r"(?:quoted,|value |\$\()([A-Z_]{3,})\)", recipe)} - {"TUNING", "READY", "READY_DEV"}


def test_the_makefile_was_understood() -> None:
    assert {"tune", "export", "help", "clean"} <= set(RECIPES)
    assert variables(RECIPES["export"]) == {"STUDY", "DATASET", "STORAGE", "TRIAL", "FORMAT", "OUT"}
    assert variables(RECIPES["test"]) == {"ARGS"}


@pytest.mark.parametrize("target", RECIPES)
def test_every_target_is_listed_with_exactly_its_variables(target: str) -> None:
    cells = row_of(section("Make targets"), target)
    documented = {name.partition("=")[0] for name in named(cells[1]) if name.partition("=")[0].isupper()}
    assert documented == variables(RECIPES[target])


def test_no_target_is_listed_that_does_not_exist() -> None:
    assert {name for row in rows(section("Make targets")) for name in named(row[0])} == set(RECIPES)


# --- Environment


def variables_read() -> set[str]:
    """The environment variables that the code reads by name; a web server calls each request's headers so, too."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stem != "dashboard"]
    sources = [path.read_text(encoding="utf-8") for path in files]
    return {name for text in sources for name in re.findall(r"environ(?:\.get\(|\[)[\"']([A-Z_]+)[\"']", text)}


def test_every_environment_variable_is_described() -> None:
    described = {name for row in rows(section("Environment variables")) for name in named(row[0])}
    read = variables_read()
    assert {"TUNING_HOME", "DATA_DIR", "CUDA_VISIBLE_DEVICES"} <= read
    # Ours to pass on to Python's and CUDA's own; PYTHON and CUDA are the Makefile's; Keras and typer read theirs.
    assert read - {"PYTHONPATH"} | {"PYTHON", "CUDA", "KERAS_BACKEND", STORAGE_VARIABLE} == described
    assert re.search(r"^CUDA \?=", MAKEFILE, re.MULTILINE)
    assert "$(PYTHON)" in MAKEFILE


# --- A study's file


def spec_keys() -> dict[str, FieldInfo]:
    """Every key of a study's file, `*` for a name that the user gives, with its field."""
    tables: dict[str, type[BaseModel]] = {
        "plan.*": Plan,
        "parameters.*": ParameterRange,
        "sampler": Sampler,
        "strategy": StrategyChoice,
    }
    found: dict[str, FieldInfo] = {}
    for name, field in Declaration.model_fields.items():
        if name not in tables:
            found[f"{name}.*" if f"{name}.*" in tables else name] = field
    for table, model in tables.items():
        found |= {f"{table}.{name}": field for name, field in model.model_fields.items()}
    return found


SPEC_KEYS = spec_keys()


def literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return list(itertools.chain.from_iterable(literals(inner) for inner in get_args(annotation)))


@pytest.mark.parametrize("key", SPEC_KEYS)
def test_every_key_of_a_studys_file_is_described_with_its_default(key: str) -> None:
    field = SPEC_KEYS[key]
    row = row_of(section("A study's file"), key)
    default, allowed = row[1], named(row[2])
    if field.is_required():
        assert default == "required"
    elif field.default is not None and not key.endswith(".*"):
        assert named(default) == [json.dumps(field.default)], key
    for value in literals(field.annotation):
        assert json.dumps(value) in allowed or f"[plan.{value}]" in allowed, (key, value)


def test_no_key_is_described_that_does_not_exist() -> None:
    described = {named(row[0])[0] for row in rows(section("A study's file")) if "`" in row[0]}
    assert described == {*SPEC_KEYS, *catalog_names()}


def test_every_example_of_a_studys_file_is_valid(tmp_path: Path) -> None:
    assert blocks("toml")
    for number, text in enumerate(blocks("toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        declaration = read_declaration(file)
        assert declaration.dataset in DATASETS
        hypermodel_name(declaration.model)


def test_the_example_of_a_studys_file_has_every_kind_of_key() -> None:
    document = tomllib.loads(blocks("toml")[0])
    tables = [("plan.*", table) for table in document["plan"].values()]
    tables += [("parameters.*", table) for table in document["parameters"].values()]
    given = {f"{prefix}.{key}" for prefix, table in tables for key in table}
    given |= {f"{name}.{key}" for name in ("sampler", "strategy") for key in document[name]}
    given |= {name for name in document if name not in ("plan", "parameters", "sampler", "strategy")}
    assert given >= set(SPEC_KEYS) - {"plan.*", "parameters.*"}


@pytest.mark.parametrize("name", catalog_names())
def test_the_catalogs_plans_are_the_declared_ones(name: str) -> None:
    declared = from_catalog(name)
    wanted = []
    for plan in (declared.plan["cpu"], declared.plan["gpu"]):
        wanted += [plan.model or declared.model, str(plan.trials), str(plan.epochs), str(plan.patience)]
    assert declared.plan["cpu"].validation_images == declared.plan["gpu"].validation_images
    wanted.append(f"{declared.plan['cpu'].validation_images:,}")
    assert [cell.strip("`") for cell in row_of(section("A study's file"), name)[1:]] == wanted


@pytest.mark.parametrize("name", catalog_names())
def test_every_catalog_file_says_what_it_costs(name: str) -> None:
    head = (CATALOG / f"{name}.toml").read_text(encoding="utf-8").partition("\ndataset")[0]
    assert f"make tune DATASET={name}" in head
    cpu, gpu = re.findall(r"^# [CG]PU plan: (.*(?:\n#   .*)*)", head, re.MULTILINE)
    for measured in (cpu, gpu):
        words = " ".join(measured.split())
        assert words == "not measured yet." or re.match(r"20\d\d-\d\d-\d\d, .*: \d+ trials in .* accuracy", words)


def test_every_strategy_is_told_apart() -> None:
    text = section("How it searches")
    for name in STRATEGIES:
        assert len(row_of(text, name)) == 3
        assert f'"{name}"' in named(row_of(section("A study's file"), "strategy.name")[2])[STRATEGIES.index(name)]


def test_every_data_set_is_listed() -> None:
    for info in DATASETS.values():
        row = row_of(section("Data sets"), info.name)
        assert row[1] == f"{info.images('train'):,} + {info.images('test'):,}"
        assert row[2].startswith(f"{len(info.class_names)} ")
        assert row[3].startswith(f"{info.shape[0]}x{info.shape[1]}, {'grey' if info.shape[2] == 1 else 'colour'}")


def test_every_model_and_core_parameter_is_named() -> None:
    text = section("Models and search spaces")
    assert set(HYPERMODELS) <= set(named(text))
    for name in CORE_PARAMETERS:
        assert row_of(text, name)[1] == "core"


# --- Bounds


@pytest.mark.parametrize(("why", "retries"), claims.MAX_RETRIES.items())
def test_the_retries_of_each_class_are_told(why: str, retries: int) -> None:
    assert row_of(section("Reliability"), why)[1] == str(retries)


def callbacks_grace_s() -> float:
    """Read from the source: importing it would import Keras."""
    found = re.search(r"^GRACE_S = ([\d.]+)$", (ROOT / "tuning" / "worker" / "callbacks.py").read_text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(
    "words",
    [
        f"every {claims.BEAT_S:g} seconds",
        f"silent for {claims.LEASE_S:g} seconds",
        f"{claims.MAX_CONSECUTIVE_FAILURES} failures in a row",
        f"less than {callbacks_grace_s():g} seconds",
        f"after {workforce.GRACE_S:g} seconds",
        f"within {worker.ORPHAN_GRACE_S:g} seconds",
        f"After {workforce.MAX_DEATHS} deaths in a row",
        f"after {workforce.RESTART_S:g} second",
        f"`{DIVERGED}`",
        f"`{OUT_OF_MEMORY}`",
    ],
)
def test_the_bounds_of_reliability_are_the_codes_own(words: str) -> None:
    assert words in " ".join(section("Reliability").split())


def test_as_many_checkpoints_are_kept_as_is_told() -> None:
    assert checkpoints.KEPT == 2
    assert "the one before it is kept" in " ".join(section("Reliability").split())


# --- Command lines in code blocks


CALL = re.compile(r"([A-Z_]+=\S+ )*(make|tuning|\.venv/bin/tuning)( |$)")


def command_lines() -> list[str]:
    """Every call of `make` or `tuning` in a code block, and every one with arguments in the text, on one line each."""
    lines = [line for text in (*blocks("console"), *blocks("sh")) for line in text.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^#.*", "", PROSE, flags=re.MULTILINE)
    lines += [words for words in named(prose) if len(words.split()) > 2 and "..." not in words]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|\||[;|]", line.removeprefix("$ "))]
    return list(dict.fromkeys(part for part in parts if CALL.match(part)))


COMMAND_LINES = command_lines()


def test_the_two_commands_come_first() -> None:
    assert BLOCKS[0] == ("console", "$ make tune DATASET=cifar10\n$ make export\n")
    assert README.index("make tune") < 1_500


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
    known = {"TUNING_HOME", "DATA_DIR", "PYTHON", "CUDA"}.union(*(variables(RECIPES[target]) for target in targets))
    assert set(given) <= known
    assert given.get("DATASET", "cifar10") in catalog_names()


def assert_tuning(words: list[str]) -> None:
    name = next(name for name in COMMANDS if " ".join(["tuning", *words, ""]).startswith(f"{name} "))
    arguments = words[len(name.split()) - 1 :]
    with COMMANDS[name].make_context(name, arguments) as context:
        assert context.params.get("dataset") in (None, *catalog_names())


@pytest.mark.parametrize(
    "line",
    ["tuning tune --nonsense", "tuning tune --trials many", "make tuen", "make tune NONSENSE=1", "tuning nonsense"],
)
def test_a_wrong_command_line_would_be_noticed(line: str) -> None:
    with pytest.raises((AssertionError, StopIteration, Exception)) as caught:
        test_every_command_line_is_understood(line)
    assert not isinstance(caught.value, pytest.fail.Exception)


# --- For programs


def json_after(words: str) -> Any:
    """The first JSON block after some words."""
    found = re.search(r"^```json\n(.*?)^```$", README[README.index(words) :], re.MULTILINE | re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def keys(value: Any) -> Any:
    """The names in a JSON value, without what they stand for; of a list, its first entry's."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value[:1]] if isinstance(value, list) else None


@pytest.fixture
def study(tmp_path: Path) -> Iterator[optuna.Study]:
    with fresh_database(tmp_path / "studies.db") as database:
        study = optuna.create_study(storage=database, direction="maximize", study_name="mnist")
        study.set_user_attr(claims.BUDGET_KEY, 2)
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.5))
        yield study


def test_the_status_example_has_the_keys_of_the_code(study: optuna.Study, home: Path) -> None:
    example = json_after("`tuning status --json`")
    produced = status(study, "sqlite:///studies.db", Home(home))
    example["best"]["params"] = produced["best"]["params"] = {}
    assert keys(example) == keys(produced)
    assert set(example["best"]) == {"number", "value", "params"}


def test_the_other_examples_have_the_keys_of_the_code() -> None:
    rows_shown = json_after("`tuning trials --format json`")
    assert all(list(row) == list(Row.__annotations__) for row in rows_shown)
    prediction = json_after("`tuning predict --json`")[0]
    assert list(prediction) == list(predict.Prediction.__annotations__)
    assert [list(guess) for guess in prediction["classes"]] == [list(predict.Guess.__annotations__)] * len(
        prediction["classes"]
    )
    entry = json_after("`tuning data list --json`")[0]
    assert list(entry) == [field.name for field in fields(InventoryEntry)]


def test_the_metrics_example_has_the_keys_that_export_writes() -> None:
    """Export makes them in the process with Keras: here its source is read, and the integration test runs it."""
    example = json_after("`exports/<study>/metrics.json` (")
    assert list(example) == ["validation", "test"]
    assert list(example["validation"]) == ["accuracy", "loss"]
    assert list(example["test"]) == ["accuracy", "loss", "per_class"]
    tree = ast.parse((ROOT / "tuning" / "bundles" / "export.py").read_text(encoding="utf-8"))
    literal = [
        [key.value for key in node.keys if isinstance(key, ast.Constant)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
    ]
    assert list(example["test"]) in literal
    assert list(example["test"]["per_class"][0]) in literal


def test_the_exit_statuses_are_told() -> None:
    told = {row[0] for row in rows(section("For programs"))}
    assert {"0", "1", "2", "130", str(workforce.RENEWED)} <= told


# --- Links, pictures and what must not be in it


def anchors() -> set[str]:
    titles = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_and_picture_leads_somewhere() -> None:
    targets = [*re.findall(r"\]\(([^)]+)\)", PROSE), *re.findall(r"(?:src|href)=\"([^\"]+)\"", PROSE)]
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors(), target
        elif "://" not in target:
            assert (ROOT / target).is_file(), target


def test_every_picture_is_shown_readable_and_small() -> None:
    pictures = [path for path in sorted(PICTURES.iterdir()) if path.suffix == ".png"]
    assert pictures
    for path in pictures:
        assert f".readme/{path.name}" in README, f"{path.name} is not shown"
        assert path.stat().st_size < 250_000, path.name
        with Image.open(path) as picture:
            picture.verify()


def test_every_picture_has_words_for_those_who_do_not_see_it() -> None:
    assert not re.findall(r"!\[\s*\]", PROSE)
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", PROSE))


@pytest.mark.parametrize(
    "forbidden",
    [
        r"(?<![\w.])/(?:work|tmp|root|home|Users|var|opt)/",
        r"[\U0001F300-\U0001FAFF\u2600-\u27BF]",
        r"@@|TODO|FIXME|lorem",
    ],
)
def test_nothing_is_in_it_that_does_not_belong(forbidden: str) -> None:
    found = re.search(forbidden, README)
    assert found is None, found


def test_no_address_is_named_but_where_data_and_their_authors_are() -> None:
    hosts = set(re.findall(r"https?://([\w.-]+)", README))
    assert hosts <= {"127.0.0.1", "github.com", "www.cs.toronto.edu"}


def test_the_python_example_is_python_and_names_its_file() -> None:
    example = next(text for text in blocks("python") if "ImageClassifier" in text)
    tree = ast.parse(example)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["MyModel"]
    assert [base.id for base in classes[0].bases if isinstance(base, ast.Name)] == ["ImageClassifier"]
    assert "my_model.py:MyModel" in README
    for text in blocks("python"):
        ast.parse(text)


def test_it_is_the_packages_own_description() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["readme"] == "README.md"
