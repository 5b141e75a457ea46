"""The error that a single wrong value raises while a model is built.

Validators raise it with words meant for the author of the file; the loader adds file, line and field to it.
"""

from __future__ import annotations


class WrongValue(ValueError):
    """A value is not what its field takes. `message` says what was expected, `remedy` what to do.

    `at` is the path below the value under test, where the fault lies deeper than the validator that found it.
    """

    def __init__(self, message: str, remedy: str = "", at: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.at = at
