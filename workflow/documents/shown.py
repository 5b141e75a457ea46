"""Plain values as YAML text that our own reader takes for the very same values."""

from __future__ import annotations

import yaml

from workflow.documents.written import meaning


def dump(value: object) -> str:
    """A value as YAML in block style, mappings in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.2 takes for a number or a word, too, where the library knows those of YAML 1.1 only."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(meaning(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
