"""What sources are made of: the base class, and sources that several entries share."""

from convae.data.sources.base.source import PARTS, Column, Listing, Record, Source, Survey, content_digest

__all__ = ["PARTS", "Column", "Listing", "Record", "Source", "Survey", "content_digest"]
