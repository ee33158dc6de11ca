"""Devices, memory, compile caches: what this computer has."""
