"""Small helpers around the contract. Yours to change."""

import functools
import traceback

from componentize_py_types import Err
from wit_world.imports import log as _log
from wit_world.imports.types import Fault


def log(level: str, message: str) -> None:
    """A line for the operator. `level` is debug, info, warn or error."""
    _log.emit(_log.Level[level.upper()], message)


def fault(code: str, message: str) -> Err:
    """Ends the call with a fault: raise what this returns. `code` is kebab-case."""
    return Err(Fault(code, message, False, None))


def refused(error: Err) -> Err:
    """What the host refused, as a fault: `except Err as error: raise refused(error)`."""
    refusal = error.value
    return fault("refused", f"{refusal.capability} {refusal.subject!r}: {refusal.reason}")


def guarded(call):
    """Tells the host the text of an unexpected exception before the call ends with it.

    Without this the host only sees a trap: there is no console in a plugin.
    """

    @functools.wraps(call)
    def inner(*args):
        try:
            return call(*args)
        except Err:
            raise
        except Exception:
            _log.panicked(traceback.format_exc())
            raise

    return inner
