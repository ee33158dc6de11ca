"""A study in Python: the commands' functions by other words, and what a notebook shows of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image
from rich.text import Text

from storage import attributes
from storage.errors import BadInput, TuningError
from storage.opening import open_database
from storage.settings import Home
from studies.datasets.own.arrays import read_npz
from studies.datasets.preparing import prepare
from studies.declaration import Overrides, from_catalog, make_spec
from studies.leaderboard import as_typed_table, leaderboard
from studies.stored import create_or_load
from studies.study_data import describe
from tests.pages.page import Page, named, rows
from tuning import Study
from tuning.cell import MOST_LINES, Cell
from tuning.given import tune_options
from tuning.launch.progress import live_view
from tuning.notebook.asked_pictures import put_pictures
from tuning.notebook.pictures import Drawn, LeftOut, Pictures
from tuning.notebook.saying import Interrupted, heed, saying
from tuning.notebook.sought import Sought

ROOT = Path(__file__).resolve().parents[2]


class Drawing:
    """What a cell drew, and a clock that stands."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, str]] = []
        self.now = 0.0
        self.cell = Cell(self.bundles.append, lambda: self.now)

    @property
    def text(self) -> str:
        return self.bundles[-1]["text/plain"]

    @property
    def page(self) -> str:
        return self.bundles[-1]["text/html"]


@pytest.fixture
def begun(home: Path) -> optuna.Study:
    """A study of the sample of MNIST, with three trials."""
    place = Home(home)
    database = open_database(place.database_url, create=True)
    declaration = from_catalog("mnist_sample")
    spec = make_spec(
        declaration, Overrides(), plan_name="cpu", model="models.cnn:CNN", strategy=declaration.strategy.name
    )
    dataset = prepare("mnist_sample", place, report=lambda _: None)
    study, _ = create_or_load(database, "mnist_sample", spec, lambda: describe(dataset, spec))
    for number in range(3):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.report(0.5 + number / 10, 1)
        study.tell(trial, 0.5 + number / 10) if number else study.tell(trial, state=TrialState.PRUNED)
    study.set_user_attr(attributes.BUDGET, 3)
    return study


# --- What is said ---


def test_the_words_of_the_command_line_are_said_in_python_and_a_number_may_be_one() -> None:
    said = tune_options(
        dataset="mnist", for_="30m", timeout=90, workers=2, workers_per_device="auto", image_size=(48, 64), flips=False,
        checkpoint_interval="2m", trial_timeout=None, train_images=500,
    )  # fmt: skip
    assert (said.for_s, said.timeout_s, said.workers, said.workers_per_device) == (1800.0, 90.0, 2, "auto")
    assert said.limits["checkpoint_interval_s"] == 120.0
    assert said.limits["trial_timeout_s"] is None
    assert said.overrides.train_images == 500
    assert said.overrides.images is not None
    assert (said.overrides.images.size, said.overrides.images.flips) == ((48, 64), False)
    assert tune_options(image_size=64).overrides.images == tune_options(image_size="64x64").overrides.images


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ({"for_": "soon"}, "--for soon: must be a positive duration"),
        ({"timeout": -1}, "--timeout -1: must be a positive duration"),
        ({"workers": "all"}, "--workers all: must be auto or a whole number"),
        ({"image_size": (1, 2, 3)}, "--image-size 1x2x3: must be the side of a square"),
        ({"fit": "squeeze"}, "unknown fit 'squeeze'"),
    ],
)
def test_what_cannot_be_meant_is_refused_as_on_the_command_line(said: dict[str, Any], refused: str) -> None:
    with pytest.raises(BadInput, match=refused):
        tune_options(**said)


@pytest.mark.parametrize("name", ["trails", "dashboard", "study"])
def test_an_option_that_is_none_is_refused_when_it_is_said(name: str) -> None:
    with pytest.raises(BadInput, match=f"unknown option '{name}'"):
        Study("mnist", **{name: 3})
    with pytest.raises(BadInput, match=f"unknown option '{name}'"):
        Study("mnist").tune(**{name: 3})


def test_the_name_is_a_studys_where_there_is_one_and_else_its_datas(begun: optuna.Study, tmp_path: Path) -> None:
    flowers = tmp_path / "flowers"
    (flowers / "rose").mkdir(parents=True)
    assert Sought("mnist_sample", None, {}).words({"trials": 9}) == {
        "study": "mnist_sample", "trials": 9, "dashboard": False
    }  # fmt: skip
    assert Sought("cifar10", None, {"trials": 5}).words({"trials": 9}) == {
        "dataset": "cifar10", "trials": 9, "dashboard": False
    }  # fmt: skip
    assert Sought("wide", "cifar10", {}).words({}) == {"study": "wide", "dataset": "cifar10", "dashboard": False}
    assert Sought(None, None, {}).words({}) == {"study": "mnist_sample", "dashboard": False}
    assert [Study(one).name for one in ("mnist_sample", flowers, "cifar10")] == ["mnist_sample", "flowers", "cifar10"]
    assert Study(dataset=flowers).name == "flowers"
    with pytest.raises(BadInput, match="Did you mean 'cifar10'"):
        _ = Study("cifar11").name


def test_a_study_is_shown_by_what_was_said_of_it_without_a_password() -> None:
    shown = repr(Study("mine", storage="postgresql+psycopg://me:secret@db/tuning", trials=9))
    assert shown == "Study('mine', storage='postgresql+psycopg://me:***@db/tuning', trials=9)"
    assert repr(Study("mine")) == "Study('mine')"


def test_before_any_study_there_is_one_line(home: Path) -> None:
    with pytest.raises(BadInput, match="there is no study"):
        _ = Study("mnist").best


def test_arrays_become_a_file_that_says_what_is_in_it(home: Path) -> None:
    place = Home(home)
    x, y = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    same = [Sought("mine", (x, y), {}), Sought("mine", [x.copy(), list(y)], {})]
    first, second = (one.words({})["dataset"] for one in same)
    assert first == second
    other = Sought("mine", (x + 1, y), {}).words({})["dataset"]
    assert other != first
    split = Sought(None, ((x, y), (x[:4], y[:4])), {}).words({})["dataset"]
    assert split is not None and Path(split).parent == place.root / "given"
    assert {part: len(labels) for part, (_, labels) in read_npz(Path(split)).parts.items()} == {"train": 20, "test": 4}
    for odd in ((x, y, y), 7, (object(), y), ((x, y), (x,))):
        with pytest.raises(BadInput, match=r"Give \(x, y\)"):
            Sought("mine", odd, {})


# --- What is seen ---


def test_best_trials_and_status_are_what_the_commands_say(begun: optuna.Study) -> None:
    study = Study("mnist_sample")
    best = study.best
    assert best is not None
    assert (best["number"], best["value"]) == (2, 0.7)
    assert study.status["budget"]["done"] == 3
    trials = study.trials
    assert list(trials["number"]) == [2, 1, 0]
    assert trials["value"].mean() == pytest.approx(0.6)
    types = {name: str(trials[name].dtype) for name in ("number", "state", "value", "params_learning_rate")}
    assert types == {"number": "Int64", "state": "string", "value": "Float64", "params_learning_rate": "Float64"}
    whole = [row | {"value": 1.0} for row in leaderboard(begun)]
    assert as_typed_table(whole)["value"].dtype == "Float64", "also where all of them are whole"
    begun.tell(begun.ask(), 0.9)
    assert len(study.trials) == 4, "it is read again"


def test_pictures_are_the_reports_and_what_there_is_none_of_says_why(begun: optuna.Study, tmp_path: Path) -> None:
    plot = Study("mnist_sample").plot
    history, samples = plot.history(), plot.samples()
    assert isinstance(history, Drawn)
    svg = history._repr_svg_()
    assert svg is not None and "<svg" in svg and history._repr_png_() is None
    assert str(history) == "The best validation accuracy of each trial, and the best so far."
    assert isinstance(samples, Drawn)
    png = samples._repr_png_()
    assert png is not None and png.startswith(b"\x89PNG") and samples._repr_svg_() is None
    assert samples.save(tmp_path / "samples.png").read_bytes() == png
    with pytest.raises(BadInput, match="Give another file"):
        samples.save(tmp_path / "none" / "samples.png")
    for one in (plot.curves(), plot.slices(), plot.classes()):
        assert isinstance(one, Drawn)
    for one, why in ((plot.importance(), "with fewer than 20"), (plot.confusion(), "no model was exported")):
        assert isinstance(one, LeftOut)
        assert why in repr(one)


def test_a_picture_may_be_a_path_an_array_or_pillows(tmp_path: Path) -> None:
    grey = np.full((5, 7), 200, np.uint8)
    picture = Image.fromarray(grey)
    put = put_pictures([Path("a.png"), grey, grey[..., None], picture, np.zeros((5, 7, 3))], tmp_path)
    assert [name for name, _ in put] == ["a.png", "picture 1", "picture 2", "picture 3", "picture 4"]
    written = []
    for _, file in put[1:]:
        with Image.open(file) as one:
            written.append(np.asarray(one))
    assert [one.shape for one in written] == [(5, 7), (5, 7), (5, 7), (5, 7, 3)]
    assert np.array_equal(written[0], grey)
    assert len(put_pictures(picture, tmp_path)) == 1
    scaled, unknown = np.full((2, 2), 0.5), np.full((2, 2), np.nan)
    for odd in (7, np.zeros(5), np.full((2, 2), 256), unknown, scaled, np.zeros((2, 2, 5))):
        with pytest.raises(BadInput, match="Give the path"):
            put_pictures(odd, tmp_path)


def test_an_error_is_one_line_in_a_notebook() -> None:
    assert BadInput("first\n  second")._render_traceback_() == ["error: first second"]
    assert Interrupted()._render_traceback_() == ["interrupted; the same call goes on"]


# --- One output ---


def test_lines_and_the_view_are_one_output_and_the_view_goes() -> None:
    drawing = Drawing()
    console = drawing.cell.console()
    console.print("data  <b>[bold]", markup=False)
    assert drawing.text == "data  <b>[bold]"
    assert "&lt;b&gt;[bold]" in drawing.page
    assert live_view(console) is drawing.cell
    drawing.now = 2.0
    drawing.cell.update(Text("50%", style="green"))
    assert drawing.text == "data  <b>[bold]\n50%"
    assert "color: #008000" in drawing.page
    console.print("trial 0")
    assert drawing.text == "data  <b>[bold]\ntrial 0\n50%"
    drawing.cell.stop()
    assert drawing.text == "data  <b>[bold]\ntrial 0"


def test_the_view_is_not_drawn_all_the_time_and_a_line_is_drawn_at_once() -> None:
    drawing = Drawing()
    for tick in range(10):
        drawing.now = tick / 10
        drawing.cell.update(Text(str(tick)))
    assert [bundle["text/plain"] for bundle in drawing.bundles] == ["0"]
    print("a line", file=drawing.cell)
    assert drawing.text == "a line\n9"


def test_of_very_many_lines_the_first_and_the_last_are_shown() -> None:
    drawing = Drawing()
    print("\n".join(map(str, range(MOST_LINES + 5))), file=drawing.cell)
    lines = drawing.text.splitlines()
    assert len(lines) == MOST_LINES + 1
    assert (lines[0], lines[-1]) == ("0", str(MOST_LINES + 4))
    assert lines[MOST_LINES // 2] == "... 5 lines ..."


def test_the_page_names_all_that_there_is() -> None:
    table = Page.read("tuning/README.md").section("Notebooks and Python")
    said = {re.sub(r"\(.*", "", name) for row in rows(table) for name in named(row[0])}
    assert said == {name for name in vars(Study) if not name.startswith("_")}
    pictures = {name for name in vars(Pictures) if not name.startswith("_")}
    assert pictures == {name.removesuffix("()") for name in named(table) if name.endswith("()")}


def test_who_has_looked_may_write_afterwards_in_the_same_process(begun: optuna.Study, home: Path) -> None:
    """While another uses the database, as here: the first connection of a process that looks must not stay open."""
    assert Path(f"{Home(home).root / 'studies.db'}-shm").exists()
    program = (
        "from tuning import Study; from storage.opening import open_database; from storage.settings import Home;"
        "one, other = Study('mnist_sample'), Study(); one.best; other.trials; one.plot.history(); other.name;"
        "database = open_database(Home.from_environment().database_url);"
        "database.set_study_user_attr(database.get_study_id_from_name('mnist_sample'), 'x', 1); print('written')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("written\n", 0), done.stderr


# --- What stays as it was ---


def test_optuna_logs_as_before_and_an_interrupt_is_told() -> None:
    before = optuna.logging.get_verbosity()
    during = []

    def interrupted() -> None:
        with saying():
            during.append(optuna.logging.get_verbosity())
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        interrupted()
    assert during == [optuna.logging.WARNING]
    assert optuna.logging.get_verbosity() == before
    heed(0)
    with pytest.raises(Interrupted):
        heed(130)
    with pytest.raises(TuningError, match="as it is"), saying():
        raise TuningError("as it is")


def test_the_package_is_light_and_a_folder_of_the_users_hides_nothing(tmp_path: Path) -> None:
    for name in ("storage", "studies", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    program = (
        "import sys; import tuning; assert not {'optuna', 'storage'} & sys.modules.keys();"
        "before = list(sys.path); from tuning import Study, TuningError; assert sys.path == before;"
        "print(sorted({'keras', 'tensorflow', 'jax', 'models', 'IPython'} & sys.modules.keys()))"
    )
    started = f"import sys; sys.path += [{str(ROOT)!r}]; sys.path.insert(0, {str(tmp_path)!r}); exec({program!r})"
    done = subprocess.run([sys.executable, "-c", started], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
