"""Internal: types, registry, configuration, errors, files, counter-based random numbers; `convae.types` is public."""

__all__: list[str] = []
