"""convae's own notation: a mapping with lists of layers, as YAML."""

from __future__ import annotations

from yaml import SafeDumper, dump

from convae.model.description import Spec


class _Dumper(SafeDumper):
    """Writes lists in lists with an indent, as people do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Never without an indent."""
        super().increase_indent(flow, False)


def yaml(spec: Spec) -> str:
    """The stored form of a model as YAML, one layer a line where it fits."""
    return dump(spec.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)
