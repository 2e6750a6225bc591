"""A caching mirror of remote files, mounted read-only."""
