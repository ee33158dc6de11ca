"""The study that suits data of somebody's own: model, epochs, batch sizes and augmentation, by rules that are printed.

The rules follow the catalog's plans, which were measured: a trial on a CPU shows about as many pixels as one of cifar10
does (45,000 pictures of 32x32 pixels, 8 times), few pictures are shown more often, and the fewer there are, the more
they are changed at random while training.
"""

from __future__ import annotations

import numpy as np

from storage.errors import BadInput
from studies.datasets.info import OwnDataset
from studies.datasets.prepared import PreparedDataset
from studies.datasets.splits import Indices, stratified_split
from studies.declaration import Declaration
from studies.spec import Images, ParameterRange, Plan, Scalar

TEST_SHARE = VALIDATION_SHARE = 0.15
MOST_TEST_IMAGES, MOST_VALIDATION_IMAGES = 10_000, 5_000

_SMALL_SIDE = 32
_CPU_PIXELS = 360_000 * 32 * 32
_GPU_PIXELS = 20 * _CPU_PIXELS
_CPU_EPOCHS, _GPU_EPOCHS = (6, 30), (10, 60)
# The winner is trained for so many times as long as a trial.
_LONGER = 2
_BATCH_SIZES = (8, 16, 32, 64, 128, 256)
# An epoch of fewer steps says little; one of more takes long for what it says.
_LEAST_STEPS = 16
# Up to so many training pictures, augmentation has this strength.
_AUGMENTATION = ((2_000, 0.5), (20_000, 0.4))
_AUGMENTATION_OF_MANY = 0.3


def with_parts(plan: Plan, info: OwnDataset) -> Plan:
    """Return a plan that says how many pictures are held out to validate on and, where the data bring none, to test on.

    Where it does not say so itself, it is 15% each of what there is, at most 5,000 and 10,000, and at least one picture
    of each class.

    Raises:
        BadInput: it says so of a part that the data bring.
    """
    classes, images = len(info.class_names), info.images("train")
    test, validation = plan.test_images, plan.validation_images
    if test is not None and info.has_test:
        raise BadInput(f"test_images = {test}: {info.name} brings {info.images('test')} test pictures. Leave it out.")
    if validation is not None and info.given_validation not in (0, validation):
        raise BadInput(
            f"validation_images = {validation}: {info.name} brings {info.given_validation} to validate on."
            " Leave it out."
        )
    if not info.has_test:
        test = test or max(classes, min(MOST_TEST_IMAGES, round(TEST_SHARE * images)))
    left = images - (test or 0)
    by_rule = max(classes, min(MOST_VALIDATION_IMAGES, round(VALIDATION_SHARE * left)))
    return plan.model_copy(
        update={"test_images": test, "validation_images": info.given_validation or validation or by_rule}
    )


def held_out_to_test(dataset: PreparedDataset) -> Indices:
    """Return the rows of the training split that a study with the seed 0 tests on; none where a test split is there."""
    info = dataset.info
    if not isinstance(info, OwnDataset) or info.has_test:
        return np.zeros(0, dtype=np.int64)
    plan = with_parts(Plan(trials=1, epochs=1), info)
    assert plan.validation_images is not None and plan.test_images is not None
    split = stratified_split(
        dataset.train_labels,
        validation_images=plan.validation_images,
        train_images=None,
        seed=0,
        test_images=plan.test_images,
        given_validation=info.given_validation,
        least=1,
    )
    assert split.test is not None
    return split.test


def suited(info: OwnDataset, images: Images) -> Declaration:
    """Return the study that suits the data, where only the data were given.

    Args:
        info: what they are.
        images: the form that pictures were given.
    """
    learned_from = _learned_from(info)
    cpu_model, gpu_model = ("cnn", None) if not _is_large(info) else ("deep_cnn", "resnet")
    cpu_epochs = _epochs(info, learned_from, _CPU_PIXELS, _CPU_EPOCHS)
    gpu_epochs = _epochs(info, learned_from, _GPU_PIXELS, _GPU_EPOCHS)
    sizes = batch_sizes(learned_from)
    defaults: dict[str, Scalar] = {"augmentation": _augmentation(learned_from)} if info.is_picture else {}
    return Declaration(
        dataset=info.reference,
        images=images,
        model=cpu_model,
        parameters={"batch_size": ParameterRange(choices=sizes, default=_middle(sizes))},
        defaults=defaults,
        precision="auto",
        plan={
            "cpu": Plan(
                trials=24, epochs=cpu_epochs, patience=max(3, cpu_epochs // 3), refit_epochs=_LONGER * cpu_epochs
            ),
            "gpu": Plan(
                trials=50,
                epochs=gpu_epochs,
                patience=max(5, gpu_epochs // 4),
                model=gpu_model,
                refit_epochs=_LONGER * gpu_epochs,
            ),
        },
    )


def reasons(info: OwnDataset, declaration: Declaration) -> list[str]:
    """Return the lines that say why a study was made as `suited` makes it."""
    size = "x".join(map(str, info.shape))
    learned_from = _learned_from(info)
    large = "large or coloured pictures" if _is_large(info) else "small grey pictures"
    said = [f"{declaration.model} for {large} ({size})" if info.is_picture else f"arrays of {size}"]
    sizes = declaration.parameters["batch_size"].choices or ()
    said.append(f"batches of {' or '.join(map(str, sizes))} for {learned_from:,} training pictures")
    if "augmentation" in declaration.defaults:
        mirrored = "mirrored too" if info.natural_images else "never mirrored"
        said.append(f"augmentation {declaration.defaults['augmentation']:g}, {mirrored}")
    return said


def batch_sizes(images: int) -> tuple[int, ...]:
    """Return the batch sizes that are searched with so many training pictures: those of at least 16 steps an epoch."""
    fitting = [size for size in _BATCH_SIZES if images // size >= _LEAST_STEPS]
    # Of many pictures, small batches only take longer.
    return tuple(fitting[-4:]) or (_BATCH_SIZES[0],)


def _learned_from(info: OwnDataset) -> int:
    held_out = with_parts(Plan(trials=1, epochs=1), info)
    return info.images("train") - (held_out.test_images or 0) - (held_out.validation_images or 0)


def _middle(sizes: tuple[int, ...]) -> int:
    return sizes[min(1, len(sizes) - 1)]


def _is_large(info: OwnDataset) -> bool:
    return info.is_picture and (info.shape[2] == 3 or min(info.shape[:2]) > _SMALL_SIDE)


def _epochs(info: OwnDataset, images: int, pixels: int, bounds: tuple[int, int]) -> int:
    side = info.shape[0] * info.shape[1] if info.is_picture else _SMALL_SIDE**2
    least, most = bounds
    return max(least, min(most, pixels // (max(1, images) * side)))


def _augmentation(images: int) -> float:
    return next((strength for most, strength in _AUGMENTATION if images <= most), _AUGMENTATION_OF_MANY)
