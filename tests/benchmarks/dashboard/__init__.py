"""What the dashboard costs, beside Optuna's own on the same databases."""
