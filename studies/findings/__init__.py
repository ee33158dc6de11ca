"""What a study tells once it has run: which hyperparameters decide, what it spent, what it was spared."""
