"""Reading files: archives, arrays, tables, downloads, and retries of transient failures."""

__all__: list[str] = []
