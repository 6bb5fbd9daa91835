"""What every command line does with an error: one line, and an exit code that says whose fault."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from llgbm.deltas.errors import LLGBMError

USER_ERROR, INTERRUPTED = 2, 130


def run_command(function: Callable[[], object]) -> int:
    """Call `function` and return the exit code of the process.

    0 when it ends well, 2 with one line on what the user can mend, 130 on Ctrl-C. Everything
    else is a bug of ours and keeps its traceback.
    """
    try:
        function()
        sys.stdout.flush()
    except LLGBMError as error:
        return _say(f"error: {error}", USER_ERROR)
    except KeyboardInterrupt:
        return _say("interrupted: run the same command again to go on", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (`| head`) has had enough: keep the interpreter from
        # complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = error.filename or "a file"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _say(
                f"error: disk full while writing {where}: "
                "free some space and run the same command again",
                USER_ERROR,
            )
        if error.filename is None or error.errno is None:
            raise
        return _say(f"error: {where}: {os.strerror(error.errno)}", USER_ERROR)
    return 0


def _say(message: str, code: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return code
