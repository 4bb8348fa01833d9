"""Training a VAE: the objects of a recipe, validation, pictures and artifacts."""
