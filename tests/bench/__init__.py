"""`make bench`: what a mount costs and gives, as ratios within one run (see `docs/bench.md`)."""
