"""Conditions in workflows: `param.mode == 'full' and item.year > 2000 and {calibrate.least} < 5`.

The syntax is Python's, cut down to what a condition needs: names, constants, comparisons, `and`, `or`, `not`, `in` and
arithmetic. What another step makes is named in braces, as where it is a parameter; to Python such a name is `_N.PORT`.
`compiled` turns text into a `Condition`, which knows the names that it reads; `Condition.check` finds unknown names and
types that can't go together before anything runs, and `Condition.holds` evaluates. What is allowed is decided here;
simpleeval executes it (decision 38). A condition has a bounded length and no loops, calls, powers or repetition of
text, so that its time and space are bounded by its length and the values that it is given.

A condition that names what steps make is judged where that is known, on the nodes: `Condition.resolved` puts in what is
known when the run is submitted.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
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

_GROUPS: Final = ("param", "item")
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
_MADE: Final = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\{([a-z0-9][a-z0-9:-]*)\.([A-Za-z_][A-Za-z0-9_]*)\}|\b(_[0-9]+)\b"""
)
_OF_A_STEP: Final = re.compile("_[0-9]+")
_EXAMPLE: Final = "write it like param.mode == 'full' and param.days > 3"


@dataclass(frozen=True)
class Name:
    """A name that a condition reads, `group.name`, and the character at which it stands (1 is the first).

    `made`: it is what the step `group` makes at its port `name`.
    """

    group: str
    name: str
    at: int
    made: bool = False

    def __str__(self) -> str:
        return f"{{{self.group}.{self.name}}}" if self.made else f"{self.group}.{self.name}"


@dataclass(frozen=True)
class Condition:
    """A condition that was understood."""

    text: str
    names: tuple[Name, ...]
    tree: ast.expr
    steps: tuple[str, ...] = ()  # that are named; `_N` in the tree is the one of this index

    @property
    def makers(self) -> tuple[tuple[str, str], ...]:
        """The steps and ports whose values it reads."""
        return tuple(dict.fromkeys((name.group, name.name) for name in self.names if name.made))

    def resolved(self, values: Values, made: Mapping[tuple[str, str], str]) -> str:
        """The condition as text, with parameters and items as constants, and in the place of `(STEP, PORT)` what `made`
        says, which is `STEP.PORT` of others. Raises `WrongValue` where that is too long."""
        text = ast.unparse(_Resolving(self.steps, values, made).visit(deepcopy(self.tree)))
        compiled(text)
        return text

    def check(self, scope: Scope) -> None:
        """Raises `WrongValue` for a name that is not in the scope, and for types that can't go together."""
        for name in self.names:
            _known(name, scope)
        kind = _kind(self.tree, self._grouped(scope))
        if kind not in ("boolean", "any"):
            raise _wrong(self.tree, f"it is {_WORDS[kind]}, but expected true or false", "compare it with something")

    def holds(self, values: Values) -> bool:
        """Whether the condition holds for these values. Raises `WrongValue` where it can't be said."""
        for name in self.names:
            _known(name, values)
        names = {group: dict(named) for group, named in self._grouped(values).items()}
        evaluator = EvalWithCompoundTypes(functions={}, names=names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = evaluator.eval(self.text, previously_parsed=self.tree)
        except Exception as error:
            raise WrongValue(f"{_shortened(self.text)} can't be evaluated: {error}", _EXAMPLE) from None
        if not isinstance(result, bool):
            raise WrongValue(f"{_shortened(self.text)} is {result!r:.60}, but expected true or false", _EXAMPLE)
        return result

    def _grouped(self, named: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """What is named, as the tree names it."""
        groups = {group: named[group] for group in _GROUPS if group in named}
        return {**groups, **{f"_{index}": named[step] for index, step in enumerate(self.steps)}}


class _Resolving(ast.NodeTransformer):
    """Puts constants in the place of names, and other steps in that of those that are named."""

    def __init__(self, steps: Sequence[str], values: Values, made: Mapping[tuple[str, str], str]) -> None:
        self._steps = steps
        self._values = values
        self._made = made

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """One name of the condition."""
        assert isinstance(node.value, ast.Name)
        group = node.value.id
        if group in _GROUPS:
            value = self._values[group][node.attr]
            return ast.List([ast.Constant(each) for each in value]) if isinstance(value, tuple) else ast.Constant(value)
        return ast.Name(f"{{{self._made[self._steps[int(group[1:])], node.attr]}}}")


@lru_cache(maxsize=256)
def compiled(text: str) -> Condition:
    """The condition of a text. Raises `WrongValue`, with the character, for what is none."""
    if len(text) > MOST_CHARACTERS:
        raise WrongValue(f"is longer than {MOST_CHARACTERS} characters", "give the step a parameter, and decide there")
    steps: dict[str, int] = {}
    plain = _plain(text.strip(), steps)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own, of `1 is 1` and the like
            tree = ast.parse(plain, mode="eval").body
    except SyntaxError as error:
        at = f" at character {error.offset}" if error.offset and error.lineno == 1 else ""
        raise WrongValue(f"{_shortened(text)} is not a condition{at}", _EXAMPLE) from None
    except (ValueError, RecursionError, MemoryError):
        raise WrongValue(f"{_shortened(text)} is not a condition", _EXAMPLE) from None
    names: list[Name] = []
    _allowed(tree, names, 0)
    known = tuple(steps)
    return Condition(text.strip(), tuple(_told(name, known) for name in names), tree, known)


def _plain(text: str, steps: dict[str, int]) -> str:
    """The text with `_N.PORT` for `{STEP.PORT}`, and as long where that is possible; gathers the steps."""

    def one(found: re.Match[str]) -> str:
        if found[3]:
            raise WrongValue(f"{found[3]} at character {found.start() + 1} is not known", _EXAMPLE)
        if found[1] is None:
            return found[0]  # text in quotes
        return f"_{steps.setdefault(found[1], len(steps))}.{found[2]}".ljust(len(found[0]))

    return _MADE.sub(one, text)


def _told(name: Name, steps: Sequence[str]) -> Name:
    if not _OF_A_STEP.fullmatch(name.group):
        return name
    return Name(steps[int(name.group[1:])], name.name, name.at, made=True)


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
    if name.group not in scope or name.made == (name.group in _GROUPS):
        if not name.made and name.group in scope:
            raise WrongValue(f"{name}{where} is of a step", f"write {{{name}}}, in braces, for what a step has made")
        if name.made:
            remedy = (
                did_you_mean(name.group, [each for each in scope if each not in _GROUPS], "the steps are")
                or "no step comes before this one"
            )
            raise WrongValue(f"{name}{where}: there is no step {name.group}", remedy)
        remedy = (
            did_you_mean(name.group, [each for each in scope if each in _GROUPS], "it can name")
            or "nothing can be named here"
        )
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
