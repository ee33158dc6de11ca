"""The options of `tuning tune`, and those that several commands have: what `--help` and tuning/README.md say of them.

In a help text, `[default: ...]` at the end says the default where typer does not know it: the catalog's, or another's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storage.errors import BadInput

Storage = Annotated[
    str | None, typer.Option(help="The SQLAlchemy URL of the database. [default: TUNING_HOME/studies.db]")
]


def _text(value: str | None) -> str | None:
    """Refuse what the terminal sent in another encoding: no database takes it."""
    if value is not None:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadInput(
                f"--study {value!a}: is not UTF-8. Give another name, or set the terminal to UTF-8."
            ) from None
    return value


Study = Annotated[
    str | None, typer.Option("--study", help="The study's name. [default: the one tuned last]", callback=_text)
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

Dataset = Annotated[
    str | None,
    typer.Option(
        help="A data set of the catalog, or data of your own: a folder with a folder of pictures for each class, a"
        " file.npz, a file.csv, hf:FOLDER. [default: what the study was begun with]"
    ),
]
TunedStudy = Annotated[str | None, typer.Option(help="The study's name. [default: the data set's]", callback=_text)]
Trials = Annotated[
    int | None,
    typer.Option(
        help="The budget: the study's total of finished trials, COMPLETE and PRUNED; failed ones do not count. To"
        " extend a study of 24 by 10, give 34. Left out, a study that exists keeps its own. [default: the plan's]"
    ),
]
Epochs = Annotated[int | None, typer.Option(help="The most epochs of a trial. [default: the plan's]")]
BudgetEpochs = Annotated[
    int | None,
    typer.Option(help="How many epochs all trials together train; the best goes on to its end. [default: the plan's]"),
]
PhaseModel = Annotated[
    str | None,
    typer.Option("--model", help="file.py:Class, if the study's model is a user's: the same file, to the byte."),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        help="End in this time: 90s, 30m, 2h; trials that are not over go back into the queue. [default: none]"
    ),
]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        help="The time that there is for all of it: 15m, 2h. How many configurations are tried on how many images, and"
        " for how long the winner is trained in the end, follow from how fast it goes here. [default: the plan's own"
        " amounts]",
    ),
]
SearchOnly = Annotated[
    bool, typer.Option("--search-only", help="Leave out what the plan has after the search: confirm and refit.")
]
Workers = Annotated[
    str,
    typer.Option(help="How many processes; auto is one on each GPU, or one on each core where there is no GPU."),
]
WorkersPerDevice = Annotated[
    str | None, typer.Option(help="How many processes share a GPU, or auto: as many as it gains from. [default: 1]")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="cnn, deep_cnn, fast_cnn, resnet, one of your own: file.py:Class, or a trained one to begin with:"
        " keras.applications:NAME, file.keras. [default: the study file's]"
    ),
]
BaseWeights = Annotated[
    Path | None,
    typer.Option(
        help="A file with the weights of keras.applications:NAME, without its last layers. [default: where Keras keeps"
        " what it has downloaded]"
    ),
]
Space = Annotated[
    str | None, typer.Option(help="Which parameters are searched: core or extended. [default: the study file's]")
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        help="How classes of unlike sizes weigh while training: none (each picture alike), balanced (each class alike),"
        " or search, which tries both. [default: the study file's]"
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="What the cores compute in: float32, mixed_bfloat16, or auto, which is the latter where the cores that"
        " begin the study have instructions for it. A GPU computes in its own. [default: the study file's]"
    ),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        help="freeze_thaw, promotion, successive_halving, hyperband, median, none, or one of your own: file.py:Class."
        " [default: the study file's]"
    ),
]
Objective = Annotated[
    str | None,
    typer.Option(
        help="What is optimised: val_accuracy, or any curve that the history of a training has, such as val_loss;"
        " balanced_accuracy, f1_macro or auc; or a function of your own: file.py:function. After it"
        " may stand what a trained model costs: weights, bytes or seconds_per_image. [default: the study file's]"
    ),
]
Direction = Annotated[
    str | None,
    typer.Option(
        help="Whether its largest value is the best, max, or its smallest, min. [default: told from its name]"
    ),
]
PhaseObjective = Annotated[
    str | None,
    typer.Option(
        "--objective", help="file.py:function, if the study's objective is a user's: the same file, to the byte."
    ),
]
Audit = Annotated[
    float | None,
    typer.Option(
        help="The share of trials, such as 0.1, that are trained to their end though the strategy ends them: the report"
        " says what pruning costs. Their epochs are of the budget. [default: the study file's]"
    ),
]
FromStudy = Annotated[str | None, typer.Option(help="Try the best configurations of that study first.")]
TrainImages = Annotated[
    int | None,
    typer.Option(
        help="Train on so many images, each class with its share; validation stays the same. [default: the plan's]"
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        help="Of pictures of your own: the side in pixels that they get, 64, or height x width, 48x64. [default: what"
        " suits them, at most 64]"
    ),
]
FitChoice = Annotated[
    str | None,
    typer.Option(
        "--fit",
        help="How pictures of your own with other proportions get that size: crop, pad or stretch. [default: crop]",
    ),
]
Flips = Annotated[
    bool | None,
    typer.Option(
        "--flips/--no-flips",
        help="Whether a mirrored picture of your own is still of its class. [default: yes in colour, but for digits and"
        " letters]",
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="All randomness of the study derives from it. [default: the study file's]")
]
ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Have the workers on the nodes of a Ray cluster: auto, on one of them, or ray://head:10001. It needs"
        " PostgreSQL, and TUNING_FILES. [default: this machine]",
    ),
]
Ship = Annotated[
    bool,
    typer.Option(
        "--ship",
        help="With --cluster: send the files of your own that are named, file.py, and the modules that they import from"
        " their folders, to each node, which need not have them.",
    ),
]
Spec = Annotated[Path | None, typer.Option(help="A study's TOML file, instead of the catalog's.")]
TrialTimeout = Annotated[
    str | None,
    typer.Option(
        help="A trial that takes longer than this, say 2h, counts as hung: its worker is ended, the trial tried again."
        " [default: never]"
    ),
]
CheckpointInterval = Annotated[str, typer.Option(help="The time between two checkpoints of a trial.")]
Progress = Annotated[
    bool,
    typer.Option(
        "--progress/--no-progress",
        help="The live view, where standard error is a terminal; otherwise one line for each trial that stops.",
    ),
]
BesideDashboard = Annotated[
    bool,
    typer.Option(
        "--dashboard/--no-dashboard",
        help="Serve the dashboard meanwhile, and print the link that opens it, where standard error is a terminal.",
    ),
]
