"""The keeper on real mounts, with a worker of its own."""
