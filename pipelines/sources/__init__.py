"""Paths to shards to rows: listing, CSV and Parquet readers, labelled rows, the split."""
