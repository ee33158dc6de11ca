"""Which study is meant in Python, whether it is there yet or not, and its data. No Keras."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna

from storage.connections import shown_url
from storage.database import Database
from storage.errors import BadInput, unknown_name
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from studies.stored import StudyRecord, find_study
from studies.study_data import data_of
from tuning.commands.meant import label_of, opened
from tuning.given import TuneWords, images
from tuning.notebook.arrays import kept_arrays
from tuning.user_classes import UserFile, parse_model

# Not said in Python: a link to the dashboard lets in whoever has the notebook.
_OPTIONS = sorted(TuneWords.__annotations__.keys() - {"study", "dashboard"})


class Sought:
    """A study, by what was said of it.

    Args:
        name: as given: a study's, a data set's, or a path.
        dataset: as given: a name, a path, or arrays.
        options: those of `tuning tune`, in Python's spelling.

    Raises:
        BadInput: there is no such option, or the arrays cannot be used.
    """

    def __init__(self, name: str | Path | None, dataset: Any, options: dict[str, Any]) -> None:
        self.home = Home.from_environment()
        self.options = known(options)
        self._name = str(name) if name is not None else None
        if dataset is not None and not isinstance(dataset, str | Path):
            dataset = kept_arrays(dataset, self.home, self._name)
        self._dataset = str(dataset) if dataset is not None else None
        self._reading: Database | None = None

    def __repr__(self) -> str:
        # What stands last in a cell is kept in the notebook.
        storage = shown_url(self.storage) if self.storage is not None else None
        said = {"dataset": self._dataset, **self.options, "storage": storage}
        named = [repr(self._name)] if self._name is not None else []
        return ", ".join([*named, *(f"{key}={value!r}" for key, value in said.items() if value is not None)])

    @property
    def name(self) -> str:
        """The study's name.

        Raises:
            BadInput: there is neither such a study nor such data.
        """
        if self._name is None and self._dataset is None:
            with self.looking() as database:
                return find_study(database, None).study_name
        if self._name is not None and (self._dataset is not None or self._is_begun()):
            return self._name
        return label_of(self._name or self._dataset or "")

    @property
    def user_file(self) -> UserFile | None:
        """The file with the model, if it is a user's."""
        model = self.options.get("model")
        return parse_model(model)[1] if model is not None else None

    @property
    def user_files(self) -> dict[str, str]:
        """The user's files that the study is made with, as the commands of a later phase are told of them."""
        return {name: said for name in ("model", "objective") if ".py:" in (said := self.options.get(name, ""))}

    @property
    def storage(self) -> str | None:
        """The database, as given."""
        storage: str | None = self.options.get("storage")
        return storage

    @contextmanager
    def looking(self) -> Iterator[Database]:
        """Yield the database, opened to look at; what was read of it is remembered.

        Afterwards no connection is left: of a process whose first connection to a file only reads, SQLite lets no other
        one write, and the next call may tune.

        Raises:
            BadInput: there is none yet, or it cannot be read.
        """
        if self._reading is None:
            self._reading = opened(self.storage, self.home)
        try:
            yield self._reading
        finally:
            self._reading.engine.dispose()

    @contextmanager
    def study(self) -> Iterator[tuple[optuna.Study, Database]]:
        """Yield the study, to look at, and its database.

        Raises:
            BadInput: there is none yet.
        """
        name = self.name if self._name is not None or self._dataset is not None else None
        with self.looking() as database:
            yield find_study(database, name), database

    def words(self, options: dict[str, Any]) -> TuneWords:
        """Return what `tuning tune` is told.

        Args:
            options: those that are said for this time.

        Raises:
            BadInput: there is no such option, or no such study.
        """
        said = {**self.options, **known(options), "dashboard": False}
        if self._dataset is not None:
            said |= {"study": self._name, "dataset": self._dataset}
        elif self._is_begun():
            said |= {"study": self.name}
        else:
            said |= {"dataset": self._name}
        words: TuneWords = said  # type: ignore[assignment] # the names are known, and the values seen to by it
        return words

    def data(self) -> PreparedDataset:
        """Return what it trains on, or will, prepared first where that is not done.

        Raises:
            BadInput: it cannot be had.
        """
        if self._dataset is None and self._is_begun():
            with self.study() as (study, _):
                record = StudyRecord.of(study)
            return data_of(record, self.home)
        form = images(*(self.options.get(key) for key in ("image_size", "fit", "flips")))
        return prepare(self._dataset or self._name or "", self.home, images=form)

    def _is_begun(self) -> bool:
        """Return whether what was given as the name is a study's; without one, the study that was tuned last is."""
        if self._name is None:
            return True
        try:
            with self.looking() as database:
                find_study(database, self._name)
        except BadInput:
            return False
        return True


def known(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were said.

    Raises:
        BadInput: there is no such option.
    """
    for name in options:
        if name not in _OPTIONS:
            raise unknown_name("option", name, _OPTIONS)
    return {name: value for name, value in options.items() if value is not None}
