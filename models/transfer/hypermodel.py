"""Transfer learning as something that can be tuned: a base that others trained, and the classes of the data at hand."""

from __future__ import annotations

import copy
import gc
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from models.backend import backend_name, precision_name, seed_generators
from models.classifier import Inputs
from models.recipe import ClassWeights, Recipe, declare_class_weights
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
from models.transfer.bases import Base
from models.transfer.features import FeatureStore, InMemory, computed
from models.transfer.networks import feature_network, give_head, head_network, normalize, whole_network
from models.transfer.parameters import TransferRecipe, declare_transfer

KEPT = 3
"""How many compiled models of whole networks are kept: each holds a graph of a large network."""


class TransferModels:
    """Makes the trials' hypermodels of a base; a `models.tunable.Hypermodel`.

    Args:
        load: returns the base for what the data look like; called once.
        key: says which base that is.
        mixed: whether it may compute in half precision.

    Attributes:
        features: keeps the features of pictures.
    """

    first_range_holds = False

    def __init__(self, load: Callable[[Inputs], Base], key: str, *, mixed: bool) -> None:
        self.mixed = mixed
        self.features: FeatureStore = InMemory()
        self._load = load
        self._key = key
        self._base: Base | None = None
        self._compiled: OrderedDict[tuple[Any, ...], TrainingModel] = OrderedDict()

    def __call__(self, inputs: Inputs, **arguments: Any) -> TransferClassifier:
        """Return one trial's; the arguments are those of `ImageClassifier`."""
        return TransferClassifier(self, inputs, **arguments)

    def base(self, inputs: Inputs) -> Base:
        """Return the base, with what the training before has left in it.

        Raises:
            UnusableModel: it cannot be had, or not for such data.
        """
        if self._base is None:
            # Layers draw seeds as they are made: a trial's own draws must not depend on whether it is the first.
            drawn = random.getstate(), np.random.get_state()
            self._base = self._load(inputs)
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])
        return self._base

    def features_of(self, images: LabelledImages, inputs: Inputs) -> npt.NDArray[Any]:
        """Return the features of pictures, see `FeatureStore`."""
        base = self.base(inputs)
        base.put_back()
        key = f"{self._key}, {base.shape}, {precision_name()}, {backend_name()}"
        return self.features(images, key, lambda some: computed(feature_network(base, inputs), some))

    def compiled(self, key: tuple[Any, ...], network: keras.Model, make: Callable[[], TrainingModel]) -> TrainingModel:
        """Return the compiled model of whole networks of one kind, with the weights of this one."""
        model = self._compiled.get(key)
        if model is None:
            if len(self._compiled) == KEPT:
                self._compiled.popitem(last=False)
                gc.collect()
            model = make()
        else:
            model.take_over(network)
        self._compiled[key] = model
        self._compiled.move_to_end(key)
        return model


class TransferTraining:
    """What one trial trains: its head at first, and the whole in the end.

    Attributes:
        head: features to logits, compiled.
        tuned: pixels to logits, compiled; None until it is trained.
        network: pixels to logits, with the weights that were found; None before.
    """

    def __init__(self, head: TrainingModel) -> None:
        self.head = head
        self.tuned: TrainingModel | None = None
        self.network: keras.Model | None = None
        self._traced_before = 0

    def begin_tuning(self, model: TrainingModel) -> None:
        """Go on with the whole."""
        self.tuned, self._traced_before = model, model.steps.traces

    @property
    def stop_training(self) -> bool:
        """Whether somebody has ended the training, as of a Keras model."""
        return bool((self.tuned or self.head).stop_training)

    @stop_training.setter
    def stop_training(self, ends: bool) -> None:
        (self.tuned or self.head).stop_training = ends

    @property
    def traces(self) -> int:
        """How often steps have been traced: of the head, and of the whole in this trial."""
        tuned = 0 if self.tuned is None else self.tuned.steps.traces - self._traced_before
        return self.head.steps.traces + tuned

    @property
    def jit_compile(self) -> bool:
        """Whether XLA compiles it."""
        return bool(self.head.jit_compile)

    def get_weights(self) -> list[npt.NDArray[Any]]:
        """Return the weights of what is trained."""
        weights: list[npt.NDArray[Any]] = (self.network or self.head).get_weights()
        return weights

    def _flatten_layers(self) -> list[Any]:
        return list(self.head._flatten_layers())


class TransferClassifier:
    """Builds, trains and hands over one trial's model on a base; a `models.tunable.Tunable`.

    Args:
        maker: has the base and the features.
        inputs, extended, epochs, train_images, patience, models, class_weights, defaults, at_least, monitor: see
            `models.classifier.ImageClassifier`.
    """

    def __init__(
        self,
        maker: TransferModels,
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
        self._maker = maker
        self._inputs = inputs
        self._extended = extended
        self._epochs = epochs
        self._train_images = train_images
        self._patience = patience
        self._models = models if models is not None else CompiledModels(kept=0)
        self._class_weights = class_weights
        self._defaults = dict(defaults or {})
        self._at_least = dict(at_least or {})
        self._monitor = monitor
        self._only: Literal["head", "whole"] | None = None

    def _declared(self, hp: Any) -> TransferRecipe:
        found = declare_transfer(hp, self._defaults, self._at_least, extended=self._extended, pools=self._base.pools)
        declare_class_weights(hp, self._class_weights)
        return found

    @property
    def _base(self) -> Base:
        return self._maker.base(self._inputs)

    def build(self, hp: Any) -> TransferTraining:
        """The head, compiled: what comes first. The whole is built when its turn comes."""
        recipe = self._declared(hp)
        self._base.put_back()
        self._models.put_back()
        width = self._base.channels * (2 if recipe.pooling == "both" else 1)
        network = head_network(width, recipe.head, self._inputs.classes)
        seed = random.randrange(2**31)
        signature = signature_of(network, recipe.head, "float32")
        model = self._models.take(
            signature,
            network,
            lambda: self._compiled(head_network(width, recipe.head, self._inputs.classes), recipe.head, "float32"),
        )
        epochs = self._frozen_epochs(recipe)
        model.begin(recipe.head, steps=epochs * self._steps(recipe.head), seed=seed, class_weights=self._weights(hp))
        seed_generators(seed)
        return TransferTraining(model)

    def _compiled(self, network: keras.Model, recipe: Recipe, dtype: str) -> TrainingModel:
        augmentation = None
        if recipe.augmentation > 0.0:
            augmentation = RandomAugmentation(flips=self._inputs.flips, fill=self._inputs.mean)
        return TrainingModel(network, make_optimizer(recipe), augmentation, dtype, averaged=recipe.averaging > 0.0)

    def _steps(self, recipe: Recipe) -> int:
        return self._train_images // min(recipe.batch_size, self._train_images)

    def _weights(self, hp: Any) -> npt.NDArray[np.float32] | None:
        return declared_class_weights(hp, self._class_weights, self._inputs.class_counts)

    def untrained(self, hp: Any) -> keras.Model:
        """Pixels to logits `(batch, classes)`, as `hp` describes them, with the base as it came."""
        recipe = self._declared(hp)
        return whole_network(self._base, self._inputs, recipe.pooling, recipe.tuned)

    def untrained_classifier(self, hp: Any) -> keras.Model:
        """What `classifier` returns of the model of `hp`, with a head that knows nothing."""
        return classifier_of(self.untrained(hp))

    def classifier(self, model: TransferTraining) -> keras.Model:
        """Raw pixels to float32 probabilities `(batch, classes)`, with the weights that were found."""
        assert model.network is not None, "it was trained"
        return classifier_of(model.network)

    def weight_count(self, model: TransferTraining) -> int:
        """How many weights the whole has."""
        return model.head.weight_count + self._base.weight_count

    def traces(self, model: TransferTraining) -> int:
        """How often a training step has been traced."""
        return model.traces

    def phases(self, hp: Any) -> list[tuple[float, TransferClassifier]]:
        """The epochs in which the base is frozen, and those in which it learns."""
        share = self._declared(hp).frozen
        if share == 1.0:
            return [(1.0, self)]
        head, whole = copy.copy(self), copy.copy(self)
        head._only, whole._only = "head", "whole"
        return [(share, head), (1.0 - share, whole)]

    def _frozen_epochs(self, recipe: TransferRecipe) -> int:
        known = {"head": self._epochs, "whole": 0}
        return recipe.frozen_epochs(self._epochs) if self._only is None else known[self._only]

    def runs_whole(self) -> None:
        """Nothing: it goes on from its state, in whichever phase."""

    def notes(self) -> list[str]:
        """What is made of the pictures and of the base."""
        base = self._base
        size = "x".join(map(str, base.shape))
        kinds = "the mean and the largest value of each map" if base.pools else "what it says"
        left_off = f" without its last layer {base.left_off!r}" if base.left_off else ""
        return [f"the base{left_off} is shown pictures of {size}; {kinds}, {base.channels} numbers, are computed once"]

    def fit(
        self,
        hp: Any,
        model: TransferTraining,
        training: LabelledImages,
        validation: LabelledImages,
        *,
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        resume: TrainingState | None = None,
        keeper: StateKeeper | None = None,
    ) -> FitResult:
        """Train the head, then the whole, and leave the weights of the best epoch, see `models.tunable.Tunable`.

        The state at the end of the first phase is the last one of its head.
        """
        recipe = self._declared(hp)
        self._base.put_back()
        frozen = self._frozen_epochs(recipe)
        found: FitResult | None = None
        later = resume if resume is not None and resume.epochs > frozen else None
        if later is None and frozen > 0:
            parts = self._featured(training, recipe), self._featured(validation, recipe)
            initial = 0 if resume is None else resume.epochs
            if resume is None:
                normalize(model.head.network, np.asarray(parts[0].images))
            run = self._run(model.head, parts, recipe.head, frozen, initial, seed)
            found = run_phase(run, callbacks, keeper, resume=resume)
        network = whole_network(self._base, self._inputs, recipe.pooling, recipe.tuned)
        give_head(network, model.head.network)
        model.network = network
        if frozen == self._epochs or (found is not None and model.stop_training):
            assert found is not None, "a state is of an epoch that there is"
            return found
        tuned = self._tuned(hp, recipe, network, self._epochs - frozen, seed)
        model.begin_tuning(tuned)
        model.network = tuned.network
        initial = frozen if later is None else later.epochs
        run = self._run(tuned, (training, validation), recipe.tuned, self._epochs, initial, seed)
        return run_phase(run, callbacks, keeper, resume=later, before=found)

    def _featured(self, images: LabelledImages, recipe: TransferRecipe) -> LabelledImages:
        """The features of pictures in the place of these."""
        features = self._maker.features_of(images, self._inputs)
        kind = {"mean": 0, "max": 1}.get(recipe.pooling)
        shown = features.reshape(len(features), -1) if kind is None else features[:, kind]
        labels = np.asarray(images.labels)[images.indices]
        return LabelledImages(shown, labels, np.arange(len(labels), dtype=np.int64))

    def _run(
        self,
        model: TrainingModel,
        parts: tuple[LabelledImages, LabelledImages],
        recipe: Recipe,
        epochs: int,
        initial_epoch: int,
        seed: int,
    ) -> Training:
        constant = recipe.schedule == "constant"
        # A phase that another follows is not ended early.
        patient = constant and epochs == self._epochs
        return Training(
            model,
            *parts,
            batch_size=recipe.batch_size,
            epochs=epochs,
            patience=self._patience if patient else self._epochs,
            reduce_on_plateau=constant,
            seed=seed,
            initial_epoch=initial_epoch,
            monitor=self._monitor,
        )

    def _tuned(self, hp: Any, recipe: TransferRecipe, network: keras.Model, epochs: int, seed: int) -> TrainingModel:
        """The whole, compiled, with the weights of a network, ready for so many epochs."""
        base, tuned = self._base, recipe.tuned
        learning = max(1, round(recipe.unfrozen * len(base.layers_that_learn())))
        base.unfreeze(learning)
        given = (tuned.augmentation > 0.0, tuned.averaging > 0.0, tuned.dropout > 0.0)
        key = (recipe.pooling, learning, tuned.optimizer, *given)
        model = self._maker.compiled(key, network, lambda: self._compiled(network, tuned, self._inputs.dtype))
        base.may_change()
        # What follows is the same whether the first phase ran in this process or in another.
        own = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0] >> 1)
        model.begin(tuned, steps=epochs * self._steps(tuned), seed=own, class_weights=self._weights(hp))
        seed_generators(own)
        return model
