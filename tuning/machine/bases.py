"""Trained models to begin with, as the command line names them and as a study records them: where their files are.

Nothing is downloaded: what is not here is said with the place where it is looked for. No Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.errors import BadInput, unknown_name
from storage.files import sha256_of
from storage.prepared.bases import (
    APPLICATIONS_PREFIX,
    DIGITS,
    application_in,
    digits_of,
    find_base,
    is_base,
    keep_base,
    recorded_as,
)
from storage.settings import Home
from tuning.keras_settings import keras_folder

_USUAL = "weights_tf_dim_ordering_tf_kernels"

PUBLISHED = {
    **{f"ConvNeXt{size}": f"convnext_{size.lower()}_notop.h5" for size in ("Base", "Large", "Small", "Tiny", "XLarge")},
    **{f"DenseNet{depth}": f"densenet{depth}_{_USUAL}_notop.h5" for depth in (121, 169, 201)},
    **{f"EfficientNetB{number}": f"efficientnetb{number}_notop.h5" for number in range(8)},
    **{f"EfficientNetV2{size}": f"efficientnetv2-{size.lower()}_notop.h5" for size in ("B0", "B1", "B2", "B3", *"LMS")},
    "InceptionResNetV2": f"inception_resnet_v2_{_USUAL}_notop.h5",
    "InceptionV3": f"inception_v3_{_USUAL}_notop.h5",
    "MobileNet": "mobilenet_1_0_224_tf_no_top.h5",
    "MobileNetV2": f"mobilenet_v2_{_USUAL}_1.0_224_no_top.h5",
    "MobileNetV3Large": "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
    "MobileNetV3Small": "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    "NASNetLarge": "nasnet_large_no_top.h5",
    "NASNetMobile": "nasnet_mobile_no_top.h5",
    **{f"ResNet{depth}": f"resnet{depth}_{_USUAL}_notop.h5" for depth in (50, 101, 152)},
    **{f"ResNet{depth}V2": f"resnet{depth}v2_{_USUAL}_notop.h5" for depth in (50, 101, 152)},
    "VGG16": f"vgg16_{_USUAL}_notop.h5",
    "VGG19": f"vgg19_{_USUAL}_notop.h5",
    "Xception": f"xception_{_USUAL}_notop.h5",
}
"""The models of `keras.applications`, and what Keras calls the file of their published weights in its cache."""


@dataclass(frozen=True)
class BaseFile:
    """The file of a base.

    Attributes:
        name: of the base, as a study records it.
        path: the file.
        checksum: its SHA-256.
    """

    name: str
    path: Path
    checksum: str

    @property
    def published(self) -> bool:
        """Whether it is called as the weights are that Keras would fetch."""
        application = application_in(self.name)
        return application is not None and self.path.name == PUBLISHED[application]

    def keep(self, home: Home) -> None:
        """Keep it where every worker finds it.

        Raises:
            BadInput: it cannot be copied.
        """
        keep_base(home, self.path, self.checksum)


def base_meant(model: str, weights: Path | None, home: Home, environ: Mapping[str, str]) -> BaseFile | None:
    """Return the base that a model given on the command line is; None where it is none.

    Args:
        model: as given, or as a study records it.
        weights: a file with the weights, as given.
        home: where those of studies are kept.
        environ: says where Keras's cache is.

    Raises:
        BadInput: there is no such base, or no file with its weights.
    """
    if not is_base(model):
        if weights is not None:
            raise BadInput(
                f"--base-weights {weights}: is for a model of keras.applications, not for {model}. Leave it out (make:"
                " BASE_WEIGHTS=), or give --model keras.applications:NAME."
            )
        return None
    application = _known_application(model)
    if digits_of(model) and not Path(model).expanduser().is_file():
        if weights is None:
            return recorded_file(model, home, environ)
        if application is not None:
            return _as_recorded(model, weights.expanduser())
    if application is None:
        return _saved(model, weights)
    file = weights.expanduser() if weights is not None else _cached(application, environ)
    if not file.is_file():
        raise BadInput(_missing(application, file, given=weights is not None))
    checksum = sha256_of(file)
    return BaseFile(recorded_as(APPLICATIONS_PREFIX + application, checksum), file.resolve(), checksum)


def recorded_file(name: str, home: Home, environ: Mapping[str, str]) -> BaseFile:
    """Return the file of a base that a study records, from the home or from Keras's cache.

    Raises:
        BadInput: it is in neither, or there is no such base.
    """
    application, digits = _known_application(name), digits_of(name)
    found = find_base(home, digits) if len(digits) == DIGITS else None
    if found is None and application is not None:
        cached = _cached(application, environ)
        found = cached if cached.is_file() and sha256_of(cached)[:DIGITS] == digits else None
    if found is None:
        place = home.bases_folder
        raise BadInput(
            f"the study begins with {name}, and no file here has a SHA-256 that begins with {digits}. Copy"
            f" {place}/{digits}... to this place from the machine where the study was begun."
        )
    return BaseFile(name, found, sha256_of(found))


def _known_application(model: str) -> str | None:
    application = application_in(model)
    if application is not None and application not in PUBLISHED:
        raise unknown_name("model of keras.applications", application, PUBLISHED)
    return application


def _as_recorded(name: str, weights: Path) -> BaseFile:
    """The file that is given for a base that a study records."""
    if not weights.is_file():
        raise BadInput(f"--base-weights: there is no file {weights.resolve()}. Give the one of {name}.")
    checksum = sha256_of(weights)
    if checksum[:DIGITS] != digits_of(name):
        raise BadInput(
            f"--base-weights {weights}: its SHA-256 begins with {checksum[:DIGITS]}, and the study begins with {name}."
            " Give the file that it was begun with."
        )
    return BaseFile(name, weights.resolve(), checksum)


def _saved(model: str, weights: Path | None) -> BaseFile:
    file = Path(model).expanduser()
    if weights is not None:
        raise BadInput(f"--base-weights {weights}: {model} has its weights in it. Leave one of them out.")
    if not file.is_file():
        raise BadInput(f"model {model!r}: there is no file {file.resolve()}. Give that of a model.")
    checksum = sha256_of(file)
    return BaseFile(recorded_as(file.name, checksum), file.resolve(), checksum)


def _cached(application: str, environ: Mapping[str, str]) -> Path:
    return keras_folder(environ) / "models" / PUBLISHED[application]


def _missing(application: str, file: Path, *, given: bool) -> str:
    if given:
        return f"--base-weights: there is no file {file.resolve()}. Give one with the weights of {application}."
    fetch = f'python -c "import keras; keras.applications.{application}(include_top=False)"'
    return (
        f"the weights of {application} are not at {file}, and nothing is downloaded. Where there is a network, {fetch}"
        " fetches them: copy the file there, or give it with --base-weights (make: BASE_WEIGHTS=)."
    )
