"""The command line: every command, each a few lines. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storage.errors import BadInput, TuningError
from tuning import options

if TYPE_CHECKING:
    from rich.console import Console

    from storage.database import Database
    from storage.settings import Home
    from studies.datasets.prepared import PreparedDataset

app = typer.Typer(
    name="tuning",
    help="Tune the hyperparameters of Keras image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its help page costs more than everything else that `tuning --help` does
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="The data sets: what is here; fetch and verify one.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; return its exit status. Errors are one line on standard error."""
    try:
        # Not its `main`, which tells of an interrupt by a number alone.
        command = typer.main.get_command(app)
        with command.make_context("tuning", list(arguments)) as context:
            status = command.invoke(context)
        sys.stdout.flush()  # what is wrong with it is told here
        return status if isinstance(status, int) else 0
    except TuningError as error:
        return _fail(str(error), error.exit_status)
    except typer.TyperException as error:
        return _fail_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except typer.Exit as error:
        return int(error.exit_code)
    except BrokenPipeError:  # `tuning trials | head`
        _drop_output()
        return 1
    except OSError as error:  # of a file or a pipe: what is wrong here is for nobody to read in a traceback
        _drop_output()
        what = error.filename or "output"
        return _fail(f"{what}: {error.strerror or error}. Mend that and give the command again.", 1)


def _fail_usage(error: typer.TyperException) -> int:
    words = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if words.startswith("Usage:"):  # a command group was given no command: its help is the answer
        print(words, file=sys.stderr)
        return 2
    return _fail(f"{words.rstrip('.')}." + (f" See: {context.command_path} --help" if context else ""), 2)


def _drop_output() -> None:
    """Have Python write nothing more where it cannot, at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return status


def _home() -> Home:
    from storage.settings import Home

    return Home.from_environment()


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _database(storage: str | None) -> Database:
    """Open a database to look at it: a command that only reads changes nothing of it."""
    from tuning.commands.meant import opened

    _quiet_optuna()
    return opened(storage, _home())


def _quiet_optuna() -> None:
    import optuna

    # Its notices would stand between the lines of the progress.
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@app.command()
def tune(
    dataset: options.Dataset = None,
    study: options.TunedStudy = None,
    trials: options.Trials = None,
    epochs: options.Epochs = None,
    budget_epochs: options.BudgetEpochs = None,
    time_given: options.For = None,
    search_only: options.SearchOnly = False,
    timeout: options.Timeout = None,
    workers: options.Workers = "auto",
    workers_per_device: options.WorkersPerDevice = None,
    model: options.Model = None,
    base_weights: options.BaseWeights = None,
    space: options.Space = None,
    class_weights: options.ClassWeights = None,
    precision: options.Precision = None,
    strategy: options.Strategy = None,
    objective: options.Objective = None,
    direction: options.Direction = None,
    audit: options.Audit = None,
    from_study: options.FromStudy = None,
    train_images: options.TrainImages = None,
    image_size: options.ImageSize = None,
    fit: options.FitChoice = None,
    flips: options.Flips = None,
    seed: options.Seed = None,
    storage: options.Storage = None,
    cluster: options.ClusterAddress = None,
    ship: options.Ship = False,
    spec: options.Spec = None,
    trial_timeout: options.TrialTimeout = None,
    checkpoint_interval: options.CheckpointInterval = "60s",
    progress: options.Progress = True,
    dashboard: options.BesideDashboard = True,
) -> int:
    """Run or continue a study."""
    from tuning.given import tune_options
    from tuning.launch.launcher import tune

    _quiet_optuna()
    given = tune_options(
        dataset=dataset, study=study, trials=trials, epochs=epochs, budget_epochs=budget_epochs, for_=time_given,
        search_only=search_only, timeout=timeout, workers=workers, workers_per_device=workers_per_device, model=model,
        base_weights=base_weights, space=space, class_weights=class_weights, precision=precision, strategy=strategy,
        objective=objective, direction=direction, audit=audit, from_study=from_study, train_images=train_images,
        image_size=image_size, fit=fit, flips=flips, seed=seed, storage=storage, cluster=cluster, ship=ship,
        spec=spec, trial_timeout=trial_timeout, checkpoint_interval=checkpoint_interval, progress=progress,
        dashboard=dashboard,
    )  # fmt: skip
    return tune(given, _home(), _console())


@app.command()
def confirm(
    study: options.Study = None,
    storage: options.Storage = None,
    top: Annotated[int, typer.Option(help="How many configurations, of the search's best.")] = 3,
    seeds: Annotated[int, typer.Option(help="How many other seeds each is trained with; at least 2.")] = 3,
    model: options.PhaseModel = None,
    objective: options.PhaseObjective = None,
    cluster: options.ClusterAddress = None,
    ship: options.Ship = False,
    workers: options.Workers = "auto",
    timeout: options.Timeout = None,
    progress: options.Progress = True,
) -> int:
    """Train the best configurations again with other seeds: which is best, how sure that is, and what was luck."""
    from tuning.given import phase_options
    from tuning.launch.phases.confirm import confirm

    _quiet_optuna()
    given = phase_options(
        study=study, storage=storage, model=model, objective=objective, cluster=cluster, ship=ship,
        workers=workers, timeout=timeout, progress=progress,
    )  # fmt: skip
    return confirm(given, _home(), _console(), top=top, seeds=seeds)


@app.command()
def refit(
    study: options.Study = None,
    storage: options.Storage = None,
    epochs: Annotated[
        int | None, typer.Option(help="How many epochs. [default: 40, or twice those of a trial if that is more]")
    ] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Learn from the validation images, too; nothing judges it then.")
    ] = False,
    model: options.PhaseModel = None,
    objective: options.PhaseObjective = None,
    cluster: options.ClusterAddress = None,
    ship: options.Ship = False,
    timeout: options.Timeout = None,
    progress: options.Progress = True,
) -> int:
    """Train the winner for long: the confirmed one, or without a confirmation the search's best."""
    from tuning.given import phase_options
    from tuning.launch.phases.refit import refit

    _quiet_optuna()
    given = phase_options(
        study=study, storage=storage, model=model, objective=objective, cluster=cluster, ship=ship,
        timeout=timeout, progress=progress,
    )  # fmt: skip
    return refit(given, _home(), _console(), epochs=epochs, all_data=all_data)


@app.command()
def worker(
    study: Annotated[str, typer.Option(help="The study to join; it was begun with tuning tune.")],
    storage: Annotated[str, typer.Option(envvar="TUNING_STORAGE", help="The SQLAlchemy URL of the study's database.")],
    model: Annotated[
        str | None, typer.Option(help="file.py:Class, if the study's model is a user's: the same file, to the byte.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="file.py:Class, if its strategy is, likewise.")] = None,
    objective: Annotated[str | None, typer.Option(help="file.py:function, if its objective is, likewise.")] = None,
    phase: Annotated[
        str, typer.Option(help="Whose trials it takes up: search, or what confirm and refit have enqueued.")
    ] = "search",
    told: Annotated[str | None, typer.Option("--as", hidden=True)] = None,
) -> int:
    """Join a study from anywhere."""
    import logging

    from storage.attributes import PHASES
    from storage.errors import unknown_name
    from storage.processes.cores import usable_cores
    from tuning.machine.devices import find_gpus, place_workers
    from tuning.messages import WorkerOptions
    from tuning.user_classes import UserFile
    from tuning.worker.worker import work

    _quiet_optuna()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if told is not None:
        return work(WorkerOptions.from_json(told), storage, _home())
    if phase not in PHASES:
        raise unknown_name("phase", phase, PHASES)
    # Started by hand: this one process takes the first device. Before Keras is imported.
    place = place_workers(find_gpus()[:1], usable_cores(), workers=1, per_device=None, environ=os.environ)[0]
    os.environ.update(place.environment)
    user_file = UserFile.parse("model", model) if model is not None else None
    strategy_file = UserFile.parse("strategy", strategy) if strategy is not None else None
    objective_file = UserFile.parse("objective", objective) if objective is not None else None
    given = WorkerOptions.at(place, study, user_file, strategy_file, phase, objective_file=objective_file)
    return work(given, storage, _home())


@app.command()
def status(study: options.Study = None, storage: options.Storage = None, json: options.Json = False) -> None:
    """State, budget, rate, forecast, best so far."""
    from studies.stored import find_study
    from tuning.commands.status import show_status

    database = _database(storage)
    show_status(find_study(database, study), database.shown_url, _home(), as_json=json)


@app.command()
def trials(
    study: options.Study = None,
    storage: options.Storage = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """The leaderboard."""
    from studies.stored import find_study
    from tuning.commands.status import show_trials

    show_trials(find_study(_database(storage), study), form)


@app.command()
def report(
    study: options.Study = None,
    storage: options.Storage = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page's file; the Markdown and its pictures are put beside it."
            " [default: TUNING_HOME/reports/<study>/report.html]"
        ),
    ] = None,
) -> None:
    """Write a study's report: one page of HTML that needs nothing else, and the same as Markdown."""
    from studies.stored import find_study
    from tuning.views.report.report import write_report

    for file in write_report(find_study(_database(storage), study), _home(), output):
        print(file)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The page of a report.")],
    study: options.Study = None,
    storage: options.Storage = None,
) -> int:
    """Compute every figure of a report anew and say which differ; exit status 1 if any does."""
    from studies.stored import find_study
    from tuning.views.report.report import report_of
    from tuning.views.report.verifying import differences

    found = differences(file, report_of(find_study(_database(storage), study), _home()))
    for line in found or [f"{file}: as it is written now, to the letter"]:
        print(line)
    return 1 if found else 0


@app.command()
def compare(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="The names of two studies.")],
    storage: options.Storage = None,
    json: options.Json = False,
) -> None:
    """Two studies side by side: what was asked, what came of it, what the same value took."""
    from studies.stored import find_study
    from tuning.views.compare import show_comparison

    if len(studies) != 2:
        raise BadInput(f"compare takes the names of two studies, received {len(studies)}. Give both.")
    database = _database(storage)
    first, second = (find_study(database, name) for name in studies)
    show_comparison(first, second, as_json=json)


@app.command()
def watch(study: options.Study = None, storage: options.Storage = None, progress: options.Progress = True) -> int:
    """The live view of a study that somebody else runs, until it is done or Ctrl-C."""
    from studies.stored import find_study
    from tuning.views.watch import watch

    database = _database(storage)
    return watch(find_study(database, study), database, _console(), live=progress)


@app.command()
def replay(
    trial: Annotated[int, typer.Option(help="The trial, by its number.")],
    study: options.Study = None,
    storage: options.Storage = None,
    model: options.PhaseModel = None,
    objective: options.PhaseObjective = None,
) -> int:
    """Train a trial again from its record, beside its study, and compare the curves; exit status 1 if they differ."""
    from studies.stored import StudyRecord, find_study
    from tuning.user_classes import UserFile, parse_model
    from tuning.worker.replay import replay

    _quiet_optuna()
    found = find_study(_database(storage), study)
    record = StudyRecord.of(found)
    record.require_ours(_home())
    trials = found.get_trials(deepcopy=False)
    if not 0 <= trial < len(trials):
        raise BadInput(f"--trial {trial}: study {record.name!r} has {len(trials)}, from 0. Give one of these.")
    user_file = parse_model(model)[1] if model is not None else None
    objective_file = UserFile.parse("objective", objective) if objective is not None else None
    return replay(record, trials[trial], _home(), user_file, objective_file, _say)


@app.command()
def dashboard(
    storage: options.Storage = None,
    host: Annotated[str, typer.Option(help="The address to listen on; nothing is encrypted.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")] = 8080,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name besides this machine's own by which it may be asked, such as a proxy's; may be repeated, or"
            " several separated by commas."
        ),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Let studies be changed and deleted in it.")] = False,
    beside: Annotated[bool, typer.Option("--beside", hidden=True)] = False,
) -> None:
    """The web view: optuna-dashboard, until Ctrl-C."""
    from tuning.commands.dashboard.serving import ServeOptions, serve

    _quiet_optuna()
    home = _home()
    allowed = [name.strip() for names in allow_host or [] for name in names.split(",")]
    if beside:  # who has started it says which, since others can read a command line
        storage = sys.stdin.readline().strip()
    serve(storage or home.database_url, home, ServeOptions(host, port, allowed, edit=edit, beside=beside))


@app.command()
def export(
    study: options.Study = None,
    storage: options.Storage = None,
    trial: Annotated[
        int | None, typer.Option(help="Another COMPLETE trial, by its number. [default: the best]")
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Only this one, besides keras, which is always there: keras, tf_saved_model, onnx, openvino, litert,"
            " torch; may be repeated. [default: all that can be written]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder. [default: TUNING_HOME/exports/<study>]")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The study that is called as this data set, or as data of your own are.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="file.py:Class, if the study's model is a user's that Keras cannot load by itself: the same file, to"
            " the byte. A copy goes into the bundle."
        ),
    ] = None,
    flips: Annotated[
        bool,
        typer.Option(
            "--flips",
            help="The model looks at the mirror image too and says the mean: more accurate, for twice the time.",
        ),
    ] = False,
) -> None:
    """The best model as a bundle that anyone can load, measured once on the test split."""
    from studies.stored import find_study
    from tuning.bundles.export import export
    from tuning.commands.meant import label_of
    from tuning.user_classes import parse_model

    if study is None and dataset is not None:
        study = label_of(dataset)
    database = _database(storage)
    user_file = parse_model(model)[1] if model is not None else None
    found = find_study(database, study)
    export(found, _home(), out, trial, form, user_file, flips=flips, database=database.place)


@app.command()
def predict(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="The pictures: one file or more.")
    ] = None,
    study: options.Study = None,
    storage: options.Storage = None,
    model: Annotated[Path | None, typer.Option(help="The folder of an exported bundle, instead of a study's.")] = None,
    json: options.Json = False,
    run_code: Annotated[
        bool,
        typer.Option(
            "--run-code", help="Run the code in a bundle whose model is built by a user's file; read it first."
        ),
    ] = False,
) -> None:
    """Classify images that are in no data set."""
    from tuning.bundles.predict import bundle_folder, predict, show_predictions
    from tuning.commands.meant import exported_study

    uid = ""
    if model is None:
        _quiet_optuna()
        study, uid = exported_study(study, storage, _home())
    folder = bundle_folder(_home(), study, model, uid)
    show_predictions(predict(folder, images or [], run_code=run_code), as_json=json)


@app.command()
def delete(
    study: Annotated[str, typer.Option(help="The study's name.")],
    storage: options.Storage = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Delete a study with its artifacts and checkpoints."""
    from tuning.commands.delete import delete_study

    _quiet_optuna()
    home = _home()
    return delete_study(storage or home.database_url, study, home, confirm=(lambda _: True) if yes else _confirm)


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="A new .npz file.")],
    study: options.Study = None,
    storage: options.Storage = None,
) -> None:
    """Write the learning curves of a study without pruning as a table, for comparing searches."""
    from studies.stored import find_study
    from tuning.commands.record import record

    table = record(find_study(_database(storage), study), out)
    _console().print(f"{out}: {len(table.X)} configurations, {table.horizon} epochs", highlight=False, markup=False)


@app.command()
def backup(
    out: Annotated[Path, typer.Option(help="The folder for the backup; new or empty.")],
    study: options.Study = None,
    storage: options.Storage = None,
) -> int:
    """Copy a study with its artifacts, checkpoints and data of your own, also while it runs."""
    from tuning.commands.backup import back_up_study

    return back_up_study(_database(storage), study, _home(), out)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a backup.")],
    storage: options.Storage = None,
    study: Annotated[str | None, typer.Option(help="Another name for the study. [default: its own]")] = None,
) -> None:
    """Bring a study back from a backup, into any database."""
    from tuning.commands.backup import restore_study

    _quiet_optuna()
    restore_study(folder, storage, _home(), study)


@app.command()
def gc(
    study: Annotated[
        str | None, typer.Option(help="Only what is left of this study, also of one that is gone. [default: all]")
    ] = None,
    storage: Annotated[
        list[str] | None,
        typer.Option(help="A database that uses this folder; may be repeated, and the default one is always read."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Free it; without it, nothing is changed.")] = False,
) -> None:
    """Free files that no study needs: artifacts of no trial, data of no study, old checkpoints, scratch."""
    from tuning.commands.gc import collect_garbage

    _quiet_optuna()
    collect_garbage(_home(), storage or [], study, yes=yes)


def _confirm(question: str) -> bool:
    return bool(typer.confirm(question, err=True))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@data_app.command("list")
def data_list(json: options.Json = False) -> None:
    """What data sets there are, and which are here."""
    from tuning.commands.data import show_inventory

    show_inventory(_home(), as_json=json)


@data_app.command("prepare")
def data_prepare(
    dataset: Annotated[str, typer.Argument(help="The data set, or the path of data of your own.")],
    image_size: options.ImageSize = None,
    fit: options.FitChoice = None,
    flips: options.Flips = None,
) -> None:
    """Fetch, verify and decode a data set."""
    _say(f"ready: {_prepared(dataset, image_size, fit, flips).folder}")


@app.command()
def explore(
    dataset: Annotated[str, typer.Option(help="The data set, or the path of data of your own; prepared first.")],
    image_size: options.ImageSize = None,
    fit: options.FitChoice = None,
    flips: options.Flips = None,
) -> None:
    """Draw a data set: class balance, samples, statistics."""
    from tuning.commands.explore import explore

    found = _prepared(dataset, image_size, fit, flips)
    for file in explore(found, _home().exploration(found.folder.name)):
        print(file)


def _prepared(dataset: str, image_size: str | None, fit: str | None, flips: bool | None) -> PreparedDataset:
    from studies.datasets.preparing import prepare
    from tuning.given import images

    return prepare(dataset, _home(), images=images(image_size, fit, flips), report=_say)
