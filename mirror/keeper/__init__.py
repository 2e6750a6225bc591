"""The keeper: holds what must be privileged and must not die, the mount and its backing files."""
