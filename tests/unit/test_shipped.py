"""A user's files go to nodes that have none: whole, as they were, and imported only where the study records them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import BadInput
from storage.settings import Home
from tuning.launch.engines.node import Job, Node, Refusal
from tuning.launch.engines.shipped import LARGEST_BYTES, Shipped
from tuning.launch.understand import TuneOptions, understood
from tuning.machine.devices import CPU, Device, Placement
from tuning.messages import Note, WorkerOptions, decode
from tuning.user_classes import UserFile, load_strategy

STRATEGY = """
from studies.strategies.strategy import Strategy
import part


class Mine(Strategy):
    freezes = part.flag


class Other(Mine):
    pass
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's, with a strategy, what that imports, and what nobody imports."""
    meta_path, modules = sys.meta_path[:], set(sys.modules)
    folder = tmp_path / "theirs"
    (folder / "part").mkdir(parents=True)
    (folder / "mine.py").write_text(STRATEGY)
    (folder / "part" / "__init__.py").write_text("from part.inner import flag")
    (folder / "part" / "inner.py").write_text("flag = False")
    (folder / "unused.py").write_text("raise SystemExit")
    (folder / "labels.json").write_text("[]")
    yield folder
    sys.meta_path[:] = meta_path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def node(tmp_path: Path) -> Home:
    """The home of a node."""
    return Home(tmp_path / "node")


def arrived(shipped: Shipped, file: UserFile, node: Home) -> UserFile:
    return shipped.unpacked(node)[str(file)]


def files_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_a_file_goes_with_what_it_imports_from_its_folder_and_nothing_else(theirs: Path, node: Home) -> None:
    file = UserFile(theirs / "mine.py", "Mine")
    name, shipped = file.name, Shipped.of([file])
    assert shipped.in_words() == "mine.py, part/__init__.py, part/inner.py, to each node; no other file beside them"
    shutil.rmtree(theirs)
    there = arrived(shipped, file, node)
    assert files_in(there.path.parent) == {"mine.py", "part/__init__.py", "part/inner.py"}
    assert there.name == name
    loaded = load_strategy(name, there)
    assert loaded is not None
    assert (loaded.__name__, loaded.freezes) == ("Mine", False)


def test_two_files_that_import_the_same_module_do_so_there(theirs: Path, node: Home, tmp_path: Path) -> None:
    mine, more = UserFile(theirs / "mine.py", "Mine"), UserFile(theirs / "more.py", "More")
    more.path.write_text(STRATEGY.replace("Mine", "More"))
    (tmp_path / "alone.py").write_text(STRATEGY.replace("import part", "").replace("part.flag", "True"))
    alone = UserFile(tmp_path / "alone.py", "Other")
    there = Shipped.of([mine, more, alone]).unpacked(node)
    for file in (mine, more, alone):
        assert load_strategy(file.name, there[str(file)]) is not None


def test_it_goes_as_it_was_when_the_command_was_given(theirs: Path, node: Home) -> None:
    file = UserFile(theirs / "mine.py", "Mine")
    name, shipped = file.name, Shipped.of([file])
    (theirs / "part" / "inner.py").write_text("flag = True")
    assert arrived(shipped, file, node).name == name != file.name


def test_what_a_database_says_is_not_imported_though_it_lies_on_the_node(theirs: Path, node: Home) -> None:
    mine, other = UserFile(theirs / "mine.py", "Mine"), UserFile(theirs / "other.py", "Mine")
    other.path.write_text("raise SystemExit('imported')")
    arrived(Shipped.of([other]), other, node)  # another study's
    there = arrived(Shipped.of([mine]), mine, node)
    for recorded in (other.name, mine.name.replace(":Mine", ":Other"), mine.name[:-1], f"{mine.path}:Mine"):
        with pytest.raises(BadInput, match=r"but this worker was started with 'mine\.py:Mine@"):
            load_strategy(recorded, there)


def test_a_module_that_is_another_ones_on_a_node_is_named(
    theirs: Path, node: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = UserFile(theirs / "mine.py", "Mine")
    name, there = file.name, arrived(Shipped.of([file]), file, node)
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "part.py").write_text("flag = 'of a package that only this node has'")
    monkeypatch.syspath_prepend(str(installed))
    with pytest.raises(BadInput, match=r"unchanged\. .*0/part is not what mine\.py imports as 'part': an installed"):
        load_strategy(name, there)


@pytest.mark.parametrize("done", ["removed", "changed", "added", "gone"])
def test_what_was_touched_on_the_node_is_written_anew(theirs: Path, node: Home, done: str) -> None:
    file = UserFile(theirs / "mine.py", "Mine")
    shipped = Shipped.of([file])
    inner = arrived(shipped, file, node).path.parent / "part" / "inner.py"
    match done:
        case "removed":
            inner.unlink()
        case "changed":
            inner.write_text("flag = 'changed'")
        case "added":
            inner.with_name("evil.py").write_text("")
        case "gone":
            shutil.rmtree(node.all_shipped)
    assert arrived(shipped, file, node).name == file.name
    assert inner.read_text() == "flag = False"
    assert len(files_in(node.all_shipped)) == 3


def test_two_commands_with_different_files_do_not_meet(theirs: Path, node: Home, tmp_path: Path) -> None:
    places = set()
    for number, called in enumerate(("mine.py", "mine.py", "same.py")):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = UserFile(folder / called, "Mine")
        file.path.write_text(f"number = {min(number, 1)}")  # the last two differ by name alone
        places.add(arrived(Shipped.of([file]), file, node).path)
        assert {place.read_text() for place in places} == {f"number = {one}" for one in range(min(number, 1) + 1)}
    assert len(places) == 3


@pytest.mark.parametrize("called", ["my model (ü) '1'.py", 'a:b "c" $d@e.py', "..py", "%2F\n.py", "m\udcfcller.py"])
def test_a_file_is_called_there_as_it_is_here(tmp_path: Path, node: Home, called: str) -> None:
    file = UserFile(tmp_path / called, "Mine")
    file.path.write_text("x = 1")
    shipped = Shipped.of([file])
    there = arrived(shipped, file, node)
    assert there.path.read_text() == "x = 1"
    assert there.name == file.name
    assert shipped.in_words().isprintable()


def test_what_is_no_source_any_more_does_not_travel(tmp_path: Path) -> None:
    file = UserFile(tmp_path / "mine.py", "Mine")
    file.path.write_text("import weights")
    (tmp_path / "weights.py").write_text(f"weights = {'1' * LARGEST_BYTES!r}")
    with pytest.raises(BadInput, match=r"--ship: mine\.py and what is imported beside have 4\.2 MB, and at most 4\.2"):
        Shipped.of([file])


def test_nothing_travels_where_all_is_the_projects_own() -> None:
    assert Shipped.of([]).in_words() == "nothing: what the study names is the project's own"


def test_without_a_cluster_it_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(BadInput, match=r"--ship: sends your files to the nodes of a cluster, and this machine has"):
        understood(TuneOptions(dataset="mnist_sample", ship=True), Home(home))
    assert not home.exists()


# --- On a node

# Stands in for a worker: it says where its file lies, and writes the same to its log.
SAYS = """
import sys
from tuning.messages import Note, encode
print(encode(Note(f"in {sys.argv[1]}")), end="")
print(f'File "{sys.argv[1]}", line 1: {open(sys.argv[1]).read()}', file=sys.stderr)
"""


@pytest.fixture
def job(theirs: Path, node: Home, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A worker with a file that no node has."""
    monkeypatch.setenv("TUNING_HOME", str(node.root))

    def command(self: WorkerOptions) -> list[str]:
        assert self.user_file is not None
        return [sys.executable, "-c", SAYS, str(self.user_file.path)]

    monkeypatch.setattr(WorkerOptions, "command", command)
    folder = theirs / 'of "mine"'
    folder.mkdir()
    file = UserFile(folder / "model.py", "Model")
    file.path.write_text("x = 1")
    place = Placement(Device("cpu", "cpu", CPU), 1, {})
    options = WorkerOptions.at(place, "mnist", file, None)
    job = Job(options.to_json(), False, {}, "", None, "node-1", Shipped.of([file]))
    shutil.rmtree(folder)
    return job


def test_messages_and_the_log_name_the_file_that_the_user_has(job: Job, theirs: Path, node: Home) -> None:
    running = Node()
    assert running.begin(job) is None
    lines: list[str] = []
    log, status = "", None
    while status is None:
        heard = running.hear(5.0)
        lines, log, status = lines + heard.lines, log + heard.log, heard.status
    assert [decode(line) for line in lines] == [Note(f'in {theirs}/of "mine"/model.py')]
    assert log == f'File "{theirs}/of "mine"/model.py", line 1: x = 1\n'
    assert status == 0
    assert running._process is not None
    assert running._process.stdin is not None
    running._process.stdin.close()  # as the actor's end does
    assert files_in(node.all_shipped)


def test_without_it_a_node_that_lacks_the_file_says_what_to_do(job: Job) -> None:
    refusal = Node().begin(replace(job, shipped=None))
    assert isinstance(refusal, Refusal)
    assert refusal.exit_status == BadInput.exit_status
    assert refusal.message.startswith("model '")
    assert refusal.message.endswith(
        'of "mine"/model.py. Give the command with SHIP=1 (--ship), which sends it, or put it there.'
    )


def test_a_node_that_cannot_keep_it_says_so(job: Job, node: Home) -> None:
    node.root.mkdir()
    node.all_shipped.write_text("a file")
    refusal = Node().begin(job)
    assert isinstance(refusal, Refusal)
    assert f"cannot create the folder {node.all_shipped}" in refusal.message
