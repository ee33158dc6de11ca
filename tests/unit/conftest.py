"""Where claims are kept, empty, for the tests that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from storage.settings import Home
from tests.databases import Kept, fresh_database, fresh_ledger


@pytest.fixture
def mine(home: Path) -> Home:
    """The test's own home."""
    return Home(home)


@pytest.fixture(params=["sqlite", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """A database, and this process's memory, one after the other."""
    with fresh_ledger(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database in a file."""
    with fresh_database(tmp_path / "studies.db") as opened:
        yield opened
