"""Data sets: where the official files are found, how they are read, and how a study splits them. No Keras."""
