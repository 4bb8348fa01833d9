"""Splits of a data set: choice, labels, statistics, changes since training."""

__all__: list[str] = []
