"""``python -m reid_tracker`` is the command line too (`torchrun -m reid_tracker train ...`)."""

from reid_tracker.cli import main

if __name__ == "__main__":
    main()
