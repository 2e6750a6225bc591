"""Recorded opens, and what cache policies make of them. README.md says how they were recorded."""
