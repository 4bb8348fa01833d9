"""What sources are made of: the base class, and sources that several entries share."""

from convae.data.sources.base.source import PARTS, Column, Listing, Record, Source, Survey

__all__ = ["PARTS", "Column", "Listing", "Record", "Source", "Survey"]
