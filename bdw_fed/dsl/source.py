"""From a function to a module that stands alone: its own text, and that of what it uses.

A step runs where neither this package nor the notebook that it was written in is known. So its function is taken out
as text, without its decorators, together with the functions, classes and plain constants beside it that it names, and
the imports that it needs. A module of the user's own, which can't be imported elsewhere, comes along as a file.
"""

from __future__ import annotations

import ast
import inspect
import site
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from bdw_fed.dsl.errors import BuildError

_FUTURE = "from __future__ import annotations"
_BUILT_IN = (type(len), type(str.join))  # functions of modules that are written in C


class Extracted:
    """The files of one step's code: `files` is name → text; `module` the name of the one with the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._step = function.__name__
        self._imports: dict[str, None] = {}
        self._texts: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self._take(function.__name__, function)
        self.module = f"{function.__name__}_step"
        parts = [_FUTURE, "\n".join(sorted(self._imports)), *self._texts.values()]
        self.files[f"{self.module}.py"] = "\n\n\n".join(part for part in parts if part) + "\n"

    def _take(self, name: str, thing: Any) -> None:
        """A function or class under its own name, after what it uses."""
        if name in self._texts:
            return
        self._texts[name] = ""  # it may use itself
        text, tree = _text(self._step, thing)
        scope = getattr(thing, "__globals__", None) or vars(sys.modules[thing.__module__])
        closed = _closed_over(thing)
        for used in _names(tree):  # what is in neither is bound within the function, built in, or shows when called
            if used in closed:
                self._use(used, closed[used], thing)
            elif used in scope:
                self._use(used, scope[used], thing)
        del self._texts[name]
        self._texts[name] = text  # what it uses stands before it

    def _use(self, name: str, value: Any, user: Any) -> None:
        value = getattr(value, "function", value) if type(value).__module__.startswith("bdw_fed.dsl") else value
        if isinstance(value, ModuleType):
            self._imports[_import_of(value.__name__, name)] = None
            self._bring(value)
        elif inspect.isfunction(value) or inspect.isclass(value):
            if value.__module__ == getattr(user, "__module__", None):
                if value.__name__ != name:
                    self._texts.setdefault(name, f"{name} = {value.__name__}")
                self._take(value.__name__, value)
            else:
                self._imports[f"from {value.__module__} import {_renamed(value.__qualname__, name)}"] = None
                self._bring(sys.modules[value.__module__])
        elif isinstance(value, _BUILT_IN) and getattr(value, "__module__", None):
            self._imports[f"from {value.__module__} import {_renamed(value.__qualname__, name)}"] = None
        elif _is_plain(value):
            self._texts.setdefault(name, f"{name} = {value!r}")
        else:
            raise BuildError(
                f"step {self._step} uses {name}, a {type(value).__name__}, which can't be taken along; "
                "only imports, functions, classes and plain constants can: make it inside the function"
            )

    def _bring(self, module: ModuleType) -> None:
        """A module of the user's own as a file, with what it imports of the same kind."""
        top = module.__name__.partition(".")[0]
        root = _own_root(sys.modules.get(top, module))
        if root is None:
            return
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            name = path.relative_to(root.parent).as_posix()
            if name in self.files:
                continue
            self.files[name] = path.read_text()
            for imported in _imported(ast.parse(self.files[name])):
                if (known := sys.modules.get(imported)) is not None:
                    self._bring(known)


def _text(step: str, thing: Any) -> tuple[str, ast.AST]:
    """The text of a function or class without its decorators, and what it says."""
    try:
        text = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError) as error:
        raise BuildError(f"step {step}: the source of {thing.__name__} can't be found: {error}") from error
    node = ast.parse(text).body[0]
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        raise BuildError(f"step {step}: {thing.__name__} is not written as a function; a lambda can't be a step")
    lines = text.splitlines()
    return "\n".join(lines[node.lineno - 1 : node.end_lineno]), node


def _names(tree: ast.AST) -> Iterator[str]:
    """Names that are read when it is executed; annotations are not."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.AST):
                yield from _names(node)


def _closed_over(thing: Any) -> dict[str, Any]:
    cells = getattr(thing, "__closure__", None) or ()
    names = thing.__code__.co_freevars if cells else ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}


def _import_of(module: str, name: str) -> str:
    if module == name:
        return f"import {module}"
    parent, _, last = module.rpartition(".")
    if parent and last == name:
        return f"from {parent} import {name}"
    return f"import {module} as {name}"


def _renamed(qualified: str, name: str) -> str:
    return qualified if qualified == name else f"{qualified} as {name}"


def _is_plain(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError):
        return False


def _own_root(module: ModuleType) -> Path | None:
    """The file or package directory of a module that only this machine has; None for what is installed."""
    file = getattr(module, "__file__", None)
    if not file or module.__name__ in sys.stdlib_module_names or module.__name__ == "__main__":
        return None
    path = Path(file).resolve()
    installed = {sysconfig.get_path(kind) for kind in ("purelib", "platlib", "stdlib", "platstdlib")}
    installed |= {site.getusersitepackages(), *site.getsitepackages()}
    if any(path.is_relative_to(Path(each).resolve()) for each in installed) or path.suffix != ".py":
        return None
    return path.parent if path.name == "__init__.py" else path


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
