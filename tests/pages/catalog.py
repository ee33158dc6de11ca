"""The plans of the catalog, from its files."""

from __future__ import annotations

from studies.datasets.registry import DATASETS
from studies.declaration import catalog_names, from_catalog
from studies.spec import VALIDATION_IMAGES
from tests.pages.tables import code, markdown

HEAD = (
    "study",
    *("model (CPU)", "trials", "epochs", "patience"),
    *("model (GPU)", "trials", "epochs", "patience"),
    "validation images",
)


def catalog_table() -> str:
    """Return the plans of every declared study as a table, in the order of the data sets."""
    return markdown(HEAD, [_row(name) for name in DATASETS if name in catalog_names()])


def _row(name: str) -> list[str]:
    declared = from_catalog(name)
    cells = [code(name)]
    for plan in (declared.plan["cpu"], declared.plan["gpu"]):
        cells += [code(plan.model or declared.model), str(plan.trials), str(plan.epochs), str(plan.patience)]
    return [*cells, f"{declared.plan['cpu'].validation_images or VALIDATION_IMAGES:,}"]
