"""Searches without training: a virtual clock over recorded learning curves."""
