"""One notation a file: a function from a stored description to the text of that notation, and its reader.

All notations are read into the same list of layers, so that one that can be written can be read back.
"""

from convae.core.registry import Registry

NOTATIONS = Registry(__name__, "notation")
