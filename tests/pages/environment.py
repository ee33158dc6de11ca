"""The environment variables, from where they are declared."""

from __future__ import annotations

from storage.settings import ENVIRONMENT
from tests.pages.tables import code, markdown


def environment_table() -> str:
    """Return every variable as a table."""
    rows = [(code(variable.name), variable.default, variable.meaning) for variable in ENVIRONMENT]
    return markdown(("variable", "default", "meaning"), rows)
