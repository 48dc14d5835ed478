"""The one exception for input that a person can mend: its text says what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class TacitError(ValueError):
    """Bad input. The command line prints the text as one line and exits with status 1, never with a traceback."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> TacitError:
    """The error for a name that does not exist, with the nearest one that does."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(valid)}"
    return TacitError(f"unknown {kind} {name!r}; {hint}")
