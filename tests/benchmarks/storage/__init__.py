"""How much of a processor it takes to read and write studies, beside stock Optuna."""
