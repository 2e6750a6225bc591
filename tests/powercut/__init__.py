"""Power cuts, simulated: what was recorded of a cache is cut anywhere, and opened again."""
