"""An Optuna objective of the user's in worker processes. Never imports Keras."""
