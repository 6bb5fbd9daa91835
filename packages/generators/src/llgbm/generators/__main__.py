"""`python -m llgbm.generators`: the command `llgbm`."""

from llgbm.generators.cli import main

main()
