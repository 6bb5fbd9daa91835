"""`python -m llgbm.bench`: the command `llgbm-bench`."""

from llgbm.bench.cli import main

main()
