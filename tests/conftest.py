"""What every test stands on: its own TUNING_HOME, no accelerator, and Keras only where a test says so."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A database waits for the disk at each commit. What tests write is not meant to last: where a file system in memory has
# enough room, it lies there.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# Read once, when TensorFlow is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A million objects of Keras and of the tests stay to the end: they are not searched for garbage while they are made,
# nor, frozen in `pytest_collection_finish`, after it.
gc.disable()

# Whatever the cores are fastest in, what tests train is the same.
os.environ["TUNING_PRECISION"] = "float32"

# Begun in the background of a script, the tests ignore Ctrl-C, and every process that they start would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own, empty ``TUNING_HOME``."""
    root = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TUNING_HOME", str(root))
    for name in ("DATA_DIR", "TUNING_FILES"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture(autouse=True)
def accelerators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every accelerator from a test, and from the processes that it starts, unless it is marked ``gpu``."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture(autouse=True)
def keras_only_where_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that is the first to import Keras without the mark ``keras``."""
    before = "keras" in sys.modules
    yield
    if not before and "keras" in sys.modules and request.node.get_closest_marker("keras") is None:
        pytest.fail("this test imported Keras: mark it with @pytest.mark.keras, or find out which import does it")


@pytest.fixture
def collected(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """What was found in the files of this run, also what is not run."""
    return request.config.stash[COLLECTED]


# Those that wait for processes and train come first: what is short then fills the end evenly.
ORDER = ("faults", "integration", "contract", "unit")


COLLECTED = pytest.StashKey[list[pytest.Item]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[COLLECTED] = items.copy()
    items.sort(key=lambda item: ORDER.index(item.path.parent.name) if item.path.parent.name in ORDER else len(ORDER))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to go on when reading the tests imported Keras, and none that was selected needs it."""
    gc.freeze()
    gc.enable()
    if "keras" in sys.modules and not any(item.get_closest_marker("keras") for item in session.items):
        raise pytest.UsageError("a test module imports Keras at its top: import it in the tests marked keras")
    _remember_the_schema()


def _remember_the_schema() -> None:
    """Let Optuna find out once what its newest schema is: it loads all its migrations for it, at each opening."""
    rdb = sys.modules.get("optuna.storages._rdb.storage")
    if rdb is None:
        return
    find, found = rdb._VersionManager.get_head_version, list[str]()

    def find_once(manager: object) -> str:
        if not found:
            found.append(find(manager))
        return found[0]

    rdb._VersionManager.get_head_version = find_once
