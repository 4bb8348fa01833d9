"""The type checker of the tests: beartype, for which an int may stand for a float, as it may for mypy."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
