"""Every command of `tuning` and its options, from typer's app."""

from __future__ import annotations

import re
from typing import Any, Final

import typer

from tests.pages.tables import code, markdown
from tuning.cli import app

_DEFAULT: Final = re.compile(r"\s*\[default: (.*)\]$")


def commands() -> dict[str, Any]:
    """Return every command that does something, by its words."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            found[" ".join(words)] = command
            return
        for name, one in inner.items():
            walk(one, (*words, name))

    walk(typer.main.get_command(app), ("tuning",))
    return found


def visible(command: Any) -> list[Any]:
    """Return the parameters of a command that are for users."""
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def shown_names(parameter: Any) -> list[str]:
    """Return what a parameter is called on the command line."""
    if parameter.param_type_name == "argument":
        return [parameter.metavar or parameter.name.upper()]
    return [*parameter.opts, *parameter.secondary_opts]


def options_table(words: str) -> str:
    """Return the options of a command, such as `tuning data list`, as a table."""
    return markdown(("option", "default", "meaning"), [_row(one) for one in visible(commands()[words])])


def _row(parameter: Any) -> tuple[str, str, str]:
    told = _DEFAULT.search(parameter.help or "")
    meaning = _DEFAULT.sub("", parameter.help or "")
    return code(*shown_names(parameter)), _default(parameter, told[1] if told else ""), meaning.removesuffix(".")


def _default(parameter: Any, told: str) -> str:
    if parameter.required or (parameter.param_type_name == "argument" and not told):
        return "required"
    if parameter.secondary_opts:
        return code(parameter.opts[0] if parameter.default else parameter.secondary_opts[0])
    if isinstance(parameter.default, (str, int)) and not isinstance(parameter.default, bool):
        return code(str(parameter.default))
    return re.sub(r"(TUNING_HOME\S*)", r"`\1`", told)
