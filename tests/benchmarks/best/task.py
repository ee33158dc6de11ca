"""What a peer's script is told, and what it answers. No Keras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

# Of its whole time, what a peer spends on its search: nothing tells it, and this is more than it needs for a ranking.
SEARCH_SHARE: Final = 0.5


@dataclass(frozen=True)
class Task:
    """What a peer is to do.

    Attributes:
        home: a `TUNING_HOME` with the prepared data set.
        dataset: a name of the catalog.
        model: a short name of one of the project's hypermodels.
        seed: of the split and of everything drawn.
        began_at, ends_at: of its time, in seconds since 1970.
    """

    home: str
    dataset: str
    model: str
    seed: int
    began_at: float
    ends_at: float

    @property
    def searched_until(self) -> float:
        """When its search has to be over, in seconds since 1970."""
        return self.began_at + SEARCH_SHARE * (self.ends_at - self.began_at)

    def write(self, file: Path) -> None:
        """Keep it."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Task:
        """Return what a file has."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Answer:
    """What a peer hands over.

    Attributes:
        accuracy: of its model on the test split.
        validation: of its model on validation.
        epochs: of the training of its model.
        planned: how many it was sized for; more than `epochs` where the machine slowed down.
        params: its hyperparameters.
        searched: what its search did, for people; empty for none.
    """

    accuracy: float
    validation: float
    epochs: int
    planned: int
    params: Mapping[str, Any]
    searched: str = ""

    def write(self, file: Path) -> None:
        """Keep it."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Answer:
        """Return what a file has."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    @property
    def told(self) -> str:
        """What was done, for people."""
        cut = f", cut short of {self.planned}" if self.epochs < self.planned else ""
        params = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.params.items()
            if not name.startswith("tuner/")
        )
        trained = f"trained for {self.epochs} epoch{'s' * (self.epochs != 1)}{cut}{f' with {params}' if params else ''}"
        return "; ".join(filter(None, [self.searched, trained]))
