"""Entry point of the worker process: ``python -m mirror.worker``, started by the keeper only."""

from mirror.worker.main import main

if __name__ == "__main__":
    main()
