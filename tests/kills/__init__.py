"""Processes that share a cache, killed at random."""
