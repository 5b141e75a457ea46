"""The typer application made of the verbs: help, completion, and the explanation of mistakes.

It is built when `bdw_fed.cli.arguments.parse` does not take a command line as it is; see there for why.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from bdw_fed.cli.arguments import Argument, Option, Parameter, parameters_of
from bdw_fed.cli.completion import names_of
from bdw_fed.cli.exits import CODES_HELP, run_verb
from bdw_fed.cli.verbs import GROUPS, load

_ABOUT = """One workflow over many clusters: placed near its data, and running on when the centre is gone.

\b
A first time:
  bdw-fed up                         a federation on this machine
  bdw-fed apply -f examples/flights  steps and a workflow
  bdw-fed submit delays --wait       run it
  bdw-fed outputs RUN --to out       take the results
"""


_PLAINLY = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "expected a whole number",
    "Input should be a valid number, unable to parse string as a number": "expected a number",
}


class _Groups(TyperGroup):
    """Lists the verbs by what they are about, and tells in plain words of values that can't be."""

    def invoke(self, ctx: Any) -> Any:
        """As typer does it, but for the words of the library that judges values for it."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            for words, plain in _PLAINLY.items():
                error.message = error.message.replace(words, plain, 1)
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each group of verbs."""
        for title, verbs in GROUPS.items():
            rows = []
            for verb in verbs:
                command = self.get_command(ctx, verb)
                if command is not None:
                    rows.append((verb, command.get_short_help_str(limit=200)))
            with formatter.section(title):
                formatter.write_dl(rows)


def application(verb: str = "") -> Callable[..., Any]:
    """The whole command line, or as much of it as one verb needs: to build them all takes longer than most run."""
    app = typer.Typer(
        name="bdw-fed",
        cls=_Groups,
        help=_ABOUT,
        epilog=CODES_HELP,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    for name in [verb] if verb else itertools.chain.from_iterable(GROUPS.values()):
        module = load(name)
        app.command(
            name,
            epilog="\b\nExamples:\n" + module.EXAMPLES.rstrip("\n"),
            context_settings={"help_option_names": ["-h", "--help"]},
        )(_for_typer(name, module.command))
    return get_group(app) if verb else get_command(app)  # the latter would make a lone verb the whole program


def _for_typer(verb: str, function: Callable[..., Any]) -> Callable[..., None]:
    """The verb's function with typer's annotations in place of ours."""
    parameters = parameters_of(function)

    @wraps(function)
    def call(**values: Any) -> None:
        filled = {
            parameter.name: values.get(parameter.name) or [] if parameter.many else values.get(parameter.name)
            for parameter in parameters
        }
        raise typer.Exit(run_verb(verb, lambda: function(**filled)))

    annotated = {parameter.name: Annotated[parameter.annotation, _info(parameter)] for parameter in parameters}
    shown: Any = call
    shown.__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                parameter.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=parameter.default,
                annotation=annotated[parameter.name],
            )
            for parameter in parameters
        ]
    )
    shown.__annotations__ = dict(annotated)
    del shown.__wrapped__
    return call


def _info(parameter: Parameter) -> Any:
    mark = parameter.mark
    completion = None
    if mark.completes:
        kind = mark.completes

        def completion(incomplete: str) -> list[str]:
            return names_of(kind, incomplete)

    shared: dict[str, Any] = {"help": mark.help, "metavar": mark.metavar or None, "autocompletion": completion}
    if isinstance(mark, Argument):
        return typer.Argument(**shared)
    assert isinstance(mark, Option)
    return typer.Option(*mark.flags, **shared, show_default=parameter.default not in (None, False, ""))
