"""Data-parallel training on Ray Train."""
