"""Training a VAE: the objects of a recipe, validation, pictures and artifacts."""

__all__: list[str] = []
