"""What the pages show of the code: Markdown made of registries, signatures, configuration models and docstrings."""
