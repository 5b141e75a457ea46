"""What a use is repeated for: the items of each name in `for_each`, and the combinations of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, product
from typing import Final

from topology.errors import WrongValue
from workflow.model import Items, Parameter, Scalar, Value

MOST_ITEMS: Final = 500  # of one loop; a run has no more steps either, see unfold


def items_of(items: Items, parameters: Mapping[str, Value]) -> tuple[Scalar, ...]:
    """The items, with the workflow's parameters as they hold. Raises `WrongValue` if there are too many, or none."""
    found: tuple[Scalar, ...]
    if items.sequence is not None:
        run = items.sequence
        numbers = range(run.start, run.to + (1 if run.step > 0 else -1), run.step)
        found = tuple(islice(numbers, MOST_ITEMS + 1))
    elif items.source is not None:
        given = parameters[items.parameter]
        if not isinstance(given, tuple):
            raise WrongValue(f"{items.source} is not a list", "give it type: array")
        found = given
    else:
        found = tuple(value for value in items.values or () if not isinstance(value, tuple))
    if len(found) > MOST_ITEMS:
        raise WrongValue(f"has more than {MOST_ITEMS} items", "let a step read them from a file, as units")
    return found


def known_items(items: Items, declared: Mapping[str, Parameter]) -> tuple[Scalar, ...] | None:
    """The items as far as they are known before any parameter is given: None if they are not."""
    defaults = {name: each.default for name, each in declared.items() if each.default is not None}
    if items.source is not None and items.parameter not in defaults:
        return None
    return items_of(items, defaults)


def combinations(loops: Mapping[str, Items], parameters: Mapping[str, Value]) -> list[dict[str, Scalar]]:
    """Every combination of the items, the last name's running fastest. Raises `WrongValue` as `items_of` does."""
    items = [items_of(each, parameters) for each in loops.values()]
    found = list(islice(product(*items), MOST_ITEMS + 1))
    if len(found) > MOST_ITEMS:
        raise WrongValue(f"makes more than {MOST_ITEMS} combinations", "let a step read them from a file, as units")
    return [dict(zip(loops, combination, strict=True)) for combination in found]
