"""What can be built and trained: Keras and KerasTuner only. No Optuna, no database, no paths."""
