"""Metrics of a checkpoint on labelled texts."""
