"""The unprivileged process behind a mount."""
