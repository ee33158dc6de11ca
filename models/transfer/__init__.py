"""Trained models, of which other classes are learned: kept as they are at first, then trained a little."""
