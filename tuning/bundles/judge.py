"""The process with Keras in which a saved model is judged, converted or asked: `python -m tuning.bundles.judge`.

One task comes on standard input; its answers go to standard output, one a line. A converter that dies takes this
process with it and no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, first_line, in_one_line
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared
from studies.datasets.splits import Split
from studies.spec import StudySpec
from studies.study_data import recorded_split, test_part
from tuning.bundles.bundle import FORMATS
from tuning.bundles.loading import loaded
from tuning.keras_settings import settle_keras
from tuning.tasks import (
    CompareTask,
    Conversion,
    ConvertTask,
    Difference,
    Differs,
    Failed,
    Figures,
    Judgement,
    JudgeTask,
    LabelFigures,
    Looked,
    Mirrored,
    MirrorTask,
    Mistake,
    Predicted,
    PredictTask,
    TestFigures,
    answering,
    asked,
)

if TYPE_CHECKING:
    from models.evaluation import Evaluation

# On so many images the SavedModel must give the Keras model's probabilities.
CHECKED_IMAGES = 8
# So many pictures are asked of at once.
_BATCH_SIZE = 256


def _answer_stdin() -> None:
    settle_keras(os.environ)
    with answering() as say:
        from models.importing import importing_keras

        with importing_keras():
            from models.backend import set_defaults

        set_defaults()
        # Last: whoever started this process early has no task for it yet.
        task: JudgeTask | MirrorTask | ConvertTask | CompareTask | PredictTask = asked()
        if task["do"] == "judge":
            say(_judged(task))
        elif task["do"] == "mirror":
            say(_mirrored(task))
        elif task["do"] == "compare":
            say(_compared(task))
        elif task["do"] == "predict":
            say(_predicted(task))
        else:
            for answer in _converted(task):
                say(answer)


def _judged(task: JudgeTask) -> Judgement | Differs | Failed:
    import keras

    from models.evaluation import evaluate

    dataset, split = _data_of(task)
    names = dataset.info.class_names
    try:
        model = loaded(Path(task["model"]), task["building"])
        validation = _on_validation(model, dataset, split)
    except Exception as error:  # whatever it is, this model is not to be handed over
        return Failed(error=in_one_line(error).rstrip(": ."))
    if abs(validation.accuracy - task["value"]) > task["tolerated"]:
        return Differs(differs=validation.accuracy)
    images, labels = test_part(dataset, split)
    test = evaluate(model, images, labels, classes=len(names))
    per_class = [
        LabelFigures(label=names[of.label_index], precision=of.precision, recall=of.recall, support=of.support)
        for of in test.per_class
    ]
    return Judgement(
        looked=_looked(validation, split.validation),
        validation=_figures(validation),
        test=TestFigures(**_figures(test), per_class=per_class),
        confusion=test.confusion.tolist(),
        backend=keras.backend.backend(),
    )


def _mirrored(task: MirrorTask) -> Mirrored | Differs | Failed:
    from models.mirrored import mirrored

    file = Path(task["model"])
    dataset, split = _data_of(task)
    try:
        model = loaded(file, task["building"])
        accuracy = _on_validation(model, dataset, split).accuracy
        if abs(accuracy - task["value"]) > task["tolerated"]:
            return Differs(differs=accuracy)
        both = mirrored(model)
        accuracy = _on_validation(both, dataset, split).accuracy
        if task["building"] is None:
            both.save(file)
    except Exception as error:  # whatever it is, this model is not to be handed over
        return Failed(error=in_one_line(error).rstrip(": ."))
    return Mirrored(mirrored=accuracy)


def _data_of(task: JudgeTask | MirrorTask) -> tuple[PreparedDataset, Split]:
    spec = StudySpec.stored(task["spec"])
    dataset = open_prepared(
        spec.dataset, Home(Path(task["home"])), images=spec.images, checksum=task["recorded"]["checksum"]
    )
    return dataset, recorded_split(dataset, spec, task["recorded"])


def _on_validation(model: Any, dataset: PreparedDataset, split: Split) -> Evaluation:
    from models.evaluation import evaluate

    rows, classes = split.validation, len(dataset.info.class_names)
    return evaluate(model, dataset.train_images[rows], dataset.train_labels[rows], classes=classes)


def _looked(found: Evaluation, rows: npt.NDArray[np.int64]) -> Looked:
    mistakes = [
        Mistake(image=int(rows[of.place]), label=of.label_index, predicted=of.predicted, probability=of.probability)
        for of in found.mistakes
    ]
    return Looked(confusion=found.confusion.tolist(), mistakes=mistakes)


def _figures(found: Evaluation) -> Figures:
    return Figures(accuracy=found.accuracy, loss=found.loss, balanced_accuracy=found.balanced_accuracy)


def _compared(task: CompareTask) -> Difference | Failed:
    with np.load(task["said"]) as said:
        images, probabilities = said["images"], said["probabilities"]
    try:
        again = loaded(Path(task["model"]), task["building"]).predict_on_batch(images)
    except Exception as error:  # whatever it is, this model cannot be handed over
        return Failed(error=in_one_line(error).rstrip(": ."))
    return Difference(difference=_furthest(again, probabilities))


def _predicted(task: PredictTask) -> Predicted | Failed:
    import keras

    pixels = np.load(task["images"])
    try:
        model = loaded(Path(task["model"]), task["building"])
    except BadInput as error:
        return Failed(error=str(error))
    except Exception as error:  # whatever it is, Keras's or that of a user's code
        reason = first_line(error).rstrip(".")
        return Failed(
            error=f"{task['model']} cannot be loaded by Keras {keras.__version__}: {reason}. Its card.json says which"
            " versions made it."
        )
    parts = [pixels[start : start + _BATCH_SIZE] for start in range(0, len(pixels), _BATCH_SIZE)]
    rows = np.concatenate([np.asarray(model.predict_on_batch(part), dtype=np.float64) for part in parts])
    return Predicted(predicted=rows.tolist())


def _furthest(some: Any, others: Any) -> float:
    return float(np.abs(np.asarray(some) - np.asarray(others)).max())


def _converted(task: ConvertTask) -> Iterator[Conversion]:
    import keras

    source = Path(task["model"])
    model = loaded(source, task["building"])
    for name in task["formats"]:
        file = source.parent / FORMATS[name]
        try:
            model.export(str(file), format=name, verbose=False)
            if name == "tf_saved_model" and keras.backend.backend() == "tensorflow":
                _compare(model, file, task["tolerated"])
        except Exception as error:  # each converter has its own
            yield Conversion(format=name, error=in_one_line(error).rstrip(": ."))
        else:
            yield Conversion(format=name, error=None)


def _compare(model: Any, saved: Path, tolerated: float) -> None:
    import keras

    shape = (CHECKED_IMAGES, *model.input_shape[1:])
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    again = keras.layers.TFSMLayer(str(saved), call_endpoint="serve")(images)
    difference = _furthest(again, model.predict_on_batch(images))
    if not difference <= tolerated:
        raise ValueError(f"it differs from the Keras model by {difference:.2g} in a probability")


if __name__ == "__main__":
    _answer_stdin()
