"""The explorer: a page in the browser."""
