"""The report's pictures, as a notebook shows them. No Keras."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from storage.errors import disk_error
from studies.datasets.prepared import PreparedDataset
from tuning.notebook.saying import saying
from tuning.views.report.asked import data_pictures
from tuning.views.report.document import Picture, Section
from tuning.views.report.mistakes import mistakes_section
from tuning.views.report.results import best_section
from tuning.views.report.search import curves_section, importance_section, importances_of, slices_section
from tuning.views.report.subject import Subject


class Drawn:
    """A picture that a notebook shows; `str` of it says what is seen.

    Attributes:
        content: its bytes.
        suffix: `.svg` or `.png`.
        words: what it shows.
    """

    def __init__(self, picture: Picture) -> None:
        self.content, self.suffix, self.words = picture.content, picture.suffix, picture.words

    def save(self, file: str | Path) -> Path:
        """Write it to a file and return its path.

        Raises:
            BadInput: it cannot be written.
        """
        path = Path(file).expanduser()
        try:
            path.write_bytes(self.content)
        except OSError as error:
            raise disk_error(error, f"cannot write {path}", "Give another file.") from error
        return path

    def _repr_svg_(self) -> str | None:
        return self.content.decode() if self.suffix == ".svg" else None

    def _repr_png_(self) -> bytes | None:
        return self.content if self.suffix == ".png" else None

    def __repr__(self) -> str:
        return self.words


class LeftOut:
    """A picture of which there is nothing yet.

    Attributes:
        why: in words.
    """

    def __init__(self, title: str, why: str) -> None:
        self.why = f"{title}: left out, since {why}"

    def __repr__(self) -> str:
        return self.why


class Pictures:
    """The pictures of one study, each drawn when it is asked for.

    Args:
        subject: reads the study, which is looked at inside.
        dataset: returns its data, prepared.
    """

    def __init__(
        self, subject: Callable[[], AbstractContextManager[Subject]], dataset: Callable[[], PreparedDataset]
    ) -> None:
        self._subject = subject
        self._dataset = dataset

    def history(self) -> Drawn | LeftOut:
        """The best value of each trial by number, and the best so far."""
        with self._subject() as subject:
            return _of(best_section(subject), "history")

    def curves(self) -> Drawn | LeftOut:
        """The validation accuracy over the epochs, of trials that were kept and of those that were not."""
        with self._subject() as subject:
            return _of(curves_section(subject), "curves")

    def importance(self) -> Drawn | LeftOut:
        """How important each hyperparameter is, with its interval."""
        with self._subject() as subject:
            return _of(importance_section(subject, importances_of(subject)), "importance")

    def slices(self) -> Drawn | LeftOut:
        """The best value of each trial over each hyperparameter."""
        with self._subject() as subject:
            return _of(slices_section(subject, importances_of(subject)), "slices")

    def confusion(self) -> Drawn | LeftOut:
        """Which class the exported model takes for which, on validation images."""
        with self._subject() as subject:
            return _of(mistakes_section(subject), "confusion")

    def mistakes(self) -> Drawn | LeftOut:
        """The exported model's worst mistakes, on validation images."""
        with self._subject() as subject:
            return _of(mistakes_section(subject), "mistakes")

    def classes(self) -> Drawn | LeftOut:
        """How many training images each class has."""
        return self._of_data("classes")

    def samples(self) -> Drawn | LeftOut:
        """The first training images of each class."""
        return self._of_data("samples")

    def _of_data(self, name: str) -> Drawn | LeftOut:
        with saying():
            dataset = self._dataset()
        why = "" if dataset.info.is_picture else "these data are no pictures"
        pictures = data_pictures(dataset)
        return _of(Section("data", "The data", pictures=pictures, left_out=why), f"data-{name}")


def _of(section: Section, name: str) -> Drawn | LeftOut:
    found = next((picture for picture in section.pictures if picture.name == name), None)
    if found is not None:
        return Drawn(found)
    return LeftOut(section.title, section.left_out or "there are too many classes, or the data are not here")
