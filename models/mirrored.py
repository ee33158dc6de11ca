"""A classifier that looks at a picture and at its mirror image, and says the mean of both."""

from __future__ import annotations

import keras
from keras import layers, ops


def mirrored(classifier: keras.Model) -> keras.Model:
    """Return a classifier that says the mean of the probabilities of a picture and of its mirror image.

    Training mirrors pictures at random, and what a network says of both is still not quite the same: the mean is right
    more often (arXiv:2404.00498, section 3.5), for twice the time. Keras's own layers and operations only: saved as
    `.keras`, it loads where this project is unknown if the classifier does.

    Args:
        classifier: raw pixels `(batch, height, width, channels)` to float32 probabilities `(batch, classes)`; it is
            shared, not copied.
    """
    pixels = keras.Input(classifier.input_shape[1:], dtype=classifier.inputs[0].dtype, name="pixels")
    both = [classifier(pixels), classifier(ops.flip(pixels, axis=2))]
    probabilities = layers.Average(dtype="float32", name="mean_probabilities")(both)
    return keras.Model(pixels, probabilities, name="mirrored")
