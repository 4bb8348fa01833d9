"""Operations of `torch.export` in terms of those that the page has (`web/operations.js`)."""

from convae.explorer.lowerings import elementwise, layers, pooling, reductions, shapes
from convae.explorer.lowerings.base import LOWERINGS

__all__ = ["LOWERINGS", "elementwise", "layers", "pooling", "reductions", "shapes"]
