"""Studies whose trials a function of the user's runs: an Optuna objective, or a model of KerasTuner's. No Keras.

Such a study has no spec. Its trials are claimed and counted as all are, and what is tried is said by an Optuna sampler.
"""
