"""Manifests: a folder of tests, for there are many ways to write a list."""
