"""Public labelled corpora, downloaded and checked."""
