"""The databases that each contract is asked of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from storage.opening import open_database
from tests.databases import fresh_database
from tests.postgres import NoServer, copy_of, database_on, server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server; where none can be started, tests of it are skipped, but never in CI."""
    with contextlib.ExitStack() as running:
        try:
            url = running.enter_context(server())
        except NoServer as error:
            if os.environ.get("CI"):
                pytest.fail(f"PostgreSQL cannot be started: {error}")
            pytest.skip(f"PostgreSQL cannot be started: {error}. Set TEST_POSTGRES_URL to a server's.")
        yield url


@pytest.fixture(scope="session")
def empty_postgres(postgres_server: str) -> Iterator[str]:
    """The URL of a database with Optuna's tables and no study, to be copied: making them takes longer."""
    with database_on(postgres_server) as url:
        open_database(url, create=True).engine.dispose()
        yield url


@pytest.fixture
def postgres(postgres_server: str, empty_postgres: str) -> Iterator[Database]:
    """A database of its own on the server."""
    with copy_of(postgres_server, empty_postgres) as url:
        opened = open_database(url)
        yield opened
        opened.engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "studies.db") as opened:
        yield opened


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    opened: Database = request.getfixturevalue(request.param)
    return opened
