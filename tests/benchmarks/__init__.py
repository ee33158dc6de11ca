"""Measurements, started by hand: nothing here is collected as a test."""
