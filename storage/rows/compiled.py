"""Statements that are compiled once and run as the driver's own text.

At each execution SQLAlchemy looks a statement up in its cache, and goes through the types of what it is given and gets:
that takes longer than what the database does, inside the transaction for which all other writers wait.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, CursorResult, Dialect, Executable


class Compiled:
    """A statement of SQLAlchemy Core as text.

    What it is given and what it returns is the driver's own: a column of an enumeration has the names of its members.

    Args:
        statement: of values that a driver takes as they are: numbers and text, no moments.
        dialect: the database's.
        given: the names of the values that each execution gives.
    """

    def __init__(self, statement: Any, dialect: Dialect, given: tuple[str, ...]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(given))
        self._text = str(compiled)
        self._order: list[str] | None = compiled.positiontup  # None where the driver takes values by their names
        self._constants = {name: value for name, value in compiled.params.items() if name not in given}

    def run(self, connection: Connection, values: dict[str, Any]) -> CursorResult[*tuple[Any, ...]]:
        """Execute it.

        Args:
            connection: in whose transaction.
            values: all that are given, by their names.
        """
        named = {**self._constants, **values}
        return connection.exec_driver_sql(
            self._text, named if self._order is None else tuple(named[name] for name in self._order)
        )


_COMPILED: WeakKeyDictionary[Dialect, dict[Executable, Compiled]] = WeakKeyDictionary()


def execute(connection: Connection, statement: Executable, **values: Any) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement that is one object for the life of the process, compiled at its first execution.

    Args:
        connection: in whose transaction.
        statement: see `Compiled`; it is given the same names each time.
        values: by their names.
    """
    of_dialect = _COMPILED.setdefault(connection.dialect, {})
    found = of_dialect.get(statement)
    if found is None:
        found = of_dialect[statement] = Compiled(statement, connection.dialect, tuple(values))
    return found.run(connection, values)
