"""Inputs without end, for what an origin may send: listings of every format, headers, whole answers."""
