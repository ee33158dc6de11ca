"""What every image classifier has in common: raw pixels in, a backbone between, one logit for each class out."""

from __future__ import annotations

import abc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras
import keras_tuner
from keras import layers

from models.backend import seed_generators
from models.recipe import ClassWeights, Recipe, declare_class_weights, declare_recipe, raised, replaced
from models.training.augmentation import RandomAugmentation
from models.training.balance import declared_class_weights
from models.training.compiled import CompiledModels, signature_of
from models.training.feeding import LabelledImages
from models.training.loop import FitResult, Training
from models.training.model import TrainingModel, classifier_of
from models.training.monitor import VALIDATION_ACCURACY, Monitor
from models.training.optimizers import make_optimizer
from models.training.phase import run_phase
from models.training.state import StateKeeper, TrainingState

NORMALIZATION = "pixel_normalization"
"""The name of the layer whose output the backbone is given."""

HEAD = "head_dropout"
"""The name of the layer that the backbone's features go to."""


@dataclass(frozen=True)
class Inputs:
    """What a classifier must know of its data.

    Attributes:
        shape: `(height, width, channels)` of raw pixels, 0..255; or any other of an example that is no picture.
        classes: how many there are.
        mean: of each channel (what lies along the last axis) over the training split, in the units of the data.
        std: the standard deviation likewise, above 0.
        flips: whether a mirrored picture is still of its class.
        dtype: of the data, `uint8` or `float32`.
        class_counts: how many pictures of each class the training part has; None where nobody asks.
    """

    shape: tuple[int, ...]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flips: bool
    dtype: str = "uint8"
    class_counts: tuple[int, ...] | None = None

    @property
    def are_pictures(self) -> bool:
        """Whether they are pixels, grey or in colour, rather than numbers of any other meaning."""
        return self.dtype == "uint8" and len(self.shape) == 3 and self.shape[2] in (1, 3)


class UnusableModel(ValueError):
    """A model that cannot be trained on these data, or is none."""


class ImageClassifier(keras_tuner.HyperModel, abc.ABC):
    """A hypermodel for pictures; a subclass adds the backbone and the defaults that train it well.

    A subclass may as well take what is no picture: features of any shape, normalised along their last axis. They are
    not augmented, and `augmentation` is no hyperparameter of theirs.

    Args:
        inputs: what the data look like.
        extended: whether all hyperparameters are tuned or only the core four: `batch_size`, `optimizer`,
            `learning_rate` and `dropout`. Those not tuned have their defaults.
        epochs: how long a training is at most; a schedule ends there.
        train_images: how many pictures an epoch shows, which gives the schedule its steps.
        patience: epochs without a better value after which a training at a constant learning rate ends; a schedule goes
            to its end.
        models: the process's compiled models, which trainings of one signature share; by default this one's own.
        class_weights: whether in training all pictures weigh alike (`none`) or all classes (`balanced`, by
            `inputs.class_counts`); `search` makes it a hyperparameter.
        defaults: values in place of those of the class's own `defaults`, by their names.
        at_least: values of the recipe, by name, that are raised to these where `recipe` gives less.
        monitor: what a training is judged by, which decides whose weights are kept.

    Raises:
        ValueError: if `epochs`, `train_images` or `patience` is below 1, `inputs` contradicts itself, `defaults` or
            `at_least` has a name that no recipe has, or classes are to weigh alike and their counts are not known.
    """

    defaults: ClassVar[Recipe]
    first_range_holds: ClassVar[bool] = False
    mixed: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Inputs,
        *,
        extended: bool,
        epochs: int,
        train_images: int,
        patience: int = 3,
        models: CompiledModels | None = None,
        class_weights: ClassWeights | Literal["search"] = "none",
        defaults: Mapping[str, Any] | None = None,
        at_least: Mapping[str, float] | None = None,
        monitor: Monitor = VALIDATION_ACCURACY,
    ) -> None:
        super().__init__()
        if min(epochs, train_images, patience) < 1:
            raise ValueError(
                "`epochs`, `train_images` and `patience` must be at least 1. "
                f"Received: {epochs}, {train_images} and {patience}."
            )
        if not len(inputs.mean) == len(inputs.std) == inputs.shape[-1]:
            raise ValueError(
                f"`mean` and `std` need one value for each of {inputs.shape[-1]} channels. "
                f"Received: {inputs.mean} and {inputs.std}"
            )
        if class_weights != "none" and len(inputs.class_counts or ()) != inputs.classes:
            raise ValueError(
                f"`class_weights={class_weights!r}` needs `inputs.class_counts`, one for each of {inputs.classes}"
                f" classes. Received: {inputs.class_counts}"
            )
        self._own_defaults = replaced(self.defaults, defaults or {})
        self._at_least = dict(at_least or {})
        raised(self.defaults, self._at_least)
        self.inputs = inputs
        self.extended = extended
        self.epochs = epochs
        self.train_images = train_images
        self.patience = patience
        self.models = models if models is not None else CompiledModels(kept=0)
        self.class_weights = class_weights
        self.monitor = monitor

    @abc.abstractmethod
    def backbone(self, hp: Any, x: Any) -> Any:
        """Features `(batch, features)` of normalised pictures `(batch, height, width, channels)`, or of other data.

        With stock Keras layers only, anyone can load the result; no dropout at the end, which the head adds.
        """

    def recipe(self, hp: Any) -> Recipe:
        """How the model of `hp` is trained; declares the hyperparameters that all classifiers share."""
        return declare_recipe(hp, self._own_defaults, extended=self.extended, augmented=self.inputs.are_pictures)

    def _recipe(self, hp: Any) -> Recipe:
        """How the model of `hp` is trained in the end; of what is no picture, there is nothing to augment."""
        pictures = self.inputs.are_pictures
        at_least = {name: value for name, value in self._at_least.items() if pictures or name != "augmentation"}
        return raised(self.recipe(hp), at_least)

    def tuned_int(self, hp: Any, name: str, low: int, high: int, *, step: int = 1, default: int) -> int:
        """An integer hyperparameter of the extended space; the default, undeclared, in the core space."""
        return int(hp.Int(name, low, high, step=step, default=default)) if self.extended else default

    def build(self, hp: Any) -> TrainingModel:
        """The compiled model for training: raw pixels `(batch, height, width, channels)` to logits.

        Each weight has the value that `backbone` left in it. Those that are drawn, dropout and augmentation follow
        `seed_generators` (or `keras.utils.set_random_seed`), called before. With `models` it may have served another
        training before, and serves the next one of its signature: it is this one's until then.
        """
        recipe = self._recipe(hp)
        self.models.put_back()
        network = self.untrained(hp)
        signature = signature_of(network, recipe, self.inputs.dtype)
        # From here on the same random numbers follow, whether the model is new or not.
        seed = random.randrange(2**31)
        if signature is None:
            # Layers that are not Keras's may draw from the backend's own generator.
            keras.utils.set_random_seed(seed)
        weights = network.count_params()
        model = self.models.take(signature, network, lambda: self._compiled(hp, recipe))
        del network
        self.models.discard(weights)
        batch_size = min(recipe.batch_size, self.train_images)
        steps = self.epochs * (self.train_images // batch_size)
        weights_of_classes = declared_class_weights(hp, self.class_weights, self.inputs.class_counts)
        model.begin(recipe, steps=steps, seed=seed, class_weights=weights_of_classes)
        seed_generators(seed)
        return model

    def untrained(self, hp: Any) -> keras.Model:
        """Pixels to logits `(batch, classes)`, as `hp` describes them, not compiled."""
        recipe = self._recipe(hp)
        declare_class_weights(hp, self.class_weights)
        return self._network(hp, recipe)

    def untrained_classifier(self, hp: Any) -> keras.Model:
        """What `classifier` returns of the model of `hp`, with weights as they are drawn: to load those of a trial."""
        return classifier_of(self.untrained(hp))

    def _compiled(self, hp: Any, recipe: Recipe) -> TrainingModel:
        augmentation = None
        if recipe.augmentation > 0.0:
            augmentation = RandomAugmentation(flips=self.inputs.flips, fill=self.inputs.mean)
        return TrainingModel(
            self._network(hp, recipe),
            make_optimizer(recipe),
            augmentation,
            self.inputs.dtype,
            averaged=recipe.averaging > 0.0,
        )

    def _network(self, hp: Any, recipe: Recipe) -> keras.Model:
        pixels = keras.Input(self.inputs.shape, name="pixels")
        x = layers.Normalization(
            mean=self.inputs.mean,
            variance=tuple(std**2 for std in self.inputs.std),
            # Pixels are whole numbers that half precision has; of others it would lose digits before they are centred.
            dtype=None if self.inputs.dtype == "uint8" else "float32",
            name=NORMALIZATION,
        )(pixels)
        x = self.backbone(hp, x)
        if len(x.shape) != 2:
            raise ValueError(
                f"`backbone` must return features (batch, features). Received: the shape {tuple(x.shape)}. End it with"
                " layers.Flatten() or layers.GlobalAveragePooling2D()."
            )
        x = layers.Dropout(recipe.dropout, name=HEAD)(x)
        # Softmax over half-precision logits would lose digits, whatever the backbone computes in.
        logits = layers.Dense(self.inputs.classes, dtype="float32", name="logits")(x)
        return keras.Model(pixels, logits, name="network")

    def training(
        self,
        hp: Any,
        model: TrainingModel,
        training: LabelledImages,
        validation: LabelledImages,
        *,
        seed: int,
        initial_epoch: int = 0,
    ) -> Training:
        """What `fit` runs, not yet run."""
        recipe = self._recipe(hp)
        return Training(
            model,
            training,
            validation,
            batch_size=recipe.batch_size,
            epochs=self.epochs,
            # A schedule promises its best at its end: whoever ended it earlier would never see that.
            patience=self.patience if recipe.schedule == "constant" else self.epochs,
            reduce_on_plateau=recipe.schedule == "constant",
            seed=seed,
            initial_epoch=initial_epoch,
            monitor=self.monitor,
        )

    def fit(
        self,
        hp: Any,
        model: TrainingModel,
        training: LabelledImages,
        validation: LabelledImages,
        *,
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        resume: TrainingState | None = None,
        keeper: StateKeeper | None = None,
    ) -> FitResult:
        """Train what `build` built and leave the weights of the best epoch in it.

        Args:
            hp: the hyperparameters that the model was built with.
            model: changed in place.
            training: pictures to learn from; as many as `train_images`, or the schedule ends early or late.
            validation: pictures that judge each epoch.
            seed: decides the order of the pictures. Weights, dropout and augmentation follow
                `keras.utils.set_random_seed`, called before `build`.
            callbacks: come after all others.
            resume: the state to go on from, of the same training.
            keeper: who wants the training's state at the end of epochs.

        Raises:
            NonFiniteLoss: if the loss is no longer a finite number.
            StateMismatch: if `resume` is the state of another model.
            UnknownMonitor: if the history does not have what it is judged by.
        """
        initial_epoch = resume.epochs if resume is not None else 0
        run = self.training(hp, model, training, validation, seed=seed, initial_epoch=initial_epoch)
        return run_phase(run, callbacks, keeper, resume=resume)

    def classifier(self, model: TrainingModel) -> keras.Model:
        """Raw pixels `(batch, height, width, channels)` to float32 probabilities `(batch, classes)`.

        Shares the weights of the training model, until that serves another training, and adds stock Keras layers only
        to the backbone's: saved as `.keras`, it loads where this project is unknown if those do.
        """
        return model.classifier()

    def weight_count(self, model: TrainingModel) -> int:
        """How many weights the network of a model has."""
        return model.weight_count

    def traces(self, model: TrainingModel) -> int:
        """How often a training step of a model has been traced."""
        return model.steps.traces

    def phases(self, hp: Any) -> list[tuple[float, Any]]:
        """One: all epochs are alike."""
        return [(1.0, self)]

    def notes(self) -> list[str]:
        """Nothing: what a backbone is given does not depend on it."""
        return []

    def runs_whole(self) -> None:
        """Nothing: whatever the model is, its training goes on from its state."""
