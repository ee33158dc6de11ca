"""What every test stands on: its own TUNING_HOME, no accelerator, and Keras only where a test says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Read once, when TensorFlow is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own, empty ``TUNING_HOME``."""
    root = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TUNING_HOME", str(root))
    monkeypatch.delenv("DATA_DIR", raising=False)
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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to go on when reading the tests imported Keras, and none that was selected needs it."""
    if "keras" in sys.modules and not any(item.get_closest_marker("keras") for item in session.items):
        raise pytest.UsageError("a test module imports Keras at its top: import it in the tests marked keras")
