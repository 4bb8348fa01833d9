"""Feature maps that are computed by rows, so that a pass over a large image takes little memory.

    stored map ── local layers ──> rows a … b          each slice is computed with the rows around it that it depends on
         │
         └── statistics of a norm, keys and values of attention: one pass over all slices, before the first row is given

Rows are positions of the first spatial axis. A map that several passes need is stored where memory allows; otherwise
its rows are computed again from the last stored map, which takes time instead of memory. Results are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.model.layers.base.sliced_pass import SlicedPass, as_current

_MOST_STEPS = 100
"""Steps between two stored maps: each takes a few calls of Python, whose depth is limited."""


class FeatureMap:
    """(batch, channel, *sizes), or (batch, feature), whose rows are computed when they are asked for.

    Args:
        sliced: the pass.
        shape: of the map.
        compute: gives the rows from a start to a stop, (batch, channel, rows, *other sizes).
        parents: the maps that `compute` asks for rows.
        row_bytes: memory that computing one row takes, without stored maps.
        work: convolutions and the like since the last stored map; 0 if computing again costs nothing.

    Attributes:
        steps: maps since the last stored one.
    """

    def __init__(
        self,
        sliced: SlicedPass,
        shape: Sequence[int],
        compute: Callable[[int, int], Tensor] | None,
        parents: Sequence[FeatureMap] = (),
        *,
        row_bytes: float = 0.0,
        work: int = 0,
    ) -> None:
        self.sliced = sliced
        self.shape = tuple(shape)
        self._compute = compute
        self._parents = tuple(parents)
        self.row_bytes = row_bytes
        self.work = work
        self.steps: int = 1 + max((each.steps for each in parents), default=-1)
        self._depth = sliced.depth
        self._stored: Tensor | None = None
        self._is_shared = False
        self._recent: tuple[int, Tensor] | None = None
        if self.steps > _MOST_STEPS:
            self.tensor()

    @classmethod
    def of(cls, sliced: SlicedPass, tensor: Tensor, *, is_counted: bool = True) -> FeatureMap:
        """A map that is already computed.

        Args:
            sliced: the pass.
            tensor: (batch, channel, *sizes), or (batch, feature).
            is_counted: whether the pass counts its memory; not for what belongs to the caller.
        """
        found = cls(sliced, tensor.shape, None)
        found._store(tensor, is_counted)
        return found

    @property
    def has_rows(self) -> bool:
        """Whether there are spatial axes."""
        return len(self.shape) > 2

    @property
    def positions(self) -> int:
        """Number of spatial positions."""
        return math.prod(self.shape[2:])

    def rows(self, start: int, stop: int) -> Tensor:
        """The rows from `start` to `stop`, (batch, channel, rows, *other sizes)."""
        if self._stored is not None:
            return self._stored[:, :, start:stop]
        if self._recent is not None:
            first, part = self._recent
            if first <= start and stop <= first + part.shape[2]:
                return part[:, :, start - first : stop - first]
        assert self._compute is not None
        part = self._compute(start, stop)
        if self._is_shared:
            self._recent = start, part
        return part

    def slices(self) -> Iterator[Tensor]:
        """One pass over all rows, in slices; the map is stored on the way if that saves time and memory allows it."""
        is_kept = self._is_worth_storing()
        kept: Tensor | None = None
        for start, stop in self._bounds():
            part = self.rows(start, stop)
            if is_kept:
                kept = self._put(kept, start, part)
            yield part
        self.forget_recent(set())
        if kept is not None:
            self._store(kept)

    def tensor(self) -> Tensor:
        """The entire map, which is stored from now on."""
        if self._stored is None:
            kept: Tensor | None = None
            for start, stop in self._bounds():
                kept = self._put(kept, start, self.rows(start, stop))
            assert kept is not None
            self.forget_recent(set())
            self._store(kept)
        assert self._stored is not None
        return self._stored

    def keep(self) -> FeatureMap:
        """Stores the map now if that saves time and memory allows it."""
        if self._is_worth_storing():
            self.tensor()
        return self

    def share(self) -> FeatureMap:
        """Keeps the last slice, as several maps ask for the same rows one after the other."""
        self._is_shared = True
        return self

    def whole(self, compute: Callable[[Tensor], Tensor]) -> FeatureMap:
        """The map that a function makes of this entire map; networks in it are computed in slices."""
        tensor = self.tensor()
        with as_current(self.sliced):
            return FeatureMap.of(self.sliced, compute(tensor))

    def pointwise(
        self, compute: Callable[[Tensor], Tensor], channels: int | None = None, *, work: int = 0
    ) -> FeatureMap:
        """A function of each position alone.

        Args:
            compute: (batch, channel, rows, …) to (batch, channels, rows, …).
            channels: output channels, by default as many.
            work: 1 if it costs as much as a convolution.
        """
        shape = (self.shape[0], self.shape[1] if channels is None else channels, *self.shape[2:])
        return self.local(compute, shape, work=work)

    def local(
        self,
        compute: Callable[[Tensor], Tensor],
        shape: Sequence[int],
        *,
        stride: Fraction = Fraction(1),
        halo: tuple[int, int] = (0, 0),
        work: int = 0,
    ) -> FeatureMap:
        """A function that may be applied to any slice which begins and ends where an output row does.

        Args:
            compute: a slice, with the rows around it, to output rows; those at its borders may be wrong.
            shape: of the output for the entire map.
            stride: input rows per output row, an integer or the inverse of one.
            halo: rows that an output row depends on before and after the first row of its stride.
            work: 1 if it costs as much as a convolution.
        """
        size, end = self.shape[2], shape[2]
        step, per = stride.numerator, stride.denominator

        def rows(start: int, stop: int) -> Tensor:
            first = max(0, min(start * step // per - halo[0], size - 1) // step * step)
            last = size if stop == end else min(size, -(-((stop - 1) * step // per + 1 + halo[1]) // step) * step)
            skipped = first * per // step
            with as_current(None):
                part = compute(self.rows(first, max(last, first + 1)))
            return part[:, :, start - skipped : stop - skipped]

        scale, item = float(stride), self.sliced.item_bytes
        own = item * (_row_values(self.shape) * scale + _row_values(shape))
        needed = max(own, self.row_bytes * scale)
        return FeatureMap(self.sliced, shape, rows, [self], row_bytes=needed, work=self.work + work)

    def joined(self, others: Sequence[FeatureMap], compute: Callable[..., Tensor], channels: int) -> FeatureMap:
        """A function of each position of several maps of the same sizes.

        Args:
            others: further maps; the rows of the last are computed first.
            compute: the rows of each map to (batch, channels, rows, …).
            channels: output channels.
        """
        maps = [self, *others]

        def rows(start: int, stop: int) -> Tensor:
            parts = [each.rows(start, stop) for each in reversed(maps)]
            with as_current(None):
                return compute(*reversed(parts))

        shape = (self.shape[0], channels, *self.shape[2:])
        held = self.sliced.item_bytes * sum(_row_values(each.shape) for each in maps)
        needed = held + max(each.row_bytes for each in maps)
        work = max(each.work for each in maps)
        return FeatureMap(self.sliced, shape, rows, maps, row_bytes=needed, work=work)

    def resized_nearest(self, sizes: Sequence[int]) -> FeatureMap:
        """The map resized by repetition."""
        chosen = F.interpolate(torch.arange(self.shape[2]).double()[None, None], size=sizes[0], mode="nearest")

        def compute(part: Tensor) -> Tensor:
            return F.interpolate(part, size=[part.shape[2], *sizes[1:]], mode="nearest")

        return self.chosen_rows(chosen.long()[0, 0], compute, sizes)

    def chosen_rows(self, index: Tensor, compute: Callable[[Tensor], Tensor], sizes: Sequence[int]) -> FeatureMap:
        """A function of each row alone, of rows in another order or number.

        Args:
            index: (row,) which row each row of the result is of; −1 for one of zeros.
            compute: (batch, channel, rows, …) to as many rows.
            sizes: spatial sizes of the result.
        """

        def rows(start: int, stop: int) -> Tensor:
            own = index[start:stop]
            cuts = ((own.diff().abs() > 1) | ((own < 0).diff() != 0)).nonzero().flatten() + 1
            return compute(torch.cat([self._chosen(run) for run in own.tensor_split(cuts.tolist())], 2))

        shape = (*self.shape[:2], *sizes)
        needed = max(self.row_bytes, self.sliced.item_bytes * _row_values(shape))
        return FeatureMap(self.sliced, shape, rows, [self], row_bytes=needed, work=self.work)

    def _chosen(self, run: Tensor) -> Tensor:
        """Rows that are next to each other, or rows of zeros."""
        first, last = int(run.min()), int(run.max())
        if last < 0:
            part = self.rows(0, 1)
            return part.new_zeros((*part.shape[:2], len(run), *part.shape[3:]))
        part = self.rows(first, last + 1)
        return part.index_select(2, (run - first).to(part.device))

    def _bounds(self) -> Iterator[tuple[int, int]]:
        """First and last row, exclusive, of each slice of a pass."""
        needed = self.row_bytes or self.sliced.item_bytes * _row_values(self.shape)
        step = max(1, int(self.sliced.slice_bytes / needed))
        return pairwise([*range(0, self.shape[2], step), self.shape[2]])

    def _is_worth_storing(self) -> bool:
        """Whether a stored map saves time and has room; inside of a branch, with room for the sum as well."""
        needed = self.sliced.item_bytes * math.prod(self.shape) * (1 + self._depth)
        return self._stored is None and self.work > 0 and needed <= self.sliced.free_bytes

    def _put(self, kept: Tensor | None, start: int, part: Tensor) -> Tensor:
        """Writes a slice into the stored map, which is allocated for the first one."""
        if kept is None:
            if part.shape[2] == self.shape[2]:
                return part.contiguous()
            kept = part.new_empty(self.shape)
        kept[:, :, start : start + part.shape[2]] = part
        return kept

    def _store(self, tensor: Tensor, is_counted: bool = True) -> None:
        """Sets the entire map, and lets go of what it was computed from."""
        self._stored, self._compute, self._parents = tensor, None, ()
        self.row_bytes, self.work, self.steps, self._recent = 0.0, 0, 0, None
        if is_counted:
            self.sliced.count(tensor)

    def forget_recent(self, visited: set[int]) -> None:
        """Lets go of the slices that are kept for other maps, of this map and of those that it is computed from."""
        if id(self) not in visited:
            visited.add(id(self))
            self._recent = None
            for each in self._parents:
                each.forget_recent(visited)


def _row_values(shape: Sequence[int]) -> int:
    """Number of values in a row, over the batch."""
    return shape[0] * shape[1] * math.prod(shape[3:])
