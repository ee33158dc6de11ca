"""The environment variables, from where they are declared."""

from __future__ import annotations

from tests.pages.tables import code, markdown
from tuning.environment import ENVIRONMENT


def environment_table() -> str:
    """Return every variable as a table."""
    rows = [(code(variable.name), variable.default, variable.meaning) for variable in ENVIRONMENT]
    return markdown(("variable", "default", "meaning"), rows)
