"""A study does not depend on what a user has set for Keras elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import BadInput
from tuning.keras_settings import require_backend, require_keras_json, settle_keras


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which is the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def written(folder: Path, text: str, keras_home: str = ".keras") -> Path:
    file = folder / keras_home / "keras.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"floatx": "float8"}', 'floatx is "float8", allowed is float16, float32, float64'),
        ('{"floatx": null}', "floatx is null, allowed is"),
        ('{"image_data_format": "middle"}', 'image_data_format is "middle", allowed is channels_last, channels_first'),
        ('{"image_data_format": [1]}', r"image_data_format is \[1\], allowed"),
        ('{"epsilon": 1}', "epsilon is 1, allowed is a number with a point"),
        ('{"epsilon": "small"}', 'epsilon is "small"'),
        ("[1]", "it holds no object"),
    ],
)
def test_a_keras_json_with_which_keras_cannot_be_imported_is_named(users: Path, text: str, words: str) -> None:
    file = written(users, text)
    with pytest.raises(BadInput, match=rf"Keras cannot be imported with {file}: {words}.* Mend the file or move it"):
        settle_keras({})
    elsewhere = written(users, text, "elsewhere")
    with pytest.raises(BadInput, match=f"with {elsewhere}: "):
        require_keras_json({"KERAS_HOME": str(elsewhere.parent)})


@pytest.mark.parametrize(
    "text", ["", "{broken", '{"floatx": "float16", "epsilon": 0.1, "backend": 3, "mine": 1}', "{}"]
)
def test_what_keras_takes_or_passes_over_is_left_to_it(users: Path, text: str) -> None:
    require_keras_json({})
    written(users, text)
    require_keras_json({})


def test_a_keras_json_that_cannot_be_read_is_told(users: Path) -> None:
    (users / ".keras" / "keras.json").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"keras.json: it cannot be read: Is a directory. Mend"):
        require_keras_json({})


def test_only_the_environment_chooses_the_backend_and_nothing_caps_a_training(users: Path) -> None:
    environ = {
        "KERAS_MAX_EPOCHS": "1",
        "KERAS_MAX_STEPS_PER_EPOCH": "x",
        "KERAS_NNX_ENABLED": "true",
        "HOME": "/me",
    }
    settle_keras(environ)
    assert environ == {"HOME": "/me", "KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "false"}
    for given, used in (("", "tensorflow"), ("jax", "jax"), ("torch", "torch")):
        environ["KERAS_BACKEND"] = given
        settle_keras(environ)
        assert environ["KERAS_BACKEND"] == used


def test_a_backend_without_training_is_refused_by_name() -> None:
    require_backend({"KERAS_BACKEND": "jax"})
    with pytest.raises(BadInput, match=r"KERAS_BACKEND=torch: models train on tensorflow or jax. Set one of these"):
        require_backend({"KERAS_BACKEND": "torch"})
