"""Two studies side by side, and how much each took until it saw the same value."""

from __future__ import annotations

import json
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.cells import cell_len

from storage import attributes
from storage.database import Database
from storage.errors import BadInput
from studies.findings.reaching import Reached, reached
from studies.objectives.objective import VALIDATION_ACCURACY
from tests.reported import SPEC, add_later_phases, make_study
from tuning.views.compare import compare, show_comparison

DATA: dict[str, Any] = {
    "checksum": "c", "split": "s", "train": 1600, "validation": 400, "mean": [0.0], "std": [1.0]
}  # fmt: skip


def worked(values: dict[int, float], *spans: tuple[float, float]) -> FrozenTrial:
    """A trial that was worked on in some spans of time."""
    system: dict[str, Any] = {attributes.CLAIM: {"id": None}, attributes.WORKED: [list(span) for span in spans]}
    return create_trial(state=TrialState.PRUNED, value=0.0, intermediate_values=values, system_attrs=system)


def test_a_value_is_reached_after_the_epochs_of_all_trials_until_then() -> None:
    first = worked({1: 0.1, 2: 0.6}, (0, 10), (100, 110))
    second = worked({1: 0.2, 2: 0.3, 3: 0.5}, (10, 40))
    assert reached([first, second], 0.2, VALIDATION_ACCURACY) == Reached(2, 20.0)
    assert reached([first, second], 0.5, VALIDATION_ACCURACY) == Reached(4, 40.0)
    assert reached([first, second], 0.6, VALIDATION_ACCURACY) == Reached(5, 50.0), (
        "it was frozen between its two epochs"
    )
    assert reached([first, second], 0.7, VALIDATION_ACCURACY) is None
    assert reached([worked({1: 0.9})], 0.1, VALIDATION_ACCURACY) is None, "when it was is not known"


def test_two_studies_of_the_same_images_are_compared_by_what_both_have_seen(database: Database) -> None:
    one = make_study(database, name="one", data=DATA, uid="1")
    other = make_study(database, name="other", data=DATA, uid="2", spec=SPEC.model_copy(update={"epochs": 4}))
    add_later_phases(one)
    found = json.loads(json.dumps(compare(one, other)))
    assert found["comparable"]
    assert found["spec_differences"] == [{"path": "epochs", "values": [8, 4]}]
    assert found["same_value"] == min(each["best"]["value"] for each in found["studies"])
    assert found["studies"][0]["confirmed"]["of"] == 3
    assert found["studies"][0]["refitted"]["number"] == 28
    assert found["studies"][1]["confirmed"] is None


@pytest.mark.parametrize(
    ("data", "seed", "says"),
    [
        ({**DATA, "checksum": "d"}, 3, "they are of other data"),
        ({**DATA, "split": "t"}, 4, "they are of other validation images (seed 3 and 4)"),
        (None, 3, "other was never trained"),
    ],
)
def test_values_of_other_images_are_not_compared(
    database: Database, data: dict[str, Any] | None, seed: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_study(database, name="one", data=DATA)
    other = make_study(database, name="other", data=data, spec=SPEC.model_copy(update={"seed": seed}))
    found = compare(one, other)
    assert (found["comparable"], found["why_not"]) == (False, says)
    assert found["same_value"] is None
    show_comparison(one, other)
    assert f"Their values cannot be compared: {says}." in capsys.readouterr().out


def test_fewer_training_images_leave_the_validation_images_as_they_are(database: Database) -> None:
    one = make_study(database, name="one", data=DATA)
    fewer = {**DATA, "split": "t", "train": 100}
    other = make_study(database, name="other", data=fewer, spec=SPEC.model_copy(update={"train_images": 100}))
    assert compare(one, other)["comparable"]


def test_the_table_fits_eighty_columns(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_study(database, name="a rather long name of a study that somebody gave it", data=DATA)
    other = make_study(database, name="[bold]other", data=DATA, spec=SPEC.model_copy(update={"seed": 4}))
    show_comparison(one, other)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines[:-1])) <= 80
    assert "[bold]other" in "".join(lines)


def test_another_programs_study_is_not_compared(database: Database) -> None:
    theirs = optuna.create_study(study_name="theirs", storage=database)
    with pytest.raises(BadInput, match="another program made it"):
        compare(make_study(database, data=DATA), theirs)
