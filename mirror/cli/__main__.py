"""``python -m mirror.cli``: the ``mirror`` command of this very interpreter, wherever its script is."""

from mirror.cli.start import main

if __name__ == "__main__":
    main()
