"""The programs, `python -m pipelines.NAME`: thin over `sentiment` and Ray."""
