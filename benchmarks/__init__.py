"""Benchmarks of the model, its training and its input: `python -m benchmarks.NAME`. Imported by nothing."""
