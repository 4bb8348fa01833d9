"""Internal: types, registry, configuration, errors, files and counter-based random numbers. Use `convae.types`."""

__all__: list[str] = []
