"""A folder has the classes, labels and order of files for us that it has for Keras."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.datasets.own.listing import list_folder
from tests.picture_folders import encoded, picture, write

PNG = encoded(picture("RGB", (3, 3), 0), "PNG")
# Letters on both sides of the slash by code point, capitals, digits, and other scripts.
NAMES = st.text(st.sampled_from("aB1 -_é猫"), min_size=1, max_size=3)


@pytest.mark.keras
@settings(max_examples=15)
@given(
    classes=st.lists(NAMES, min_size=2, max_size=5, unique=True),
    files=st.lists(st.tuples(st.lists(NAMES, max_size=2), NAMES), min_size=3, max_size=8, unique_by=str),
    hidden=st.booleans(),
)
def test_classes_labels_and_order_are_those_of_keras(
    tmp_path_factory: pytest.TempPathFactory,
    classes: list[str],
    files: list[tuple[list[str], str]],
    hidden: bool,
) -> None:
    import keras

    root = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(classes):
        for folders, file in files[: max(3, len(files) - number)]:
            write(os.path.join(root, name, *folders, f"{file}.{'png' if number % 2 else 'PNG'}"), PNG)
    if hidden:
        write(root / ".hidden" / "a.png", PNG)
        write(root / classes[0] / "notes.txt", b"words")
    listing = list_folder(root)
    theirs = keras.utils.image_dataset_from_directory(
        root, shuffle=False, batch_size=None, image_size=(3, 3), follow_links=True, verbose=False
    )
    assert list(listing.class_names) == theirs.class_names
    assert [str(root / file.path) for file in listing.parts["train"]] == [str(Path(path)) for path in theirs.file_paths]
    assert [file.label for file in listing.parts["train"]] == [int(label) for _, label in theirs]
