"""A study in Python: what the commands do, and show, as methods and properties of one object.

It keeps nothing but how the study is called and what was said of it: the study itself is in the database, so another
kernel, or a terminal, goes on with it. No Keras: what needs it runs in processes of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from studies.leaderboard import as_typed_table, leaderboard
from studies.status import status
from tuning.bundles.export import export
from tuning.bundles.predict import bundle_folder, predict
from tuning.commands.meant import exported_study
from tuning.given import Duration, phase_options, tune_options
from tuning.launch.launcher import tune
from tuning.launch.phases.confirm import SEEDS, TOP, confirm
from tuning.launch.phases.refit import refit
from tuning.notebook.asked_pictures import put_pictures
from tuning.notebook.pictures import Pictures
from tuning.notebook.saying import heed, saying
from tuning.notebook.sought import Sought
from tuning.views.report.report import write_report
from tuning.views.report.subject import Subject

if TYPE_CHECKING:
    import pandas as pd


class Study:
    """A study: made by its first `tune`, gone on with by the next, looked at meanwhile and afterwards.

    Its options are those of the command line, written as Python has them: `--train-images 500` is `train_images=500`,
    and `--for 30m` is `for_="30m"`. What is given here holds for each `tune`, what is given there for that one.
    `tuning/README.md` says what each means.

    Args:
        name: the study's; or a data set's, or the path of data of your own, for the study that is called as these.
            Left out, the study of `dataset`, or the one that was tuned last.
        dataset: what it trains on, where that is not what it is called: a name, a path, or arrays `(x, y)`, or
            `((x, y), (x_test, y_test))`.
        **options: those of `tuning tune`.

    Raises:
        BadInput: there is no such option, or what is said in it cannot be used.
    """

    def __init__(self, name: str | Path | None = None, *, dataset: Any = None, **options: Any) -> None:
        self._sought = Sought(name, dataset, options)

    def __repr__(self) -> str:
        return f"Study({self._sought!r})"

    @property
    def name(self) -> str:
        """The study's name."""
        return self._sought.name

    def tune(self, **options: Any) -> Self:
        """Run the study on this machine's devices, or go on with it, as `tuning tune` does; return it.

        Args:
            **options: those of `tuning tune`, for this time: `trials=24`, `for_="30m"`.

        Raises:
            TuningError: what was given cannot be used, or the study cannot go on.
            Interrupted: it was interrupted.
        """
        with saying() as console:
            heed(tune(tune_options(**self._sought.words(options)), self._sought.home, console))
        return self

    def confirm(
        self,
        top: int = TOP,
        seeds: int = SEEDS,
        *,
        workers: str | int = "auto",
        timeout: Duration | None = None,
        progress: bool = True,
    ) -> Self:
        """Train the best configurations again with other seeds, as `tuning confirm` does; return the study.

        Raises:
            TuningError: what was given cannot be used, or there is nothing to confirm.
            Interrupted: it was interrupted.
        """
        with saying() as console:
            given = phase_options(**self._place(), workers=workers, timeout=timeout, progress=progress)
            heed(confirm(given, self._sought.home, console, top=top, seeds=seeds))
        return self

    def refit(
        self,
        epochs: int | None = None,
        *,
        all_data: bool = False,
        timeout: Duration | None = None,
        progress: bool = True,
    ) -> Self:
        """Train the winner for long, as `tuning refit` does; return the study.

        Raises:
            TuningError: what was given cannot be used, or there is no winner.
            Interrupted: it was interrupted.
        """
        with saying() as console:
            given = phase_options(**self._place(), timeout=timeout, progress=progress)
            heed(refit(given, self._sought.home, console, epochs=epochs, all_data=all_data))
        return self

    def export(
        self,
        trial: int | None = None,
        *,
        formats: Sequence[str] | None = None,
        out: str | Path | None = None,
        flips: bool = False,
    ) -> Path:
        """Write the best model as a bundle, measured once on the test split, as `tuning export` does.

        Args:
            trial: another COMPLETE trial, by its number.
            formats: only these, besides `keras`.
            out: the bundle's folder.
            flips: whether the model looks at the mirror image, too.

        Returns:
            The bundle's folder.

        Raises:
            TuningError: there is no model that could be handed over.
        """
        folder = Path(out) if out is not None else None
        with saying() as console, self._sought.study() as (study, database):
            return export(study, self._sought.home, folder, trial, formats, self._sought.user_file, flips=flips,
                          database=database.place, console=console)  # fmt: skip

    def predict(self, images: Any, *, run_code: bool = False) -> pd.DataFrame:
        """Classify pictures that are in no data set with the exported model, in a process of its own.

        Args:
            images: a picture or several: each the path of a file, an array of `(height, width)` or `(height, width,
                channels)`, or what Pillow opened.
            run_code: whether code in the bundle may be run, where the model is built by a file of a user's.

        Returns:
            The most probable classes of each, best first.

        Raises:
            TuningError: nothing was exported yet, or a picture cannot be used.
        """
        import pandas as pd

        name, uid = exported_study(self.name, self._sought.storage, self._sought.home)
        folder = bundle_folder(self._sought.home, name, None, uid)
        with tempfile.TemporaryDirectory() as place, saying():
            given = put_pictures(images, Path(place))
            found = predict(folder, [file for _, file in given], run_code=run_code)
        rows = [
            (called, guess["label"], guess["probability"])
            for (called, _), one in zip(given, found, strict=True)
            for guess in one["classes"]
        ]
        return pd.DataFrame(rows, columns=["image", "class", "probability"])

    def report(self, output: str | Path | None = None) -> Path:
        """Write the study's report, as `tuning report` does; return the page's file.

        Raises:
            TuningError: there is no such study, or the file cannot be written.
        """
        file = Path(output) if output is not None else None
        with self._sought.study() as (study, _):
            page, _ = write_report(study, self._sought.home, file)
        return page

    @property
    def status(self) -> dict[str, Any]:
        """Where the study stands, as `tuning status --json` says it."""
        with self._sought.study() as (study, database):
            return status(study, database.shown_url, self._sought.home)

    @property
    def best(self) -> dict[str, Any] | None:
        """The search's best trial: its number, value and params; None before the first that was trained to its end."""
        best: dict[str, Any] | None = self.status["best"]
        return best

    @property
    def trials(self) -> pd.DataFrame:
        """The leaderboard, as `tuning trials` has it: COMPLETE trials by validation accuracy, then the others."""
        with self._sought.study() as (study, _):
            return as_typed_table(leaderboard(study))

    @property
    def plot(self) -> Pictures:
        """The report's pictures, each by its name: `study.plot.history()`."""
        return Pictures(self._subject, self._sought.data)

    @contextmanager
    def _subject(self) -> Iterator[Subject]:
        with self._sought.study() as (study, _):
            yield Subject.of(study, self._sought.home)

    def _place(self) -> dict[str, Any]:
        given: dict[str, Any] = {
            name: self._sought.options[name] for name in ("cluster", "ship") if name in self._sought.options
        }
        return {"study": self.name, "storage": self._sought.storage, **given, **self._sought.user_files}
