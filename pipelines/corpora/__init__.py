"""Public corpora of labelled tweets: download, check, convert, record."""
