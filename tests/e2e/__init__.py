"""Real mounts over real servers; each promise of `docs/semantics.md` has a test of the same name here."""
