"""Images: headers, decoding, value ranges, and conversion to a size, a number of channels and a type."""

__all__: list[str] = []
