"""Paths to shards to rows: listing, CSV, Parquet, labelled rows."""
