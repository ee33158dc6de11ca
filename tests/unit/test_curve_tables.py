"""Tables of recorded curves: what is refused, what comes back, and which row answers a configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from storage.errors import BadInput
from studies.simulation.curve_tables import Answers, CurveTable, table_of
from studies.spec import Scalar

NAMES = ("learning_rate", "units", "optimizer")
ROWS = np.array([["0.001", "16", "sgd"], ["0.01", "32", "adam"], ["0.1", "64", "sgd"]])
CURVES = np.array([[0.1, 0.2, 0.3], [0.4, np.nan, np.nan], [0.2, 0.5, np.nan]])


def a_table(**changed: Any) -> CurveTable:
    made: dict[str, Any] = {"names": NAMES, "X": ROWS, "curves": CURVES, "higher_is_better": True}
    return CurveTable(**(made | changed))


def test_a_table_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    seconds = np.where(np.isnan(CURVES), np.nan, 2.5)
    for table in (a_table(), a_table(seconds=seconds, higher_is_better=False)):
        table.save(tmp_path / "t.npz")
        loaded = CurveTable.load(tmp_path / "t.npz")
        assert loaded.names == table.names
        assert loaded.higher_is_better is table.higher_is_better
        np.testing.assert_array_equal(loaded.X, table.X)
        np.testing.assert_array_equal(loaded.curves, table.curves)
        assert (loaded.seconds is None) == (table.seconds is None)


def test_saving_the_same_table_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    a_table().save(tmp_path / "a.npz")
    a_table().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@given(
    st.lists(
        st.tuples(
            st.floats(1e-8, 1e8), st.integers(-(2**31), 2**31), st.sampled_from(["a", "ö", "x y"]), st.booleans()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_study_s_parameters_come_back_exactly(rows: list[tuple[float, int, str, bool]]) -> None:
    names = ("float", "int", "choice", "flag")
    table = table_of(
        [dict(zip(names, row, strict=True)) for row in rows], np.ones((len(rows), 2)), higher_is_better=True
    )
    for index, row in enumerate(rows):
        assert table.params(index) == {"float": row[0], "int": row[1], "choice": row[2], "flag": str(row[3])}


def test_a_parameter_that_was_inactive_is_left_out() -> None:
    table = table_of([{"a": 1.5, "b": "x"}, {"b": "y"}, {"a": 2.5}], np.ones((3, 1)), higher_is_better=True)
    assert [table.params(row) for row in range(3)] == [{"a": 1.5, "b": "x"}, {"b": "y"}, {"a": 2.5}]
    assert table.distributions() == {"a": FloatDistribution(1.5, 2.5), "b": CategoricalDistribution(["x", "y"])}
    assert Answers(table).row_of({"b": "y"}) == 1
    assert Answers(table).row_of({"a": 2.4}) == 2


def test_the_final_value_is_the_last_finite_one_with_the_sign_that_makes_higher_better() -> None:
    curves = np.array([[3.0, 1.0, 2.0], [3.0, np.inf, np.nan], [np.nan] * 3])
    np.testing.assert_array_equal(a_table(curves=curves).finals, [2.0, 3.0, -np.inf])
    np.testing.assert_array_equal(a_table(curves=curves, higher_is_better=False).finals, [-2.0, -3.0, -np.inf])


def test_the_ranges_are_the_columns_own_by_logarithm_over_two_decades_or_more() -> None:
    assert a_table().distributions() == {
        "learning_rate": FloatDistribution(0.001, 0.1, log=True),
        "units": IntDistribution(16, 64),
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
    }
    numbers = a_table(names=("x",), X=np.array([[0.0], [0.5], [1000.0]]))
    assert numbers.distributions() == {"x": FloatDistribution(0.0, 1000.0)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ("a", "a", "b")}, "a name of its own"),
        ({"X": ROWS[:, :2]}, r"\(3, 2\), which is not \(n, 3\)"),
        ({"X": ROWS.astype(object)}, "objects would have to be unpickled"),
        ({"names": ("x",), "X": np.array([[np.inf], [1.0], [2.0]])}, "'x' has an infinite value"),
        ({"names": ("x",), "X": np.full((3, 1), np.nan)}, "'x' has no value"),
        ({"curves": CURVES[:2]}, r"\(2, 3\), which is not \(3, R\)"),
        ({"curves": CURVES.astype(str)}, "curves are <U"),
        ({"curves": np.full((3, 2), np.nan)}, "no curve has a finite value"),
        (
            {"curves": np.array([[1.0, 2, 3], [1, np.nan, 2], [1, 2, 3]])},
            "row 1 has a value after epoch 3 but none after epoch 2",
        ),
        ({"seconds": np.ones((3, 2))}, "of shape"),
        ({"seconds": np.zeros((3, 3))}, "epoch 1 of row 0 took 0.0 seconds"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_what_is_wrong(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        a_table(**changed)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise AssertionError('unpickled')",)


def test_a_file_with_pickled_objects_is_refused_unopened(tmp_path: Path) -> None:
    file = tmp_path / "t.npz"
    arrays: dict[str, Any] = {
        "names": np.array(NAMES), "X": np.array([[Bomb()]], dtype=object), "curves": CURVES, "higher_is_better": True
    }  # fmt: skip
    np.savez(file, **arrays)
    with pytest.raises(BadInput, match="without pickled objects"):
        CurveTable.load(file)


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "t.npz"
    with pytest.raises(BadInput, match="no file"):
        CurveTable.load(file)
    file.write_bytes(b"PK nonsense")
    with pytest.raises(BadInput, match="cannot be read"):
        CurveTable.load(file)
    np.savez(file, names=np.array(NAMES), X=ROWS)
    with pytest.raises(BadInput, match=r"t\.npz has no curves, higher_is_better"):
        CurveTable.load(file)
    np.savez(file, names=np.array(NAMES), X=ROWS, curves=CURVES, higher_is_better=np.array([True, False]))
    with pytest.raises(BadInput, match="one true or false"):
        CurveTable.load(file)
    np.savez(file, names=np.array(NAMES), X=ROWS[:2], curves=CURVES, higher_is_better=True)
    with pytest.raises(BadInput, match=r"t\.npz: curves have the shape"):
        CurveTable.load(file)


def test_a_configuration_is_answered_by_the_nearest_row_that_is_free() -> None:
    answers = Answers(a_table())
    near_the_first: dict[str, Scalar] = {"learning_rate": 0.0012, "units": 16, "optimizer": "sgd"}
    assert answers.row_of(near_the_first) == 0
    assert answers.row_of(near_the_first) == 1
    assert answers.row_of(near_the_first) == 2
    assert answers.row_of(near_the_first) == 0, "all were used, so all are free again"


def test_distance_is_measured_by_logarithm_and_another_category_counts_one() -> None:
    table = a_table(names=("rate",), X=np.array([[1e-4], [1e-2], [1.0]]))
    assert Answers(table).row_of({"rate": 2e-3}) == 1, "linearly, the first one is nearer"
    mixed = a_table(names=("rate", "kind"), X=np.array([["1", "a"], ["2", "b"], ["3", "b"]]))
    assert Answers(mixed).row_of({"rate": 2.9, "kind": "a"}) == 0
    assert Answers(mixed).row_of({"rate": 3.1, "kind": "b"}) == 2


def test_rows_equally_near_are_taken_in_their_order() -> None:
    answers = Answers(a_table(names=("x",), X=np.array([[1.0], [3.0], [1.0]])))
    assert [answers.row_of({"x": 2.0}) for _ in range(3)] == [0, 1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_a_study_is_answered_by_every_row_once_before_any_comes_twice(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    table = a_table(names=("x", "y"), X=random.uniform(size=(rows, 2)), curves=np.ones((rows, 1)))
    answers = Answers(table)
    drawn = [answers.row_of({"x": float(random.uniform()), "y": float(random.uniform())}) for _ in range(2 * rows)]
    assert sorted(drawn[:rows]) == sorted(drawn[rows:]) == list(range(rows))


def test_a_parameter_that_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match="no parameter 'depth'"):
        Answers(a_table()).row_of({"depth": 3})


def test_reading_a_table_needs_neither_keras_nor_optuna() -> None:
    program = (
        "import sys, studies.simulation.curve_tables as m; "
        "assert not {'keras', 'optuna', 'pandas', 'pydantic'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
