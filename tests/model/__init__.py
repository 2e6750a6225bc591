"""Random sequences of operations, compared with a reference that is small enough to be obviously right."""
