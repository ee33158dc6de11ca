"""Running trials: the command line, the launcher, the workers, and what is done with their results."""
