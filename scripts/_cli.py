"""Run a script's `main`: the user's mistakes become one line, not a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

import jax
import tyro

from jaxcnn import memory, processes, programs

# Python puts a script's folder first on the path; parity.py in it would hide the package `parity`.
# It has to stay on it, behind the package's own folder, for what stands beside the script.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _HERE]
sys.path += [str(_HERE.parent), str(_HERE)]


def run(main: Callable[..., None], *, parse: bool = True) -> None:
    """Call `main` with the command line's arguments and end the process with its status.

    The process keeps the memory that it frees, and what XLA compiles is kept for later runs.

    Args:
        main: the script's function; its signature and docstring are the command line.
        parse: False where `main` takes no arguments and reads the command line itself.

    Exit status: 0, 2 for a mistake of the user's (one `error:` line on standard error), 1 for a
    training that broke off on a NaN or infinite loss or as another process was lost, 130 after
    Ctrl-C.
    """
    memory.keep_freed()
    programs.keep()
    try:
        if parse:
            tyro.cli(main)
        else:
            main()
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        processes.leave(2)
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        processes.leave(1)
    except KeyboardInterrupt:
        processes.leave(130)
    except jax.errors.JaxRuntimeError as error:
        if not processes.several():
            raise
        if "RESOURCE_EXHAUSTED" in str(error):  # its own memory, not another process
            print(f"error: {str(error).partition(chr(10))[0]}", file=sys.stderr)
            processes.leave(1)
        processes.lost(error)
