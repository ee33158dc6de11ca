"""The card of a bundle for Hugging Face: valid YAML, what is not known left out, and no name that does anything."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tuning.bundles.model_card import model_card

FIGURES = {"accuracy": 0.9123, "loss": 0.25, "balanced_accuracy": 0.9}


def card(**changes: Any) -> dict[str, Any]:
    return {
        "study": "mine", "trial": 7, "dataset": "cifar10", "class_names": ["cat", "dog"],
        "input": {"shape": [32, 32, 3], "range": [0, 255]}, "output": "one probability for each class",
        "parameters": {"optimizer": "adamw", "learning_rate": 0.012345},
        "validation": {**FIGURES, "accuracy": 0.93}, "test": FIGURES, **changes,
    }  # fmt: skip


def parted(text: str) -> tuple[dict[str, Any], str]:
    """Return the front matter and the words, as the hub parts them."""
    empty, front, words = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), words


def test_the_front_matter_says_what_the_model_is_and_how_good() -> None:
    front, words = parted(model_card(card(), "CIFAR-10"))
    assert front["library_name"] == "keras"
    assert front["pipeline_tag"] == "image-classification"
    assert front["datasets"] == ["uoft-cs/cifar10"]
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {"name": "CIFAR-10", "type": "uoft-cs/cifar10", "split": "test"}
    assert result["metrics"][0] == {"type": "accuracy", "value": 0.9123, "name": "test accuracy"}
    assert "| test | 91.23% | 90.00% | 0.2500 |" in words
    assert "| learning\\_rate | 0.01235 |" in words


def test_what_is_not_known_is_left_out() -> None:
    own = card(dataset="/home/me/pictures", input={"shape": [12], "range": None})
    front, words = parted(model_card(own, "pictures"))
    assert {"license", "datasets", "pipeline_tag"}.isdisjoint(front)
    assert front["model-index"][0]["results"][0]["dataset"]["type"] == "other"
    assert "/home/me" not in words


@pytest.mark.parametrize(
    "name", ["---\nlicense: mit", "a: b", "<script>", "|x|", "'\"", "[a](http://b)", "# {x}", "null"]
)
def test_no_name_changes_the_front_matter_or_the_words(name: str) -> None:
    front, words = parted(model_card(card(study=name, parameters={name: name}), name))
    assert set(front) == set(parted(model_card(card(), "CIFAR-10"))[0])
    rendered = MarkdownIt("commonmark").enable("table").render(words)
    assert "<script" not in rendered
    assert "href" not in rendered
    assert rendered.count("<h1>") == 1


@given(st.text(max_size=40))
def test_the_front_matter_holds_any_name(name: str) -> None:
    front, _ = parted(model_card(card(study=name), name))
    assert isinstance(front["model-index"][0]["name"], str)
