"""What to tune: specs, the catalog, data sets and strategies. Importable in milliseconds, without Keras."""
