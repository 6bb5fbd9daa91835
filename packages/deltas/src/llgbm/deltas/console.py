"""Command lines with subcommands, each imported only when it is called."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version

from llgbm.deltas.command import USER_ERROR, run_command


@dataclass(frozen=True)
class Subcommand:
    """One step: the module that holds a config dataclass and the function that takes it."""

    module: str
    config: str
    function: str
    summary: str


@dataclass(frozen=True)
class Console:
    """A program of subcommands.

    Attributes:
        program: its name.
        distribution: whose version `--version` prints.
        summary: what it is for, one line.
        subcommands: by name, in the order of the help.
        epilogue: last line of the help.
    """

    program: str
    distribution: str
    summary: str
    subcommands: Mapping[str, Subcommand]
    epilogue: str = ""

    def usage(self) -> str:
        """Text of `--help`."""
        width = max(map(len, self.subcommands))
        lines = [f"  {name:<{width}}  {sub.summary}" for name, sub in self.subcommands.items()]
        head = f"usage: {self.program} COMMAND [options]"
        more = f"{self.program} COMMAND --help lists a command's options."
        return "\n".join([head, "", self.summary, "", *lines, "", more, self.epilogue]).rstrip()

    def run(self, arguments: Sequence[str]) -> int:
        """Run one command line; return 0, 2 for what the user can mend, 130 on Ctrl-C."""
        if not arguments or arguments[0] in ("-h", "--help"):
            print(self.usage())
            return 0 if arguments else USER_ERROR
        name, rest = arguments[0], list(arguments[1:])
        if name == "--version":
            print(f"{self.program} {version(self.distribution)}")
            return 0
        if name not in self.subcommands:
            near = difflib.get_close_matches(name, self.subcommands, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            expected = ", ".join(self.subcommands)
            print(f"error: command: expected {expected}, got {name!r}{hint}", file=sys.stderr)
            return USER_ERROR
        subcommand = self.subcommands[name]

        def work() -> None:
            import tyro

            module = import_module(subcommand.module)
            config_type = getattr(module, subcommand.config)
            config = tyro.cli(config_type, args=rest, prog=f"{self.program} {name}")
            getattr(module, subcommand.function)(config)

        return run_command(work)
