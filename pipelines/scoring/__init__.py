"""Batch scoring on Ray Data, each row exactly once."""
