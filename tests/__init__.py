"""The test suite; it mirrors the layout of the project (see `CONTRIBUTING.md`)."""
