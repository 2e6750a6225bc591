"""Remotes: pure parts by themselves, the whole against real servers and one that misbehaves."""
