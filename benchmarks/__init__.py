"""Benchmarks, one command each: python -m benchmarks.NAME. Results: docs/benchmarks.md."""
