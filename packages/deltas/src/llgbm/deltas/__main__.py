"""`python -m llgbm.deltas`, for launchers that start modules."""

from llgbm.deltas.cli import main

if __name__ == "__main__":
    main()
