"""Optuna's dashboard, served so that it can be left open. No Keras."""
