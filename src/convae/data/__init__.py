"""Data: sources list and read images, the store keeps them decoded, batches gather them."""

from __future__ import annotations

from convae.data.augment import Augmentation, AugmentConfig
from convae.data.batches import Batches, in_order
from convae.data.config import DataConfig, absolute_data
from convae.data.data_dirs import DataDirs
from convae.data.dataset import Dataset, dataset
from convae.data.image_set import BatchSource
from convae.data.images.conversion import load_and_preprocess, preprocess
from convae.data.images.reading import load
from convae.data.images.tensors import to_numpy, to_pil, to_tensor, to_unit
from convae.data.labeled_draws import LabeledDraws
from convae.data.sources import SOURCES
from convae.data.sources.base import Column, Listing, Record, Source, Survey
from convae.data.splits.data_set import DataSet, open_data_set, open_split
from convae.data.splits.labels import match_classes
from convae.data.splits.split import Split
from convae.data.splits.statistics import Statistics, statistics

__all__ = [
    "SOURCES",
    "AugmentConfig",
    "Augmentation",
    "BatchSource",
    "Batches",
    "Column",
    "DataConfig",
    "DataDirs",
    "DataSet",
    "Dataset",
    "LabeledDraws",
    "Listing",
    "Record",
    "Source",
    "Split",
    "Statistics",
    "Survey",
    "absolute_data",
    "dataset",
    "in_order",
    "load",
    "load_and_preprocess",
    "match_classes",
    "open_data_set",
    "open_split",
    "preprocess",
    "statistics",
    "to_numpy",
    "to_pil",
    "to_tensor",
    "to_unit",
]
