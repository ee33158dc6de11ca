"""Every model as people publish it, whole: tuned, exported and loaded elsewhere, or refused in one line."""

from __future__ import annotations

import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import BadInput
from tests.contract.test_foreign_contract import CASES, PUBLISHED, Data, Ours, require_rebuilt
from tuning.user_classes import UserFile, parse_model

NO_MODELS = {"d01_keras_reads_these_folders.py", "proj_a/models.py"}
COLOUR = {"b12_transfer.py", "b40_imagenet.py", "b41_wrong_shape.py", "d02_kerastuner_on_a_folder.py"}
NAMED = {"c00_control.py": "Control", "d02_kerastuner_on_a_folder.py": "build_model", "k17_keras2_habits.py": "Old"}
NAMED |= dict(text.split(":") for text in PUBLISHED)

TUNED = (
    "b02_blocks.py",
    "b06_conditional_loop.py",
    "b07_parent_values.py",
    "b12_transfer.py",
    "b13_own_rescaling.py",
    "b13n_no_rescaling.py",
    "b14_softmax_left_in.py",
    "b15_sequential_inside.py",
    "b16_lambda.py",
    "b17_custom_layer.py",
    "b18_subclassed_inside.py",
    "b24_sibling_import.py",
    "b25_step_log.py",
    "b28_hpget_get_before.py",
    "b29_uncompiled_loss.py",
    "b35_pretrained_layer.py",
    "b36_pretrained_flat_base.py",
    "b37_pretrained_nested.py",
    "b38_clear_session.py",
    "b43_adapted_normalization.py",
    "b45_every_kind.py",
    "c00_control.py",
    "k01_build_model_mlp.py",
    "k02_build_model_blocks.py",
    "k03_hypermodel_args.py",
    "k04_hypermodel_fit_batch.py",
    "k06_conditional_loop.py",
    "k07_parent_values.py",
    "k08_same_name.py",
    "k10_hyperresnet.py",
    "k12_transfer.py",
    "k13_own_layers.py",
    "k15_subclassed.py",
    "k18_nested.py",
    "k19_objective_f1.py",
    "k20_script_at_import.py",
    "k21_uncompiled.py",
    "p01_plain_keras.py",
    "proj_a/net.py",
    "proj_b/tuning.py",
)
# What is refused, and what the line says.
REFUSED = {
    "b03_name_learning_rate.py": "parameter 'learning_rate' is declared with two ranges",
    "b04_name_dropout.py": "parameter 'dropout' is declared with two ranges",
    "b05_name_bool_dropout.py": "parameter 'dropout' is declared with two ranges",
    "b06b_nested_same_parent.py": "num_conv_layers not defined",
    "b08_same_name.py": "parameter 'convolution' is declared with two ranges",
    "b10_nested_hyperresnet.py": "parameter 'version' is declared with two ranges",
    "b19_rank4.py": "must return features (batch, features). Received: the shape (None, 13, 13, 8)",
    "b20_build_override.py": "the model cannot be built: TypeError: Can't instantiate abstract class Net",
    "b21_fit_override.py": "the model cannot be trained with",
    "b22_init_args.py": "got an unexpected keyword argument 'extended'",
    "b23_no_defaults.py": "the model cannot be built: AttributeError: 'Net' object has no attribute 'defaults'",
    "b26_optimizer_choice.py": "parameter 'optimizer' is declared with two ranges",
    "b27_reverse_log.py": "sampling='reverse_log', which Optuna cannot draw",
    "b39_threads_at_import.py": "cannot be imported: RuntimeError",  # here, where TensorFlow is in use already
    "b40_imagenet.py": "the model cannot be built with",  # its weights are to be downloaded
    "b41_wrong_shape.py": "expected shape=(None, 28, 28, 1), found shape=(None, 32, 32, 3)",
    "d02_kerastuner_on_a_folder.py": "cannot be imported: FileNotFoundError",
    "k17_keras2_habits.py": "Argument(s) not recognized: {'lr': 0.01}",
}


@pytest.mark.skipif(CASES is None, reason="the scripts do not lie beside this checkout")
def test_every_script_is_tried() -> None:
    assert CASES is not None
    files = {str(file.relative_to(CASES)) for file in (*CASES.glob("[bcdkp]*.py"), *CASES.glob("proj_*/*.py"))}
    assert files - NO_MODELS == {*TUNED, *REFUSED}


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("user_model_"):
            del sys.modules[name]


@pytest.mark.keras
@pytest.mark.long
@pytest.mark.skipif(CASES is None, reason="the scripts do not lie beside this checkout")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("script", sorted([*TUNED, *REFUSED]))
def test_what_people_publish_is_tuned_and_exported_or_refused_in_one_line(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CASES is not None
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(CASES / "make_base_weights.py"))
    name, user_file = parse_model(f"{CASES / script}:{NAMED.get(script, 'Net')}")
    assert user_file is not None
    text = f"{script}:{user_file.class_name}"
    shape = PUBLISHED.get(text, (32, 32, 3) if script in COLOUR else (28, 28, 1))
    line = refusal_of(name, user_file, Data(shape, 10), tmp_path)
    if script in REFUSED:
        assert line is not None and "\n" not in line and REFUSED[script] in line, line
    else:
        assert line is None, line


def refusal_of(name: str, user_file: UserFile, data: Data, folder: Path) -> str | None:
    """Return the line with which it is refused; None if it is tuned."""
    try:
        tuned(name, user_file, data, folder)
    except BadInput as error:
        return str(error)
    return None


def tuned(name: str, user_file: UserFile, data: Data, folder: Path) -> None:
    """Walk its space, train it for a few steps and load it in a process that does not know it; then a trial of it."""
    from models.training.compiled import CompiledModels
    from studies.spec import Sampler, StrategyChoice, StudySpec
    from tuning.worker.preflight.walk import preflight
    from tuning.worker.preparing.hypermodels import load_hypermodel
    from tuning.worker.training_data import Classifiers, TrainingData

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hypermodel: Any = load_hypermodel(name, user_file)
    spec = StudySpec(
        dataset="mnist_sample", model=name, space="core", parameters={}, seed=0, plan_name="cpu", epochs=1,
        train_images=None, validation_images=500, patience=1, sampler=Sampler(), strategy=StrategyChoice(),
    )  # fmt: skip
    parts = TrainingData(data.training, data.validation, data.training, data.inputs, tuple("0123456789"))
    space, _, _ = preflight(Classifiers(hypermodel, spec, parts, CompiledModels()), user_file)
    ours = Ours(hypermodel, data)
    result = ours.fit()
    assert set(ours.asked.values()) == {1}
    assert set(ours.trial.params) <= set(space.parameters)
    require_rebuilt(ours, result, folder)
