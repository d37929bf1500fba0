"""Command line, terminal output and progress."""
