"""Transformer blocks, and a cache of keys and values for causal attention."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.noise import Generators, drop_values, named_noise


class KeysAndValues:
    """Keys and values of earlier places of one block.

    Args:
        batch: number of sequences.
        length: number of places.
    """

    def __init__(self, batch: int, length: int) -> None:
        self._batch, self._length, self._filled = batch, length, 0
        self._kept: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values up to now, after adding those of new places, (batch, head, place, channel)."""
        if self._kept is None:
            self._kept = keys.new_empty(2, self._batch, keys.shape[1], self._length, keys.shape[3])
        end = self._filled + keys.shape[2]
        self._kept[0, :, :, self._filled : end], self._kept[1, :, :, self._filled : end] = keys, values
        self._filled = end
        return self._kept[0, :, :, :end], self._kept[1, :, :, :end]


class Block(nn.Module):
    """Self-attention and a feed-forward network, each after a layer norm (Radford et al. 2019).

    Args:
        width: number of channels.
        heads: number of attention heads.
        dropout: rate of dropout of the outputs of both.
        is_causal: whether a place attends to itself and earlier ones only.
    """

    def __init__(self, width: int, heads: int, dropout: float, is_causal: bool = True) -> None:
        super().__init__()
        self.head_count, self.dropout, self.is_causal = heads, dropout, is_causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, kept: KeysAndValues | None = None, noise: Generators | None = None) -> Tensor:
        """(batch, place, channel) to the same shape.

        Args:
            x: all places, or with a cache one new place.
            kept: keys and values of the places before.
            noise: for dropout.
        """
        batch, places, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, places, 3, self.head_count, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)
        if kept is not None:
            keys, values = kept.append(keys, values)
        masked = self.is_causal and kept is None
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=masked)
        x = x + self._drop(self.out_proj(attended.transpose(1, 2).reshape(batch, places, width)), noise, "attention")
        return x + self._drop(self.feed_forward(self.norm_2(x)), noise, "feed-forward")

    def _drop(self, x: Tensor, noise: Generators | None, name: str) -> Tensor:
        """Dropout in training."""
        return drop_values(x, self.dropout, named_noise(noise, name)) if self.training and self.dropout else x
