"""What the cores compute in: asked of the machine once, when a study is made, and then the study's."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.declaration import Overrides, PlanName, declaration_of, from_catalog, make_spec, read_declaration
from studies.spec import Precision, StudySpec
from tuning.machine.precision import cores_precision

PLAIN = "processor : 0\nflags\t\t: fpu sse avx2 avx512f\n"
HALF = "processor : 0\nflags\t\t: fpu sse avx2 avx512f avx512_bf16 avx512_vnni\n"


@pytest.mark.parametrize(
    ("text", "environ", "precision"),
    [
        (HALF, {}, "mixed_bfloat16"),
        (HALF.replace("avx512_bf16", "amx_bf16"), {}, "mixed_bfloat16"),
        (HALF + "\n" + HALF, {"KERAS_BACKEND": "tensorflow"}, "mixed_bfloat16"),
        (PLAIN, {}, "float32"),
        (HALF + "\n" + PLAIN, {}, "float32"),
        (HALF.replace("flags", "power flags"), {}, "float32"),
        (HALF.replace("avx512_bf16", "avx512_bf16x"), {}, "float32"),
        ("", {}, "float32"),
        (HALF, {"KERAS_BACKEND": "jax"}, "float32"),
        (HALF, {"TF_ENABLE_ONEDNN_OPTS": "0"}, "float32"),
        (HALF, {"TUNING_PRECISION": "float32"}, "float32"),
        (PLAIN, {"TUNING_PRECISION": "mixed_bfloat16"}, "mixed_bfloat16"),
        (PLAIN, {"TUNING_PRECISION": "half"}, "float32"),
    ],
)
def test_cores_with_instructions_for_it_compute_in_half_precision(
    text: str, environ: dict[str, str], precision: str, tmp_path: Path
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert cores_precision(environ, file) == precision


def test_a_machine_that_says_nothing_of_its_cores_computes_in_float32(tmp_path: Path) -> None:
    assert cores_precision({}, tmp_path / "cpuinfo") == "float32"


def spec_of(overrides: Overrides, *, model: str = "models.cnn:CNN", plan: PlanName = "cpu") -> StudySpec:
    return make_spec(from_catalog("mnist"), overrides, plan_name=plan, model=model, strategy="freeze_thaw")


@pytest.mark.parametrize(
    ("cores", "said", "model", "plan", "precision"),
    [
        ("mixed_bfloat16", None, "models.cnn:CNN", "cpu", "mixed_bfloat16"),
        ("mixed_bfloat16", "auto", "models.cnn:CNN", "cpu", "mixed_bfloat16"),
        ("mixed_bfloat16", "float32", "models.cnn:CNN", "cpu", "float32"),
        ("float32", None, "models.cnn:CNN", "cpu", "float32"),
        ("float32", "mixed_bfloat16", "models.cnn:CNN", "cpu", "mixed_bfloat16"),
        # Nobody has measured what a network of somebody's own makes of it.
        ("mixed_bfloat16", None, "own.py:Own@abc", "cpu", "float32"),
        ("mixed_bfloat16", "mixed_bfloat16", "own.py:Own@abc", "cpu", "mixed_bfloat16"),
        # It may go on on any cores, a GPU has its own.
        ("mixed_bfloat16", None, "models.cnn:CNN", "gpu", "float32"),
    ],
)
def test_auto_is_what_the_cores_are_fastest_in_for_the_projects_own_networks(
    cores: Precision, said: str | None, model: str, plan: PlanName, precision: str
) -> None:
    assert spec_of(Overrides(precision=said, cores=cores), model=model, plan=plan).precision == precision


@pytest.mark.parametrize("begun", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("cores", ["float32", "mixed_bfloat16"])
def test_a_study_goes_on_in_the_precision_that_it_was_begun_with(begun: Precision, cores: Precision) -> None:
    before = spec_of(Overrides(cores=begun))
    assert before.precision == begun
    again = make_spec(
        declaration_of(StudySpec.stored(before.model_dump(mode="json")), 24),
        Overrides(cores=cores),
        plan_name=before.plan_name,
        model=before.model,
        strategy=before.strategy.name,
    )
    again.require_same(before, "mnist")


def test_a_study_from_before_there_was_a_choice_is_one_of_float32() -> None:
    assert "precision" not in spec_of(Overrides()).model_dump(mode="json")


def test_a_file_that_says_nothing_of_it_means_float32_on_any_cores(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('dataset = "mnist"\n[plan.cpu]\ntrials = 3\nepochs = 2\n')
    spec = make_spec(
        read_declaration(file),
        Overrides(cores="mixed_bfloat16"),
        plan_name="cpu",
        model="models.cnn:CNN",
        strategy="freeze_thaw",
    )
    assert spec.precision == "float32"
