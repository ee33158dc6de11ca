"""By hand: import Keras, build and trace the network, train one step, and say when that was done."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.benchmarks.throughput.peer_network import compiled
from tests.benchmarks.throughput.task import Folder


def main(folder: Folder) -> None:
    """Train one step of the first configuration; print the time of its end, in seconds since 1970."""
    configuration = folder.task.configurations[0]
    batch_size = int(configuration["batch_size"])
    images, labels = (part[:batch_size] for part in folder.part("training"))
    model = compiled(folder.task, images.shape[1:], configuration, steps=1)
    model.fit(images, labels, batch_size=batch_size, epochs=1, verbose=0)
    print(time.time(), flush=True)


if __name__ == "__main__":
    main(Folder(Path(sys.argv[1])))
