"""Object stores as trees: what buckets and containers have in common.

place   what a source string means: ``SCHEME://NAME/PREFIX/``
keys    names of objects, as files and folders
store   the few questions that a kind of store is asked
remote  the protocol of `mirror.remotes.base`, over these questions
"""
