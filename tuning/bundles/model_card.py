"""A bundle's card as Hugging Face reads it: front matter in YAML, then words. What is not known is left out. No Keras.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md has the fields. The licence of a model is its owner's to
choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from storage.errors import shown
from studies.objectives.objective import VALIDATION_ACCURACY, Objective
from tuning.words import markdown_text, value_in_words

Document = Mapping[str, Any]

# What the published data sets are called there.
_DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}


def model_card(card: Document, title: str) -> str:
    """Return a bundle's card as Markdown with front matter.

    Args:
        card: what `card.json` holds.
        title: the data set's, as people write it.
    """
    front = yaml.safe_dump(_front_matter(card, title), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front}---\n\n{_words(card, title)}"


def _front_matter(card: Document, title: str) -> dict[str, Any]:
    dataset = str(card["dataset"])
    published = _DATASETS.get(dataset.removesuffix("_sample"))
    front: dict[str, Any] = {"library_name": "keras"}
    pictures = card["input"]["range"] is not None
    if pictures:
        front["pipeline_tag"] = "image-classification"
    front["tags"] = ["keras", *(["image-classification"] if pictures else []), "hyperparameter-optimization"]
    if published is not None:
        front["datasets"] = [published]
    front["metrics"] = ["accuracy"]
    test = card["test"]
    metrics = [
        {"type": "accuracy", "value": float(test["accuracy"]), "name": "test accuracy"},
        {"type": "accuracy", "value": float(test["balanced_accuracy"]), "name": "test balanced accuracy"},
        {"type": "loss", "value": float(test["loss"]), "name": "test cross-entropy in nats"},
    ]
    task = {"type": "image-classification" if pictures else "tabular-classification"}
    # A sample is of it, but its test images are not the ones that others measure with.
    data = {"name": shown(title), "type": _DATASETS.get(dataset, "other"), "split": "test"}
    front["model-index"] = [
        {"name": shown(card["study"]), "results": [{"task": task, "dataset": data, "metrics": metrics}]}
    ]
    return front


def _objective(card: Document) -> Objective:
    """What the model was chosen by; cards of earlier versions do not say it."""
    said = card.get("objective")
    if said is None:
        return VALIDATION_ACCURACY
    return Objective(name=said["name"], direction=said["direction"])


def _words(card: Document, title: str) -> str:
    objective = _objective(card)
    by, value = ("", "accuracy")
    if not objective.is_default:
        by = f" as the one with the {'largest' if objective.direction == 'max' else 'smallest'} {objective.words},"
        value = objective.words.partition(" ")[2]
    validation, test = card["validation"], card["test"]
    rows = [
        f"| {part} | {figures['accuracy']:.2%} | {figures['balanced_accuracy']:.2%} | {figures['loss']:.4f} |"
        for part, figures in (("validation", validation), ("test", test))
        if figures is not None
    ]
    parameters = [
        f"| {markdown_text(shown(name))} | {markdown_text(shown(value_in_words(value)))} |"
        for name, value in card["parameters"].items()
    ]
    shape = "x".join(map(str, card["input"]["shape"]))
    takes = f"pixels from 0 to 255, {shape}" if card["input"]["range"] is not None else f"{shape} numbers"
    what = (
        f"A Keras classifier of {markdown_text(shown(title))} with {len(card['class_names'])} classes. It takes"
        f" {takes}, and returns {markdown_text(card['output'])}. Its hyperparameters were searched; it is trial"
        f" {card['trial']}."
    )
    base = card.get("base")
    if base is not None:
        what += (
            f" It began with {markdown_text(shown(base['model']))}, trained before on other pictures (SHA-256"
            f" {base['sha256']}...)."
        )
    caution = "The test images were looked at once, when the model had been chosen. " + (
        "Its hyperparameters were chosen by the validation images; then it learned from these, too."
        if validation is None
        else f"By the validation images it was chosen,{markdown_text(by)} so that its {markdown_text(value)} on them"
        " looks better than it is."
    )
    more = "`card.json` beside this file has all there is to know: data, seed, spec, versions, how it was chosen."
    tests = ["| images | accuracy | balanced accuracy | loss |", "|---|---:|---:|---:|", *rows]
    values = ["| hyperparameter | value |", "|---|---|", *parameters]
    parts = [f"# {markdown_text(shown(card['study']))}", what, "\n".join(tests), caution, "\n".join(values), more]
    return "\n\n".join(parts) + "\n"
