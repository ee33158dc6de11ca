"""What would fail in every trial fails here, once, before the first: the space at its extremes, the largest model."""
