"""A study made by hand is exported and predicts; whatever is wrong with it, no half bundle is left."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from PIL import Image

from storage import attributes
from storage.artifacts import ArtifactDamaged, Artifacts
from storage.database import Database
from storage.errors import BadInput, TuningError
from storage.opening import open_database
from storage.settings import CHECKOUT, Home, mark, owner_of
from storage.stores.local import LocalFiles
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from studies.spec import Sampler, StrategyChoice, StudySpec, derive_seed
from studies.study_data import describe, split_of
from tuning.bundles import bundle
from tuning.bundles.bundle import open_bundle, replacing_bundle
from tuning.bundles.checking import tolerance
from tuning.bundles.export import export
from tuning.bundles.predict import bundle_folder, predict, show_predictions

# TensorFlow's variables do not know an argument that NumPy 2 gives them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPEC = StudySpec(
    dataset="mnist_sample",
    model="models.cnn:CNN",
    space="core",
    parameters={},
    seed=7,
    plan_name="cpu",
    epochs=1,
    train_images=None,
    validation_images=500,
    patience=1,
    sampler=Sampler(),
    strategy=StrategyChoice(),
)


@dataclass(frozen=True)
class Trained:
    """A small classifier that knows a little, and how well it did on the validation images."""

    file: Path
    value: float


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import keras

    from models.evaluation import evaluate

    folder = tmp_path_factory.mktemp("trained")
    dataset = prepare(SPEC.dataset, Home(folder), report=lambda _: None)
    split = split_of(dataset, SPEC)
    keras.utils.set_random_seed(0)
    inputs = keras.Input(dataset.info.shape)
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(dataset.train_images[split.train], dataset.train_labels[split.train], epochs=3, batch_size=100, verbose=0)
    model.save(folder / "model.keras")
    rows = split.validation
    value = evaluate(model, dataset.train_images[rows], dataset.train_labels[rows], classes=10).accuracy
    assert value > 0.8
    return Trained(folder / "model.keras", value)


@dataclass(frozen=True)
class Place:
    """A home with a study in it."""

    home: Home
    database: Database
    study: optuna.Study
    dataset: PreparedDataset

    def add(self, model: Path | None, value: float, **attrs: Any) -> int:
        """Add a COMPLETE trial with a model and return its number."""
        trial = self.study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.report(value, 1)
        if model is not None:
            write = partial(shutil.copyfile, model)
            Artifacts(LocalFiles(self.home.artifacts)).put(
                self.database, trial._trial_id, "model", "model.keras", write
            )
        for key, attr in {attributes.BEST_EPOCH: 1, attributes.PRECISION: "float32", **attrs}.items():
            trial.set_user_attr(key, attr)
        self.study.tell(trial, value)
        return trial.number


@pytest.fixture
def place(home: Path) -> Place:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = Home(home)
    place.make(place.artifacts)
    dataset = prepare(SPEC.dataset, place, report=lambda _: None)
    database = open_database(place.database_url, create=True)
    study = optuna.create_study(study_name="mnist", storage=database, direction="maximize")
    study.set_user_attr(attributes.SPEC, SPEC.model_dump(mode="json"))
    study.set_user_attr(attributes.DATA, describe(dataset, SPEC))
    study.set_user_attr(attributes.BUDGET, 4)
    return Place(place, database, study, dataset)


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every format that can be written here."""
    home = Home(tmp_path_factory.mktemp("exported"))
    home.make(home.artifacts)
    dataset = prepare(SPEC.dataset, home, report=lambda _: None)
    database = open_database(home.database_url, create=True)
    study = optuna.create_study(study_name="mnist", storage=database, direction="maximize")
    study.set_user_attr(attributes.SPEC, SPEC.model_dump(mode="json"))
    study.set_user_attr(attributes.DATA, describe(dataset, SPEC))
    Place(home, database, study, dataset).add(trained.file, trained.value)
    return export(study, home)


@pytest.mark.keras
def test_a_bundle_holds_what_is_promised(exported: Path, trained: Trained) -> None:
    assert {"model.keras", "card.json", "metrics.json", "confusion_matrix.png", "learning_curve.png"} <= set(
        entries(exported)
    )
    metrics = json.loads((exported / "metrics.json").read_text())
    _, front, words = (exported / "card.md").read_text().split("---\n", 2)
    (result,) = yaml.safe_load(front)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == metrics["test"]["accuracy"]
    assert words.startswith("\n# mnist\n")
    looked = json.loads((exported / "validation.json").read_text())
    right = sum(row[place] for place, row in enumerate(looked["confusion"]))
    assert right / 500 == pytest.approx(metrics["validation"]["accuracy"])
    assert all(one["label"] != one["predicted"] for one in looked["mistakes"])
    sure = [one["probability"] for one in looked["mistakes"]]
    assert sure == sorted(sure, reverse=True)
    assert metrics["validation"]["accuracy"] == pytest.approx(trained.value, abs=tolerance("float32", 500))
    assert set(metrics["validation"]) == {"accuracy", "loss", "balanced_accuracy"}
    assert 0.7 < metrics["test"]["accuracy"] <= 1
    assert [of["label"] for of in metrics["test"]["per_class"]] == list("0123456789")
    assert all(set(of) == {"label", "precision", "recall", "support"} for of in metrics["test"]["per_class"])
    assert sum(of["support"] for of in metrics["test"]["per_class"]) == 500
    assert entries(exported.parent) == ["mnist"]  # nothing is left beside it


@pytest.mark.keras
def test_the_card_says_where_the_model_comes_from(exported: Path) -> None:
    card = json.loads((exported / "card.json").read_text())
    assert StudySpec.model_validate(card["spec"]) == SPEC
    assert card["seed"] == derive_seed(SPEC.seed, "trial", 0)
    form = {"shape": [28, 28, 1], "dtype": "float32", "range": [0, 255]}
    assert card["input"] == {**form, "preparation": "digit", "fit": "crop"}
    assert set(card["parameters"]) == {"learning_rate"}
    assert {"python", "keras", "optuna", "keras-tuner", "numpy", "backend"} <= set(card["versions"])
    assert {"checksum", "split"} <= set(card["data"])
    assert set(card["test"]) == {"accuracy", "loss", "balanced_accuracy"}
    assert set(card["formats"]) | set(card["skipped"]) == set(bundle.FORMATS)
    assert all((exported / file).exists() for file in card["formats"].values())
    assert not any((exported / bundle.FORMATS[name]).exists() for name in card["skipped"])


@pytest.mark.keras
def test_the_saved_model_gives_the_same_probabilities(exported: Path) -> None:
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs the TensorFlow backend to load it")
    images = np.random.default_rng(1).integers(0, 256, (8, 28, 28, 1)).astype(np.float32)
    again = keras.layers.TFSMLayer(exported / "saved_model", call_endpoint="serve")(images)
    model = keras.saving.load_model(exported / "model.keras", compile=False)
    assert np.abs(np.asarray(again) - model.predict_on_batch(images)).max() < 1e-4


@pytest.mark.keras
def test_the_model_loads_where_this_project_is_unknown(exported: Path, tmp_path: Path) -> None:
    code = "import keras; print(keras.saving.load_model('model.keras').output_shape)"
    shutil.copy(exported / "model.keras", tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path = [p for p in sys.path if p != {str(CHECKOUT)!r}]; {code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip().endswith("(None, 10)")


@pytest.mark.keras
def test_pictures_are_classified_in_their_order(
    exported: Path, place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images, labels = place.dataset.test()
    files = []
    for index in range(0, 500, 10):
        file = tmp_path / f"{index}.png"
        # As people draw: dark on white, larger, not in the middle.
        drawn = Image.fromarray(255 - images[index, ..., 0]).resize((140, 140))
        sheet = Image.new("RGB", (400, 300), "white")
        sheet.paste(drawn, (200, 20))
        sheet.save(file)
        files.append(file)
    capfd.readouterr()
    predictions = predict(exported, files)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert [prediction["image"] for prediction in predictions] == [str(file) for file in files]
    for prediction in predictions:
        probabilities = [guess["probability"] for guess in prediction["classes"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1.00001
    hits = [p["classes"][0]["label"] == str(label) for p, label in zip(predictions, labels[::10], strict=True)]
    assert np.mean(hits) > 0.6  # with a model as small as this one
    show_predictions(predictions[:1])
    # A long path is broken into lines.
    assert "0.png" in "".join(capfd.readouterr().out.split())
    show_predictions(predictions, as_json=True)
    assert json.loads(capfd.readouterr().out) == predictions


@pytest.mark.keras
def test_one_bad_picture_among_good_ones_is_refused_by_name(exported: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.linear_gradient("L").resize((28, 28)).save(good)
    bad.write_text("no picture")
    with pytest.raises(BadInput, match=r"bad\.png"):
        predict(exported, [good, bad])
    with pytest.raises(BadInput, match="no picture is given"):
        predict(exported, [])


@pytest.mark.keras
def test_a_damaged_bundle_is_refused(exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    with (copy / "model.keras").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BadInput, match="SHA-256"):
        open_bundle(copy)
    (copy / "card.json").write_text("{}")
    with pytest.raises(BadInput, match=r"card\.json is damaged"):
        open_bundle(copy)
    with pytest.raises(BadInput, match="holds no exported model"):
        open_bundle(tmp_path)


@pytest.mark.keras
def test_the_best_trial_is_exported_and_another_on_demand(
    place: Place, trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place.add(trained.file, trained.value - 0.001)
    best = place.add(trained.file, trained.value)
    capfd.readouterr()
    target = export(place.study, place.home, formats=[])
    assert target == place.home.export("mnist")
    assert json.loads((target / "card.json").read_text())["trial"] == best
    assert set(json.loads((target / "card.json").read_text())["formats"]) == {"keras"}
    said = capfd.readouterr()
    assert said.out == ""
    assert "test accuracy" in said.err
    assert str(target / "model.keras") in said.err
    assert "WARNING" not in said.err
    other = export(place.study, place.home, out=tmp_path / "deep" / "er", trial_number=0, formats=["keras"])
    assert json.loads((other / "card.json").read_text())["trial"] == 0
    assert bundle_folder(place.home, "mnist", None) == target


@pytest.mark.keras
def test_a_better_trial_that_another_program_added_is_passed_over_and_a_deleted_study_s_bundle_replaced(
    place: Place, trained: Trained, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = place.add(trained.file, trained.value)
    theirs = optuna.create_trial(value=0.9990, state=optuna.trial.TrialState.COMPLETE)
    place.study.add_trial(theirs)
    place.study.set_user_attr(attributes.UID, "0123456789abcdef")
    mark(place.home.make(place.home.export("mnist")), "fedcba9876543210", place.database.place)
    target = export(place.study, place.home, formats=[], database=place.database.place)
    assert json.loads((target / "card.json").read_text())["trial"] == mine
    assert (target.name, owner_of(target)) == ("mnist", "0123456789abcdef")
    said = capfd.readouterr().err
    assert "mnist: passed over, since another program added or ended it without a model: trial 1 (0.999)\n" in said
    assert f"{target} held the bundle of a study of that name that was deleted: it is replaced\n" in said


@pytest.mark.keras
def test_a_model_worse_than_recorded_is_not_exported_and_the_test_split_not_read(
    place: Place, trained: Trained
) -> None:
    place.add(trained.file, trained.value + 0.01)
    # Whoever reads it finds no array, and says that instead.
    unread = place.dataset.folder / "test_images.npy"
    unread.write_bytes(bytes(unread.stat().st_size))
    former = _former(place)
    with pytest.raises(TuningError, match=r"validation accuracy of 0\.\d+, recorded was"):
        export(place.study, place.home, formats=[])
    assert (former / "card.json").read_text() == "former"
    assert entries(former.parent) == ["mnist"]


@pytest.mark.keras
def test_a_model_that_keras_cannot_load_is_not_exported(place: Place, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"no model")
    place.add(tmp_path / "model.keras", 0.9)
    with pytest.raises(TuningError, match="cannot be checked"):
        export(place.study, place.home, formats=[])
    assert entries(place.home.export("mnist").parent) == []


@pytest.mark.keras
def test_a_format_that_was_asked_for_and_cannot_be_written_is_an_error(place: Place, trained: Trained) -> None:
    place.add(trained.file, trained.value)
    with pytest.raises(TuningError, match="cannot be written as torch: needs the PyTorch backend"):
        export(place.study, place.home, formats=["torch"])
    assert entries(place.home.export("mnist").parent) == []


def _former(place: Place) -> Path:
    folder = place.home.export("mnist")
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("former")
    return folder


# What follows is refused before any process is started.


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))


@pytest.mark.usefixtures("no_process")
def test_a_tampered_model_is_refused_and_the_former_bundle_kept(place: Place, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"model")
    place.add(tmp_path / "model.keras", 0.9)
    former = _former(place)
    (kept,) = (file for file in place.home.artifacts.iterdir() if file.is_file())
    kept.write_bytes(b"other")
    with pytest.raises(ArtifactDamaged, match="damaged"):
        export(place.study, place.home)
    kept.unlink()
    with pytest.raises(ArtifactDamaged, match="missing"):
        export(place.study, place.home)
    assert entries(former.parent) == ["mnist"]
    assert entries(former) == ["card.json"]


@pytest.mark.usefixtures("no_process")
def test_a_study_without_a_complete_trial_is_refused_with_its_counts(place: Place) -> None:
    with pytest.raises(TuningError, match="no COMPLETE trial to export: it has no trials at all"):
        export(place.study, place.home)
    place.study.tell(place.study.ask(), state=optuna.trial.TrialState.FAIL)
    with pytest.raises(TuningError, match=r"it has 1 FAIL. Wait for one, or give its command again"):
        export(place.study, place.home)
    budget = int(place.study.user_attrs[attributes.BUDGET])
    for _ in range(budget):
        place.study.tell(place.study.ask(), state=optuna.trial.TrialState.PRUNED)
    with pytest.raises(TuningError, match=rf"{budget} PRUNED.*TRIALS={budget + 10}"):
        export(place.study, place.home)


@pytest.mark.usefixtures("no_process")
def test_a_study_whose_complete_trials_are_all_another_programs_is_refused_by_number(place: Place) -> None:
    for value in (0.9, 0.8, 0.7, 0.6, 0.5):
        place.study.add_trial(optuna.create_trial(value=value, state=optuna.trial.TrialState.COMPLETE))
    words = (
        r"no COMPLETE trial with a model: .* trial 0 \(0.9\), trial 1 \(0.8\), trial 2 \(0.7\) and 2 more.*TRIALS=14"
    )
    with pytest.raises(TuningError, match=words):
        export(place.study, place.home)


@pytest.mark.usefixtures("no_process")
def test_a_trial_that_cannot_be_exported_is_refused(place: Place) -> None:
    place.study.tell(place.study.ask(), state=optuna.trial.TrialState.FAIL)
    with pytest.raises(BadInput, match="trial 0 is FAIL"):
        export(place.study, place.home, trial_number=0)
    with pytest.raises(BadInput, match="has no trial 5"):
        export(place.study, place.home, trial_number=5)


@pytest.mark.usefixtures("no_process")
def test_an_unknown_format_is_refused_by_name(place: Place) -> None:
    with pytest.raises(BadInput, match="Did you mean 'onnx'"):
        export(place.study, place.home, formats=["onx"])


@pytest.mark.usefixtures("no_process")
def test_another_data_set_or_split_than_the_studys_is_refused(place: Place) -> None:
    (place.home.root / "model.keras").write_bytes(b"model")
    place.add(place.home.root / "model.keras", 0.9)
    recorded = place.study.user_attrs[attributes.DATA]
    for key in ("checksum", "split"):
        place.study.set_user_attr(attributes.DATA, {**recorded, key: "0" * 64})
        with pytest.raises(BadInput, match=r"0{64}"):
            export(place.study, place.home)
    shutil.rmtree(place.dataset.folder)
    with pytest.raises(BadInput, match="tuning data prepare mnist_sample"):
        export(place.study, place.home)


@pytest.mark.usefixtures("no_process")
def test_a_folder_with_other_files_is_not_replaced(place: Place, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"model")
    place.add(tmp_path / "model.keras", 0.9)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BadInput, match=r"thesis\.tex"):
        export(place.study, place.home, out=tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        export(place.study, place.home, out=tmp_path / "thesis.tex")
    with pytest.raises(BadInput, match="cannot be written"):
        export(place.study, place.home, out=tmp_path / "thesis.tex" / "bundle")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_bundle_takes_the_place_of_the_former_one_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(bundle, "_exchanged", lambda *_: False)
    target = tmp_path / "mnist"
    for version, files in (("one", ["card.json", "model.onnx"]), ("two", ["card.json", "model.tflite"])):
        with replacing_bundle(target) as folder:
            for name in files:
                (folder / name).write_text(version)
            if version == "two":
                assert entries(target) == ["card.json", "model.onnx"]
        assert entries(target) == files
        assert (target / "card.json").read_text() == version
        assert entries(tmp_path) == ["mnist"]


def test_an_interrupted_export_leaves_the_former_bundle(tmp_path: Path) -> None:
    with replacing_bundle(tmp_path / "mnist") as folder:
        (folder / "card.json").write_text("former")
    with pytest.raises(KeyboardInterrupt), replacing_bundle(tmp_path / "mnist"):
        raise KeyboardInterrupt
    assert (tmp_path / "mnist" / "card.json").read_text() == "former"
    assert entries(tmp_path) == ["mnist"]


def test_a_full_disk_is_told_and_leaves_the_former_bundle(tmp_path: Path) -> None:
    with replacing_bundle(tmp_path / "mnist") as folder:
        (folder / "card.json").write_text("former")
    with pytest.raises(TuningError, match="no room"), replacing_bundle(tmp_path / "mnist"):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "mnist" / "card.json").read_text() == "former"
    assert entries(tmp_path) == ["mnist"]


def test_a_study_that_was_not_exported_names_the_next_step(home: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="make export STUDY=mnist"):
        bundle_folder(Home(home), "mnist", None)
    with pytest.raises(BadInput, match=r"make export STUDY='my study; x'"):
        bundle_folder(Home(home), "my study; x", None)
    assert bundle_folder(Home(home), None, tmp_path) == tmp_path
    for study, model in ((None, None), ("mnist", tmp_path)):
        with pytest.raises(BadInput, match="either"):
            bundle_folder(Home(home), study, model)


def test_the_tolerance_is_two_images_or_a_share_whichever_is_larger() -> None:
    assert tolerance("float32", 500) == 2 / 500
    assert tolerance("float32", 10_000) == 5e-4
    assert tolerance("mixed_bfloat16", 10_000) == 5e-3
