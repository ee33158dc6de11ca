"""The later phases of a study: what follows its search, and how long that takes."""
