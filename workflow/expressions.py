"""Conditions in workflows: `param.mode == 'full' and item.year > 2000`.

The syntax is Python's, cut down to what a condition needs: names, constants, comparisons, `and`, `or`, `not`, `in` and
arithmetic. `compiled` turns text into a `Condition`, which knows the names that it reads; `Condition.check` finds
unknown names and types that can't go together before anything runs, and `Condition.holds` evaluates. What is allowed is
decided here; simpleeval executes it (decision 38). A condition has a bounded length and no loops, calls, powers or
repetition of text, so that its time and space are bounded by its length and the values that it is given.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from simpleeval import EvalWithCompoundTypes

from topology.errors import WrongValue
from topology.nearest import did_you_mean
from workflow.model import ParameterType, Value

MOST_CHARACTERS: Final = 1000
MOST_DEPTH: Final = 50

Kind = ParameterType | Literal["any"]  # any: known only once there is a value
Scope = Mapping[str, Mapping[str, Kind]]  # "param" → its names → their types
Values = Mapping[str, Mapping[str, Value]]

_COMPARED: Final = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
_ORDERED: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_COMPUTED: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_NUMBERS: Final = ("integer", "number")
_WORDS: Final[Mapping[Kind, str]] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "any": "a value",
}
_EXAMPLE: Final = "write it like param.mode == 'full' and param.days > 3"


@dataclass(frozen=True)
class Name:
    """A name that a condition reads, `group.name`, and the character at which it stands (1 is the first)."""

    group: str
    name: str
    at: int

    def __str__(self) -> str:
        return f"{self.group}.{self.name}"


@dataclass(frozen=True)
class Condition:
    """A condition that was understood."""

    text: str
    names: tuple[Name, ...]
    tree: ast.expr

    def check(self, scope: Scope) -> None:
        """Raises `WrongValue` for a name that is not in the scope, and for types that can't go together."""
        for name in self.names:
            _known(name, scope)
        kind = _kind(self.tree, scope)
        if kind not in ("boolean", "any"):
            raise _wrong(self.tree, f"it is {_WORDS[kind]}, but expected true or false", "compare it with something")

    def holds(self, values: Values) -> bool:
        """Whether the condition holds for these values. Raises `WrongValue` where it can't be said."""
        for name in self.names:
            _known(name, values)
        evaluator = EvalWithCompoundTypes(functions={}, names={group: dict(named) for group, named in values.items()})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = evaluator.eval(self.text, previously_parsed=self.tree)
        except Exception as error:
            raise WrongValue(f"{_shortened(self.text)} can't be evaluated: {error}", _EXAMPLE) from None
        if not isinstance(result, bool):
            raise WrongValue(f"{_shortened(self.text)} is {result!r:.60}, but expected true or false", _EXAMPLE)
        return result


@lru_cache(maxsize=256)
def compiled(text: str) -> Condition:
    """The condition of a text. Raises `WrongValue`, with the character, for what is none."""
    if len(text) > MOST_CHARACTERS:
        raise WrongValue(f"is longer than {MOST_CHARACTERS} characters", "give the step a parameter, and decide there")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own, of `1 is 1` and the like
            tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        at = f" at character {error.offset}" if error.offset and error.lineno == 1 else ""
        raise WrongValue(f"{_shortened(text)} is not a condition{at}", _EXAMPLE) from None
    except (ValueError, RecursionError, MemoryError):
        raise WrongValue(f"{_shortened(text)} is not a condition", _EXAMPLE) from None
    names: list[Name] = []
    _allowed(tree, names, 0)
    return Condition(text.strip(), tuple(names), tree)


def _allowed(node: ast.expr, names: list[Name], depth: int) -> None:
    """Raises `WrongValue` for what a condition can't contain; gathers the names."""
    if depth > MOST_DEPTH:
        raise _wrong(node, f"it is nested deeper than {MOST_DEPTH} levels", "write it flatter")
    match node:
        case ast.Constant(value=str() | bool() | int() | float()):
            return
        case ast.Attribute(value=ast.Name(id=group), attr=name):
            names.append(Name(group, name, node.col_offset + 1))
            return
        case ast.Name(id="true" | "false" as word):
            raise _wrong(node, f"{word} is not known", f"write {word.capitalize()}")
        case ast.Name(id=word):
            raise _wrong(node, f"{word[:60]} is not known", f"write param.{word[:60]} for a parameter, '…' for text")
        case ast.Compare() if all(isinstance(each, _COMPARED) for each in node.ops):
            pass
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.USub()) | ast.BinOp() | ast.List() | ast.Tuple():
            if isinstance(node, ast.BinOp) and not isinstance(node.op, _COMPUTED):
                raise _wrong(node, "of arithmetic there are + - * / // and %", _EXAMPLE)
        case ast.Call():
            raise _wrong(node, "a condition calls nothing", "compute it in a step, and pass the result as a parameter")
        case _:
            raise _wrong(node, f"{_shortened(ast.unparse(node))} can't stand in a condition", _EXAMPLE)
    for inner in _operands(node):
        _allowed(inner, names, depth + 1)


def _operands(node: ast.expr) -> Iterator[ast.expr]:
    return (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))


def _known(name: Name, scope: Mapping[str, Mapping[str, Any]]) -> None:
    where = f" at character {name.at}"
    if name.group not in scope:
        remedy = did_you_mean(name.group, scope, "it can name") or "nothing can be named here"
        raise WrongValue(f"{name}{where}: there is no {name.group}", remedy)
    if name.name not in scope[name.group]:
        remedy = did_you_mean(name.name, scope[name.group], f"of {name.group} there is") or "declare it"
        raise WrongValue(f"{name}{where} names nothing", remedy)


def _kind(node: ast.expr, scope: Scope) -> Kind:
    """The type of a part. Raises `WrongValue` where its own parts can't go together."""
    match node:
        case ast.Constant(value=bool()):
            return "boolean"
        case ast.Constant(value=value):
            return "string" if isinstance(value, str) else "integer" if isinstance(value, int) else "number"
        case ast.Attribute(value=ast.Name(id=group), attr=name):
            return scope[group][name]
        case ast.List() | ast.Tuple():
            for each in node.elts:
                if _kind(each, scope) == "array":
                    raise _wrong(each, "a list can't stand in a list", "write its values out")
            return "array"
        case ast.BoolOp(values=values):
            for each in values:
                _expect(each, scope, ("boolean",), "true or false")
            return "boolean"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _expect(operand, scope, ("boolean",), "true or false")
            return "boolean"
        case ast.UnaryOp(operand=operand):
            return _expect(operand, scope, _NUMBERS, "a number")
        case ast.Compare():
            _compared(node, scope)
            return "boolean"
        case ast.BinOp():
            return _computed(node, scope)
    raise AssertionError(node)


def _computed(node: ast.BinOp, scope: Scope) -> Kind:
    left = _kind(node.left, scope)
    if isinstance(node.op, ast.Add) and left == "string":
        return _expect(node.right, scope, ("string",), "text")
    kinds = {_expect(side, scope, _NUMBERS, "a number") for side in (node.left, node.right)}
    return "any" if "any" in kinds else "integer" if kinds == {"integer"} and not _divides(node.op) else "number"


def _divides(operator: ast.operator) -> bool:
    return isinstance(operator, ast.Div)


def _compared(node: ast.Compare, scope: Scope) -> None:
    left = node.left
    for operator, right in zip(node.ops, node.comparators, strict=True):
        one, other = _kind(left, scope), _kind(right, scope)
        if isinstance(operator, ast.In | ast.NotIn):
            if other not in ("array", "any") and not (other == "string" and one in ("string", "any")):
                raise _wrong(right, f"expected a list after in, found {_WORDS[other]}", "write it like x in ['a', 'b']")
        elif "any" not in (one, other) and one != other and not (one in _NUMBERS and other in _NUMBERS):
            message = f"{_WORDS[one]} is compared with {_WORDS[other]}"
            raise _wrong(right, message, "compare like with like: text stands in quotes, numbers do not")
        elif isinstance(operator, _ORDERED) and {one, other} & {"boolean", "array"}:
            raise _wrong(right, f"{_WORDS[one]} has no order", "compare with == or !=")
        left = right


def _expect(node: ast.expr, scope: Scope, kinds: tuple[str, ...], words: str) -> Kind:
    kind = _kind(node, scope)
    if kind != "any" and kind not in kinds:
        raise _wrong(node, f"expected {words}, found {_WORDS[kind]}", _EXAMPLE)
    return kind


def _wrong(node: ast.expr, message: str, remedy: str) -> WrongValue:
    return WrongValue(f"at character {node.col_offset + 1}: {message}", remedy)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
