"""Parameters, items of loops, what steps make, and what a workflow decides on them: text for `when`, judged when it is
submitted, or when the value is there.

    with when(param > 3):          each step used in the block has  when: "param.NAME > 3"
    with when(data.value > 3):     each step used in the block has  when: "{STEP.PORT} > 3"
    with each(city=cities) as c:   each step used in the block has  for_each: {city: …}, and c is {item.city}

A `Symbol` has no value while the workflow is built, so comparing it gives a `Condition`, which Python itself can't
decide on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from bdw_fed.dsl.errors import BuildError

Items = Mapping[str, Any]  # of a loop: what `for_each` says, by name


class _Undecided:
    """What Python would have to know now, and can't."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _unknown(self, *_: object) -> NoReturn:
        raise BuildError(
            f"the workflow decides on {self.text}, which has no value yet; write `with when(...):` around the steps, "
            "or say the argument while the workflow is built: WORKFLOW.of(NAME=...)"
        )

    __bool__ = __iter__ = __len__ = __index__ = _unknown
    __hash__ = object.__hash__


class Condition(_Undecided):
    """A comparison, or several of them: `&`, `|` and `~` put them together."""

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"({self.text}) and ({other.text})")

    def __or__(self, other: Condition) -> Condition:
        return Condition(f"({self.text}) or ({other.text})")

    def __invert__(self) -> Condition:
        return Condition(f"not ({self.text})")


class Symbol(_Undecided):
    """A parameter of the workflow, or an item of a loop: `param.top`, `item.city`."""

    def __str__(self) -> str:
        return f"{{{self.text}}}"

    def __format__(self, form: str) -> str:
        if form:
            raise BuildError(f"{self.text} has no value yet, so it can't be written as {form!r}; leave the format out")
        return str(self)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared("==", other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared("!=", other)

    def __lt__(self, other: object) -> Condition:
        return self._compared("<", other)

    def __le__(self, other: object) -> Condition:
        return self._compared("<=", other)

    def __gt__(self, other: object) -> Condition:
        return self._compared(">", other)

    def __ge__(self, other: object) -> Condition:
        return self._compared(">=", other)

    __hash__ = object.__hash__

    def is_in(self, values: list[Any]) -> Condition:
        """Whether it is one of these."""
        return self._compared("in", values)

    def _compared(self, how: str, other: object) -> Condition:
        if isinstance(other, Symbol):
            return Condition(f"{self.text} {how} {other.text}")
        if isinstance(other, str | int | float | bool | list):
            return Condition(f"{self.text} {how} {other!r}")
        raise BuildError(f"{self.text} is compared with a {type(other).__name__}; only text, numbers and lists can be")


class MadeValue(Symbol):
    """What a step makes, `data.value`; it is named in braces in conditions, too."""

    def __str__(self) -> str:
        return self.text


@contextmanager
def when(condition: Condition) -> Iterator[None]:
    """Steps that are used in the block are executed where the condition holds, and skipped elsewhere."""
    if not isinstance(condition, Condition):
        raise BuildError(
            f"when takes a comparison of parameters, or of the .value of a step, not {condition!r}: "
            "what is known already, Python's own if decides"
        )
    with _building("when").within(condition.text, {}):
        yield


@contextmanager
def each(**items: Any) -> Iterator[Any]:
    """Steps that are used in the block are repeated for each item, or combination of items.

    Items are a list, a `range`, or a parameter that is a list. Gives what stands for the item; of several a tuple.
    """
    if not items:
        raise BuildError('each takes what to repeat for: with each(city=["ny", "la"]) as city:')
    symbols = tuple(Symbol(f"item.{name}") for name in items)
    with _building("each").within("", {name: _items(name, values) for name, values in items.items()}):
        yield symbols[0] if len(symbols) == 1 else symbols


def _items(name: str, values: Any) -> Any:
    if isinstance(values, Symbol):
        return {"from": values.text}
    if isinstance(values, range):
        if not values:
            raise BuildError(f"the loop over {name} has no items")
        return {"sequence": {"from": values[0], "to": values[-1], "step": values.step}}
    if isinstance(values, list | tuple):
        return list(values)
    raise BuildError(f"{name} is repeated for a {type(values).__name__}; expected a list, a range or a parameter")


def both(first: str, second: str) -> str:
    """Two conditions that must hold; empty: there is none."""
    return f"({first}) and ({second})" if first and second else first or second


def _building(word: str) -> Any:
    from bdw_fed.dsl import recording

    building = recording.current()
    if building is None:
        raise BuildError(f"{word} means something only in the function of a workflow")
    return building
