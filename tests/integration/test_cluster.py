"""A study on the nodes of a real Ray cluster, with a real PostgreSQL, while one node goes and another joins."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.claims import node_of
from storage.errors import BadInput
from storage.opening import open_to_read
from storage.settings import Home
from storage.stores.chosen import artifact_files
from studies.stored import find_study
from tests import postgres
from tests.clusters import RayCluster, ray_cluster, started_by_hand
from tests.integration.command_line import ROOT, CommandLine, wait_until
from tests.object_store import object_store
from tests.pages.page import Page

pytestmark = [
    pytest.mark.keras,
    pytest.mark.postgres,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PASSWORD = "hunter2-is-of-the-tests"
MODEL = f"{ROOT / 'tests/faults/slow_models.py'}:Slow"
SMALLER = ("--train-images", "256", "--strategy", "none", "--search-only")
SMALL = ("--dataset", "mnist_sample", *SMALLER[:4])
# A user's files: a model, which imports what lies beside it, a strategy and an objective.
THEIRS = {
    "mine.py": "from slow_models import Slow\n\n\nclass Mine(Slow):\n    pass\n",
    "plain.py": "from studies.strategies.strategy import Strategy\n\n\nclass Plain(Strategy):\n    pass\n",
    "right.py": "def right(labels, probabilities):\n    return float((probabilities.argmax(1) == labels).mean())\n",
    "slow_models.py": (ROOT / "tests/faults/slow_models.py").read_text(),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    try:
        with postgres.server() as url:
            yield url
    except postgres.NoServer as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"PostgreSQL cannot be started: {error}")


@dataclass
class Machines:
    """A cluster, a database and a place for files.

    Attributes:
        nodes: the cluster.
        url: of the database.
        files: the URL of where files are.
        command: given on a machine that is no node.
        epochs: the file in which each trained epoch is noted, by the seed of its trial.
    """

    nodes: RayCluster
    url: str
    files: str
    command: CommandLine
    epochs: Path

    def start(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        return self.command.start(command, "--cluster", "auto", "--storage", self.url, *arguments)

    def run(self, command: str, *arguments: str) -> str:
        """Return what a command says that ends well."""
        process = self.start(command, *arguments)
        _, said = process.communicate(timeout=280)
        assert process.returncode == 0, f"{said}\n{self.command.logs()}"
        return said

    def trials(self, name: str) -> list[optuna.trial.FrozenTrial]:
        """The trials of a study; none before it is there."""
        try:
            database = open_to_read(self.url)
        except BadInput:
            return []
        try:
            return find_study(database, name).get_trials()
        except BadInput:
            return []
        finally:
            database.engine.dispose()

    def finished(self, name: str) -> int:
        return sum(trial.state.is_finished() for trial in self.trials(name))


@pytest.fixture
def machines(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        files, secrets = f"file://{tmp_path / 'shared'}", {"PGPASSWORD": PASSWORD}
        if getattr(request, "param", "folder") == "object store":
            store = stack.enter_context(object_store())
            files, secrets = store.bucket(), {**secrets, **store.environment}
        url = stack.enter_context(postgres.database_on(server))
        noted = {"SLOW_EPOCH_S": "0.3", "SLOW_EPOCH_LOG": str(tmp_path / "epochs")}
        nodes = stack.enter_context(ray_cluster(tmp_path, **noted, KERAS_BACKEND="tensorflow"))
        environment = {**secrets, **noted, "TUNING_FILES": files, "RAY_ADDRESS": nodes.cluster.address}
        yield Machines(nodes, url, files, CommandLine(tmp_path / "home", environment), tmp_path / "epochs")


def shown_commands() -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            yield " ".join(process.cmdline())
        except psutil.Error:
            continue


def a_node_goes_and_another_joins(
    machines: Machines, trials: int, epochs: int, *own: str, gone: Path | None = None
) -> tuple[str, list[Any]]:
    """Run a study of so many trials on three nodes, of which one is killed; return its output and its trials.

    Args:
        machines: where.
        trials: how many.
        epochs: of each.
        own: what of the user's own is tuned.
        gone: a folder that is removed before there is a node: what a node has of it, it was sent.
    """
    nodes = [machines.nodes.add() for _ in range(3)] if gone is None else []
    process = machines.start(
        "tune", *SMALL, *own, "--epochs", str(epochs), "--trials", str(trials), "--study", "many",
        "--checkpoint-interval", "0.1s",
    )  # fmt: skip
    try:
        if gone is not None:
            prepared = Path(machines.files.removeprefix("file://")) / "datasets"
            wait_until(lambda: process.poll() is not None or prepared.exists())
            shutil.rmtree(gone)
            nodes = [machines.nodes.add() for _ in range(3)]
        wait_until(lambda: process.poll() is not None or machines.finished("many") >= 2, 400)
        assert not [line for line in shown_commands() if PASSWORD in line]
        machines.nodes.pull_the_plug(nodes[0])
        machines.nodes.add()
        _, said = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 0, f"{said}\n{machines.command.logs()}"
    return said, machines.trials("many")


def require_exact(machines: Machines, said: str, found: list[Any], trials: int, *, on: int) -> None:
    states = Counter(trial.state for trial in found)
    assert sum(states[state] for state in (TrialState.COMPLETE, TrialState.PRUNED)) == trials == len(found)
    trained = Counter(tuple(line.split()[:2]) for line in machines.epochs.read_text().splitlines())
    assert len(trained) == sum(len(trial.intermediate_values) for trial in found)
    # With a checkpoint at each epoch's end, the trial whose node goes trains once more the epoch that it was in, and
    # that before it, whose checkpoint was still being written.
    again = Counter(trial for (trial, _), times in trained.items() for _ in range(times - 1))
    assert len(again) <= 1
    assert again.total() <= 2
    assert "a node is gone" in said
    assert len({node_of(trial.user_attrs[attributes.WORKER]) for trial in found}) >= on
    logs = [file.read_text() for file in machines.command.home.glob("logs/*/*.log")]
    assert [log for log in logs if "trial 0: claim 1" in log]
    everything = [said, *logs, *(file.read_text(errors="replace") for file in session_logs())]
    assert not [text for text in everything if PASSWORD in text]


def session_logs() -> list[Path]:
    """What Ray's own pages show of this cluster."""
    return [file for file in Path("/tmp/ray/session_latest/logs").resolve().rglob("*") if file.is_file()]


def test_a_study_ends_with_its_budget_though_a_node_goes_and_another_joins(machines: Machines) -> None:
    theirs = machines.command.home.parent / "theirs"
    theirs.mkdir()
    for name, text in THEIRS.items():
        (theirs / name).write_text(text)
    own = (
        "--ship", "--model", f"{theirs}/mine.py:Mine", "--strategy", f"{theirs}/plain.py:Plain",
        "--objective", f"{theirs}/right.py:right", "--direction", "max", "--workers", "3",
    )  # fmt: skip
    said, found = a_node_goes_and_another_joins(machines, 10, 3, *own, gone=theirs)
    require_exact(machines, said, found, 10, on=2)
    assert "ships     mine.py, plain.py, right.py, slow_models.py, to each node; no other file beside them" in said
    assert not theirs.exists()
    assert list(machines.nodes.homes.glob("node-*/shipped/*/0/slow_models.py"))


@pytest.mark.long
@pytest.mark.parametrize("machines", ["folder", "object store"], indirect=True)
def test_forty_trials_end_exactly_once_each_wherever_their_files_are(machines: Machines) -> None:
    said, found = a_node_goes_and_another_joins(machines, 40, 5, "--model", MODEL)
    require_exact(machines, said, found, 40, on=3)
    again = ("--study", "many", "--model", MODEL, "--ship")
    assert "winner: trial" in machines.run("confirm", *again, "--top", "2", "--seeds", "2")
    machines.run("refit", *again, "--epochs", "2")
    assert list(machines.nodes.homes.glob("node-*/shipped/*/0/slow_models.py"))
    export = machines.command.start("export", "--study", "many", "--storage", machines.url, "--model", MODEL)
    _, told = export.communicate(timeout=200)
    assert export.returncode == 0, told


@pytest.mark.parametrize("machines", ["object store"], indirect=True)
def test_one_node_with_its_files_in_an_object_store_gives_what_plain_tune_does(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = os.cpu_count() or 1
    machines.nodes.add(cpus=cores)
    asked = (*SMALL, "--epochs", "2", "--trials", "3", "--workers", "1", "--seed", "7", "--search-only")
    said = machines.run("tune", *asked, "--study", "there")
    here = CommandLine(tmp_path / "plain")
    here.run("tune", *asked, "--study", "here")
    mine, theirs = here.study("here").trials, machines.trials("there")
    assert [trial.params for trial in mine] == [trial.params for trial in theirs]
    assert [trial.intermediate_values for trial in mine] == [trial.intermediate_values for trial in theirs]
    told = machines.run("refit", "--study", "there", "--epochs", "1")
    assert "refit: 1 trial on 1 worker" in told
    (refitted,) = [trial for trial in machines.trials("there") if trial not in theirs]
    assert refitted.state is TrialState.COMPLETE
    assert node_of(refitted.user_attrs[attributes.WORKER]) == node_of(theirs[0].user_attrs[attributes.WORKER])
    credentials = {name: value for name, value in machines.command.environment.items() if name.startswith("AWS_")}
    everything = [said, told, machines.command.logs(), *(file.read_text(errors="replace") for file in session_logs())]
    assert not [text for text in everything if credentials["AWS_SECRET_ACCESS_KEY"] in text]
    for name, value in credentials.items():  # not before: a node has what whoever starts it has
        monkeypatch.setenv(name, value)
    artifacts = Artifacts(artifact_files(Home(tmp_path / "elsewhere", machines.files)))
    assert len([artifacts.verified(trial, "model") for trial in theirs]) == 3


@pytest.mark.long
def test_the_recipe_from_two_machines_to_a_finished_study_as_printed(server: str, tmp_path: Path) -> None:
    text = Page.read("tuning/README.md").text
    recipe = Page("", text[text.index("### A Ray cluster") : text.index("### Watching from elsewhere")])
    starts, (export, *study) = (block.splitlines() for block in recipe.blocks("console"))
    assert len(starts) == 2
    names = [word.partition("=")[0] for word in shlex.split(export)[2:]]
    with postgres.database_on(server) as url, object_store() as store, started_by_hand(starts, tmp_path) as nodes:
        assert set(names) < {"PGPASSWORD", *store.environment}
        places = {"postgresql+psycopg://tuner@db.example.org/tuning": url, "s3://bucket/tuning": store.bucket()}
        command = CommandLine(tmp_path / "home", {**nodes, **store.environment, "PGPASSWORD": PASSWORD})
        said = []
        for line in study:
            make, target, *variables = shlex.split(line.removeprefix("$ "))
            assert make == "make"
            given = dict(variable.split("=", 1) for variable in variables)
            given = {name: places.get(value, value) for name, value in given.items()}
            command = replace(command, environment={**command.environment, "TUNING_FILES": given.pop("FILES")})
            options = [part for name, value in given.items() for part in (f"--{name.lower()}", value)]
            said.append(command.run(target, *options, *(SMALLER if target == "tune" else ())).stderr)
        database = open_to_read(url)
        found = find_study(database, "mnist_sample").get_trials()
        database.engine.dispose()
    assert "2 on CPU" in said[0]
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 8
    assert len({node_of(trial.user_attrs[attributes.WORKER]) for trial in found}) == 2
    assert (command.home / "exports/mnist_sample/model.keras").is_file()


def test_a_database_in_a_file_is_refused_before_any_cluster_is_asked(tmp_path: Path) -> None:
    command = CommandLine(tmp_path)
    refused = command.run("tune", "--dataset", "mnist_sample", "--cluster", "auto", status=2)
    assert refused.stderr.count("\n") == 1
    assert "needs PostgreSQL, since SQLite is for one machine" in refused.stderr
