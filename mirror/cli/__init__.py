"""The command line: reads what was asked, checks it early, and calls the parts that do it.

Modules here hold one command each and stay thin; `main` turns every failure into one line and an
exit code. Nothing heavy is imported before a command needs it, so that ``mirror --help`` is quick.
"""
