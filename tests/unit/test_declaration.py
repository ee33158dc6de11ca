"""A study's TOML file is read whole or refused in one line: the file, the key, the value, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import BadInput
from studies.datasets.registry import DATASETS
from studies.declaration import (
    CATALOG,
    Overrides,
    PlanName,
    catalog_names,
    from_catalog,
    hypermodel_name,
    make_spec,
    read_declaration,
)
from studies.spec import HYPERMODELS, KERAS_TUNER_MODELS, ParameterRange

GOOD = """
dataset = "mnist"
[plan.cpu]
trials = 6
epochs = 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("name", catalog_names())
def test_every_declared_study_can_be_made(name: str) -> None:
    declaration = from_catalog(name)
    assert declaration.dataset == name
    assert declaration.dataset in DATASETS
    for plan_name in ("cpu", "gpu"):
        spec = make_spec(
            declaration,
            Overrides(),
            plan_name=plan_name,
            model=hypermodel_name(declaration.model),
            strategy=declaration.strategy.name,
        )
        info = DATASETS[name]
        assert spec.validation_images + (spec.train_images or 1) <= info.images("train")


def test_the_catalog_is_not_empty() -> None:
    assert {"mnist_sample", "cifar10_sample"} <= set(catalog_names()) == {file.stem for file in CATALOG.glob("*.toml")}


def test_a_data_set_without_a_study_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"unknown data set 'mnist_sampel'. Did you mean 'mnist_sample'"):
        from_catalog("mnist_sampel")


@pytest.mark.parametrize(
    ("content", "line"),
    [(GOOD.encode("utf-16"), 1), (b"#\n# \xe9\n" + GOOD.encode(), 2)],
    ids=["utf-16", "latin-1"],
)
def test_a_file_in_another_encoding_is_told_as_that(file: Path, content: bytes, line: int) -> None:
    file.write_bytes(content)
    with pytest.raises(BadInput, match=f"line {line} is not UTF-8, as TOML is. Save the file in that encoding"):
        read_declaration(file)


def test_what_is_left_out_has_its_default(file: Path) -> None:
    file.write_text(GOOD)
    declaration = read_declaration(file)
    assert (declaration.model, declaration.space, declaration.seed) == ("cnn", "core", 0)
    assert declaration.plan_for("gpu").trials == 6  # the only one there is


def test_ranges_are_read(file: Path) -> None:
    file.write_text(
        GOOD + '[parameters]\nlearning_rate = {low = 1e-4, high = 1e-2, log = true}\noptimizer = {choices = ["adam"]}'
    )
    assert read_declaration(file).parameters == {
        "learning_rate": ParameterRange(low=1e-4, high=1e-2, log=True),
        "optimizer": ParameterRange(choices=("adam",)),
    }


PLANS = """
dataset = "mnist"
model = "cnn"
first = [{ dropout = 0.1 }]
defaults = { label_smoothing = 0.1, augmentation = 0.2 }
[plan.cpu]
trials = 6
epochs = 4
[plan.gpu]
trials = 6
epochs = 4
model = "resnet"
"""
OF_THE_PLAN = "first = [{ dropout = 0.3 }]\n"


@pytest.mark.parametrize(
    ("more", "plan", "model", "first"),
    [
        ("", "cpu", None, [0.1]),
        ("", "cpu", "models.cnn:CNN", [0.1]),
        ("", "cpu", "mine.py:Mine", []),
        ("", "gpu", None, []),
        ("", "gpu", "cnn", [0.1]),
        (OF_THE_PLAN, "cpu", None, [0.1]),
        (OF_THE_PLAN, "gpu", None, [0.3]),
        (OF_THE_PLAN, "gpu", "models.resnet:ResNet", [0.3]),
        (OF_THE_PLAN, "gpu", "deep_cnn", []),
        ("first = []", "gpu", None, []),
    ],
)
def test_what_is_tried_first_is_of_the_network_that_is_trained(
    file: Path, more: str, plan: PlanName, model: str | None, first: list[float]
) -> None:
    file.write_text(PLANS + more)
    declaration = read_declaration(file)
    found = declaration.first_for(declaration.plan_for(plan), model)
    assert [one["dropout"] for one in found] == first


def test_defaults_of_a_plan_are_added_to_the_files_and_come_before_them(file: Path) -> None:
    file.write_text(PLANS + "defaults = { augmentation = 0.5, weight_decay = 0.01 }")
    declaration = read_declaration(file)
    plans: tuple[PlanName, ...] = ("cpu", "gpu")
    specs = [
        make_spec(declaration, Overrides(), plan_name=plan, model="models.cnn:CNN", strategy="none") for plan in plans
    ]
    assert [spec.defaults for spec in specs] == [
        {"label_smoothing": 0.1, "augmentation": 0.2},
        {"label_smoothing": 0.1, "augmentation": 0.5, "weight_decay": 0.01},
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dataset = \nseed = 1", "not TOML: Invalid value .*line 1"),
        ('dataset = "a"\ndataset = "b"\n', "not TOML: Cannot overwrite a value .*line 2"),
        ("", "dataset: is missing. Add it to the file."),
        ('dataset = "mnist"', "plan: is missing. Add it"),
        ('dataset = "mnist"\nplan = {}', r"plan = {}: give \[plan.cpu\], \[plan.gpu\] or both"),
        ('dataset = "mnist"\n[plan.cpu]\nepochs = 3', "plan.cpu.trials: is missing"),
        ('dataset = "mnist"\n[plan.tpu]\ntrials = 3\nepochs = 3', "plan.tpu = .*'cpu' or 'gpu'"),
        (GOOD.replace('"mnist"', "7"), "dataset = 7: input should be a valid string"),
        (GOOD.replace("6", '"six"'), 'plan.cpu.trials = "six": input should be a valid integer'),
        (GOOD.replace("6", "6.5"), "plan.cpu.trials = 6.5: input should be a valid integer"),
        (GOOD.replace("6", "0"), "plan.cpu.trials = 0: input should be greater than or equal to 1"),
        (GOOD.replace("trials", "trails"), "plan.cpu.(trials: is missing|trails = 6: no such key)"),
        (GOOD + "epoch = 3", "plan.cpu.epoch = 3: no such key. Allowed: trials, epochs, train_images"),
        (GOOD + "patience = -1", "plan.cpu.patience = -1: input should be greater than or equal to 1"),
        ("seeds = 1\n" + GOOD, "seeds = 1: no such key. Allowed: dataset, images, model, space, class_weights"),
        ("precision = 16\n" + GOOD, "precision = 16: input should be 'auto', 'float32' or 'mixed_bfloat16'"),
        ("seed = -1\n" + GOOD, "seed = -1: input should be greater than or equal to 0"),
        ("seed = 4294967296\n" + GOOD, "seed = 4294967296: input should be less than"),
        ('space = "huge"\n' + GOOD, "space = \"huge\": input should be 'core' or 'extended'"),
        (GOOD + '[sampler]\nname = "sobol"', "sampler.name = \"sobol\": input should be 'model', 'tpe', 'cmaes'"),
        (GOOD + "[sampler]\npoints = 0", "sampler.points = 0: input should be greater than or equal to 1"),
        (GOOD + "[sampler]\nseed = 1", "sampler.seed = 1: no such key. Allowed: name, .*, default_first, points"),
        (GOOD + "[strategy]\nreduction_factor = 1", "strategy.reduction_factor = 1: .*greater than or equal to 2"),
        (GOOD + '[strategy]\nname = "asha"', 'strategy.name = "asha": must be one of freeze_thaw, .* file.py:Class'),
        (GOOD + '[strategy]\ncost = "euros"', "strategy.cost = \"euros\": input should be 'epochs' or 'seconds'"),
        (GOOD + "[strategy]\nmin_epoch = 1", "strategy.min_epoch = 1: no such key. Allowed: name, min_epochs"),
        (GOOD + '[pruner]\nname = "none"', "pruner = .*: no such key. Allowed: dataset, .*, strategy"),
        (GOOD + "budget_epochs = 0", "plan.cpu.budget_epochs = 0: input should be greater than or equal to 1"),
        ("first = [[1]]\n" + GOOD, "first.0 = .*: input should be a valid dictionary"),
        (GOOD + "[parameters]\nx = {low = 2, high = 1}", "parameters.x = .*: low <= high must hold, received low=2"),
        (GOOD + "[parameters]\nx = {low = 1, hihg = 2}", "parameters.x.hihg = 2: no such key. Allowed: low, high"),
        (GOOD + "[parameters]\nx = {choices = []}", r"parameters.x.choices = \[\]: it has 0 values, and needs 1"),
        (GOOD + "[parameters]\nx = {choices = [[1]]}", r"parameters.x.choices.0 = \[1\]: input should be"),
        (GOOD + "[parameters]\nx = 5", "parameters.x = 5: input should be"),
        ("class_weights = 1\n" + GOOD, "class_weights = 1: input should be 'none', 'balanced' or 'search'"),
        (GOOD + "[parameters]\nx = {low = nan, high = 1}", "parameters.x.low = NaN: input should be a finite number"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line_with_key_value_and_what_is_allowed(
    file: Path, text: str, says: str
) -> None:
    file.write_text(text)
    with pytest.raises(BadInput, match=f"{file}: {says}") as refused:
        read_declaration(file)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.toml: cannot be read: No such file.*Give SPEC the path"):
        read_declaration(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        read_declaration(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"bytes.toml: line 1 is not UTF-8"):
        read_declaration(tmp_path / "bytes.toml")


def test_a_model_has_a_short_and_a_full_name() -> None:
    for short, full in HYPERMODELS.items():
        assert hypermodel_name(short) == hypermodel_name(full) == full


@pytest.mark.parametrize("model", ["resnett", "os:system", "models.cnn:keras", ""])
def test_an_unknown_model_is_refused_with_the_names_that_exist(model: str) -> None:
    known = ", ".join(sorted([*HYPERMODELS, *KERAS_TUNER_MODELS]))
    with pytest.raises(BadInput, match=f"Known: {known}. A hypermodel of your own is given as file.py:Class"):
        hypermodel_name(model)


@pytest.mark.parametrize("model", KERAS_TUNER_MODELS)
def test_kerastuners_own_models_are_named_in_full(model: str) -> None:
    assert hypermodel_name(model) == model


def test_the_command_line_replaces_what_the_file_says(file: Path) -> None:
    file.write_text("seed = 5\n" + GOOD)
    declaration = read_declaration(file)
    kept = make_spec(declaration, Overrides(), plan_name="cpu", model="models.cnn:CNN", strategy="freeze_thaw")
    assert (kept.seed, kept.epochs, kept.space, kept.train_images) == (5, 4, "core", None)
    assert kept.class_weights == "none"
    given = Overrides(space="extended", epochs=9, train_images=100, seed=0, class_weights="search")
    spec = make_spec(declaration, given, plan_name="cpu", model="models.resnet:ResNet", strategy="median")
    assert (spec.seed, spec.epochs, spec.space, spec.train_images) == (0, 9, "extended", 100)
    assert (spec.model, spec.class_weights) == ("models.resnet:ResNet", "search")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (Overrides(epochs=0), "--epochs 0: must be at least 1"),
        (Overrides(train_images=-3), "--train-images -3: must be at least 1"),
        (Overrides(seed=-1), "--seed -1: must be at least 0"),
        (Overrides(seed=2**32), "--seed 4294967296: must be .* below 2"),
        (Overrides(class_weights="balance"), "unknown class weighting 'balance'. Did you mean 'balanced'"),
        (Overrides(precision="bfloat16"), "unknown precision 'bfloat16'. Did you mean 'mixed_bfloat16'"),
        (Overrides(space="cor"), "unknown space 'cor'. Did you mean 'core'"),
    ],
)
def test_an_override_out_of_range_is_refused(file: Path, overrides: Overrides, says: str) -> None:
    file.write_text(GOOD)
    with pytest.raises(BadInput, match=says):
        make_spec(read_declaration(file), overrides, plan_name="cpu", model="models.cnn:CNN", strategy="freeze_thaw")
