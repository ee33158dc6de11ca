"""Which study is meant, declared by the catalog, by a file, or made to suit data of somebody's own; and its model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from storage.errors import BadInput, shown
from storage.prepared.bases import is_base
from storage.settings import Home
from studies.datasets.info import DatasetInfo, OwnDataset
from studies.datasets.own.reference import Source, place_that_is_gone
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import meant, prepare, require_no_form, say
from studies.declaration import Declaration, Overrides, declaration_of, from_catalog, read_declaration
from studies.objectives.objective import Objective
from studies.spec import Images, StudySpec
from studies.stored import StoredStudy, StudyRecord
from studies.study_data import data_of, require_unchanged
from studies.suited import reasons, suited, with_parts
from tuning.machine.bases import BaseFile, base_meant
from tuning.user_classes import UserFile, parse_model, parse_objectives


@dataclass(frozen=True)
class Wanted:
    """The study that is meant, before any data of it are read.

    Attributes:
        label: what it is called where no name was given.
        declaration: the catalog's or the file's; None where it is to suit the data.
        by_file: whether it is a file's that somebody gave, which says what is meant, also of a study that is there.
        source: data of somebody's own; None where the data set has a name, or where nothing is at their path.
        gone: data of somebody's own whose path leads nowhere: a study that was made with them may have what it needs.
    """

    label: str
    declaration: Declaration | None
    by_file: bool
    source: Source | None
    gone: Gone | None = None


@dataclass(frozen=True)
class Gone:
    """Data of somebody's own that are not where they are said to be.

    Attributes:
        reference: where that is, as a study records it.
        why: what is said where nothing is known of them.
    """

    reference: str
    why: BadInput


@dataclass(frozen=True)
class Declared:
    """A study as it is declared, and what it trains on.

    Attributes:
        declaration: the study's.
        dataset: what it trains on.
        reasons: why it is declared so, in a few words each, where nobody has declared it.
    """

    declaration: Declaration
    dataset: DatasetInfo
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """What a study's hypermodel is.

    Attributes:
        name: as the spec has it.
        user_file: the file that has it, if it is a user's.
        base: the trained model that it begins with, if it does.
    """

    name: str
    user_file: UserFile | None
    base: BaseFile | None

    def keep(self, home: Home) -> None:
        """Keep what every worker needs of it in a home.

        Raises:
            BadInput: it cannot be copied.
        """
        if self.base is not None:
            self.base.keep(home)


def model_meant(text: str, base_weights: Path | None, home: Home) -> Model:
    """Return which model is meant.

    Args:
        text: as it is given or declared.
        base_weights: the file with the weights of a base, as given.
        home: where the bases of studies are kept.

    Raises:
        BadInput: there is no such model, or a file of it cannot be read.
    """
    name, user_file = parse_model(text)
    base = base_meant(text, base_weights, home, os.environ)
    return Model(name if base is None else base.name, user_file, base)


def wanted(dataset: str | None, spec_file: Path | None) -> Wanted:
    """Return which study is meant.

    Args:
        dataset: its name or path, as given.
        spec_file: the study's file, as given.

    Raises:
        BadInput: the file cannot be used, or there is no such data set.
    """
    declaration, by_file = (read_declaration(spec_file) if spec_file is not None else None), spec_file is not None
    if declaration is None and dataset is None:
        raise BadInput("no data set was given. Say which: make tune DATASET=cifar10")
    named = dataset if declaration is None else declaration.dataset
    assert named is not None
    try:
        found = meant(named)
    except BadInput as error:
        place = place_that_is_gone(named)
        if place is None:
            raise
        return Wanted(place.label, declaration, by_file, None, Gone(str(place), error))
    source = found if isinstance(found, Source) else None
    label = source.label if source is not None else named
    if declaration is not None and dataset not in (None, named, label):
        raise BadInput(f"--dataset {dataset}: {spec_file} is for {named!r}. Leave one out.")
    return Wanted(label, declaration if source is not None else declaration or from_catalog(named), by_file, source)


def declared(wanted: Wanted, overrides: Overrides, home: Home, stored: StoredStudy | None) -> Declared:
    """Return the study that is meant and what it trains on; data of somebody's own are prepared for it.

    Args:
        wanted: which study.
        overrides: the command line.
        home: where data are kept.
        stored: the study as it was begun; None for a new one.

    Raises:
        BadInput: the data cannot be used, or are not those that the study was begun with.
        TuningError: the disk fails.
    """
    said = overrides.images
    if wanted.source is None and wanted.gone is None:
        assert wanted.declaration is not None
        return _published(_of_published(wanted.declaration, wanted.by_file, overrides, stored), said)
    begun = stored.record if stored is not None and stored.record.spec.images is not None else None
    images = _images(wanted.declaration, begun.spec if begun is not None else None, said)
    dataset = _own(wanted, images, home, begun)
    info = dataset.info
    assert isinstance(info, OwnDataset)
    reference = info.reference
    if begun is not None and begun.data is not None and begun.spec.images == images:
        require_unchanged(dataset, home, begun)
        reference = begun.spec.dataset  # what they are decides, not where they lie now
    why: tuple[str, ...] = ()
    if wanted.declaration is not None:
        declaration = wanted.declaration.model_copy(update={"dataset": reference, "images": images})
    elif begun is not None:
        declaration = _as_begun(begun, suited(info, images), overrides).model_copy(update={"images": images})
    else:
        declaration = suited(info, images)
        why = tuple(reasons(info, declaration))
    plans = {name: with_parts(plan, info) for name, plan in declaration.plan.items()}
    return Declared(declaration.model_copy(update={"plan": plans}), info, why)


def objectives_of(declaration: Declaration, said: Overrides) -> tuple[tuple[Objective, ...], UserFile | None]:
    """Return what a study optimises, and the user's file with the function, if that is one.

    Raises:
        BadInput: it cannot be used.
    """
    declared = (declaration.objective, declaration.direction)
    return parse_objectives(said.objective or declaration.objective, said.direction, declared)


def strategy_of(declaration: Declaration, said: Overrides, objectives: tuple[Objective, ...]) -> str:
    """Return which strategy a study has, as given; with two objectives each trial is trained to its end."""
    return said.strategy or (declaration.strategy.name if len(objectives) == 1 else "none")


def _own(wanted: Wanted, images: Images, home: Home, begun: StudyRecord | None) -> PreparedDataset:
    """Data of somebody's own, prepared; where they are gone, as a study has them that was begun with them."""
    if wanted.source is not None:
        return prepare(str(wanted.source), home, images=images)
    assert wanted.gone is not None
    if begun is None or begun.spec.dataset != wanted.gone.reference:
        raise wanted.gone.why
    dataset = data_of(begun, home)
    say(f"{wanted.label}: {shown(wanted.gone.reference)} is not there; going on with what was read of it")
    return dataset


def _published(declaration: Declaration, said: Images | None) -> Declared:
    info = meant(declaration.dataset)
    assert isinstance(info, DatasetInfo)
    require_no_form(info, declaration.images or said)
    for plan in declaration.plan.values():
        if plan.test_images is not None:
            raise BadInput(
                f"test_images = {plan.test_images}: {info.name} has {info.images('test'):,} test images of its own."
                " Leave it out."
            )
    return Declared(declaration, info)


def _images(declaration: Declaration | None, before: StudySpec | None, said: Images | None) -> Images:
    """The form of pictures: the command line's, else the file's, else that which the study was begun with."""
    given = declaration.images if declaration is not None else before.images if before is not None else None
    return (given or Images()).said_anew(said)


def _of_published(
    declaration: Declaration, by_file: bool, overrides: Overrides, stored: StoredStudy | None
) -> Declaration:
    """What a file says, or what the study was begun with; the catalog's for a new one."""
    if by_file or stored is None or stored.record.spec.dataset != declaration.dataset:
        return declaration
    return _as_begun(stored.record, declaration, overrides)


def _as_begun(begun: StudyRecord, today: Declaration, overrides: Overrides) -> Declaration:
    """What a study was begun with, whatever would suit its data, or stands in the catalog, today.

    Only the budget is today's, where the study was made and has none yet.
    """
    before = begun.spec
    for kind, name, given, what in (
        ("model", before.model, overrides.model, "Class"),
        ("strategy", before.strategy.name, overrides.strategy, "Class"),
        ("objective", before.objective.name, overrides.objective, "function"),
    ):
        if "@" in name and given is None and not is_base(name):
            own = f"{kind.upper()}=file.py:{what}"
            raise BadInput(f"the study was begun with the {kind} {name}, of a file of your own. Give {own}.")
    return declaration_of(before, begun.budget or today.plan_for(before.plan_name).trials)
