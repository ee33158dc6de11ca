"""Hypermodels that know nothing of this project: functions `build(hp)` and KerasTuner's own, as they are."""
