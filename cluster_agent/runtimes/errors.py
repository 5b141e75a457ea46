"""Why a runtime could not do what it was asked."""

from __future__ import annotations


class RuntimeFailureError(Exception):
    """The base of the runtimes' errors."""


class StartError(RuntimeFailureError):
    """A worker could not start. The text is one line for people; `detail` are the worker's own last words.

    `no_room`: there is no place for another one just now, which is no fault of the step. `final`: here another one
    would fail in the same way.
    """

    def __init__(self, message: str, detail: str = "", *, no_room: bool = False, final: bool = False) -> None:
        super().__init__(message)
        self.detail = detail
        self.no_room = no_room
        self.final = final


class TemplateError(RuntimeFailureError):
    """A command's argument names a port or parameter in a way that can't be filled in."""
