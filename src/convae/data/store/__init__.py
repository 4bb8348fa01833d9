"""The store of decoded images, and the cache that holds it."""

__all__: list[str] = []
