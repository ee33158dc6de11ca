"""The keys of a study's file: types and defaults from pydantic's fields, meanings from the classes' docstrings."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from studies.declaration import Declaration
from studies.spec import Images, ParameterRange, Plan, Sampler, StrategyChoice
from tests.pages.docstrings import attributes
from tests.pages.tables import code, markdown

# The tables of the file; `*` is a name that the user gives.
TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "images": Images,
    "plan.*": Plan,
    "parameters.*": ParameterRange,
    "sampler": Sampler,
    "strategy": StrategyChoice,
}


def keys_table() -> str:
    """Return every key as a table."""
    rows = [(code(key), kind, default, meaning) for key, (kind, default, meaning) in _described().items()]
    return markdown(("key", "type", "default", "meaning"), rows)


def spec_keys() -> dict[str, FieldInfo]:
    """Return the field of every key."""
    found: dict[str, FieldInfo] = {}
    for name, field in Declaration.model_fields.items():
        if name not in TABLES:
            found[f"{name}.*" if f"{name}.*" in TABLES else name] = field
    for table, model in TABLES.items():
        found |= {f"{table}.{name}": field for name, field in model.model_fields.items()}
    return found


def _described() -> dict[str, tuple[str, str, str]]:
    """Return the type, the default and the meaning of every key, each table's keys after the table."""
    found: dict[str, tuple[str, str, str]] = {}
    for key, field in spec_keys().items():
        table, _, name = key.rpartition(".")
        owner = TABLES.get(table, Declaration)
        attribute = key.partition(".")[0] if owner is Declaration else name
        kind = "table" if key in TABLES else _kind(field.annotation, field.metadata)
        found[key] = (kind, _default(field), attributes(owner)[attribute])
    tops = [key for key in found if key not in TABLES and "." not in key]
    order = [*tops, *(key for table in TABLES for key in found if key == table or key.startswith(f"{table}."))]
    return {key: found[key] for key in order}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else code(json.dumps(value))


def _kind(annotation: Any, metadata: Sequence[Any]) -> str:
    """Return a type as a user of TOML calls it."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        bounds = [bound for one in more for bound in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return _kind(inner, [*metadata, *bounds])
    if get_origin(annotation) is Literal:
        return code(*map(json.dumps, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [one for one in get_args(annotation) if one is not type(None)]
        return _kind(inner[0], metadata) if len(inner) == 1 else "a value"
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) is tuple:
        return "list of tables" if get_origin(get_args(annotation)[0]) is dict else "list"
    words = {bool: "`true`, `false`", str: "text", int: "whole number", float: "number"}[annotation]
    return words + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    low = next((one.ge for one in metadata if isinstance(one, Ge)), None)
    above = next((one.gt for one in metadata if isinstance(one, Gt)), None)
    below = next((one.lt for one in metadata if isinstance(one, Lt)), None)
    if low is not None:
        return f" from {low}" + (f", below {below}" if below is not None else "")
    return f" above {above}" if above is not None else ""
