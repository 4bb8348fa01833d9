"""Notations of models: each is read into plain lists of layers, and written from them.

`lists` is convae's own, `layer_codes` is that of FlexVAE's structure files, `arch_def` a dictionary of convolutions.
"""

from convae.notations.arch_def import propose_arch_defs, read_arch_def, read_python, write_python
from convae.notations.layer_codes import write_codes
from convae.notations.lists import LayerCatalog, read_list, write_yaml

__all__ = [
    "LayerCatalog",
    "propose_arch_defs",
    "read_arch_def",
    "read_list",
    "read_python",
    "write_codes",
    "write_python",
    "write_yaml",
]
