"""Command lines with subcommands, each imported only when it is called."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from typing import TypeVar

from llgbm.deltas.command import USER_ERROR, run_command
from llgbm.deltas.errors import SettingError

T = TypeVar("T")
# Corners of the parser's boxes, and how its parts begin that say nothing of the mistake.
TOP, BOTTOM = "\u256d", "\u2570"
ADVICE = ("For full helptext", "Argument helptext")


def parse(config_type: type[T], arguments: Sequence[str], program: str) -> T:
    """Make a config of a command line; what does not parse is one line, not a box of many.

    Raises:
        SettingError: options that do not fit.
        SystemExit: after `--help`.
    """
    import tyro

    said = StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(config_type, args=list(arguments), prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise SettingError(f"{_gist(said.getvalue())} ({program} --help lists all)") from None


def _gist(text: str) -> str:
    """What a parser's message says between its title and its advice."""
    lines = text.splitlines()
    boxed = any(line.startswith(TOP) for line in lines)
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.startswith((TOP, BOTTOM)):
            continue  # a box has its title in the upper border
        words = line.strip(" \u2502")
        if words and not words.strip("-\u2500"):
            parts.append([])
        elif words:
            parts[-1].append(words)
    said = [" ".join(part) for part in parts if part]
    # Without a box, as where output is ASCII, the title is the first part.
    told = [part for part in said[0 if boxed else 1 :] if not part.startswith(ADVICE)]
    return "; ".join(told) or " ".join(said)


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
        subcommands: by name, in the order of the help; a program of its own among them takes all
            words after its name.
        epilogue: last line of the help.
    """

    program: str
    distribution: str
    summary: str
    subcommands: Mapping[str, Subcommand | Console]
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
        if isinstance(subcommand, Console):
            return subcommand.run(rest)

        def work() -> None:
            module = import_module(subcommand.module)
            config_type = getattr(module, subcommand.config)
            config = parse(config_type, rest, f"{self.program} {name}")
            getattr(module, subcommand.function)(config)

        return run_command(work)
