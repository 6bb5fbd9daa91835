"""`python -m llgbm.latentwire`: the command `llgbm-latentwire`."""

from llgbm.latentwire.cli import main

main()
