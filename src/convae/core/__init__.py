"""Ground floor: types, registry, configuration, errors, files, counter-based random numbers."""
