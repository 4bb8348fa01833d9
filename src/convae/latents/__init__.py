"""Latent space tools of a trained model.

`Session` opens a model with its data; every tool is a function from tensors to tensors.
"""

from __future__ import annotations

from convae.latents.batches import EvalBatch
from convae.latents.class_gaussians import ClassGaussians, fit_class_gaussians
from convae.latents.class_labels import class_number, read_labels
from convae.latents.clusters import Agreement, Clusters, cluster, measure_agreement
from convae.latents.decodable import Decodable, iterate_decodable, read_model_identity
from convae.latents.decoding import decode, iterate_decoded
from convae.latents.drawing import draw_latents
from convae.latents.encoding import Encoding, encode
from convae.latents.error_maps import map_errors
from convae.latents.folders import FileShard, encode_to, iterate_latents, read_latents, read_manifest
from convae.latents.imputation import impute
from convae.latents.inputs import EncodedInputs, find_image, is_image_file, read_images
from convae.latents.interpolation import interpolate, interpolate_path
from convae.latents.labeled import CONFIDENCE, LabeledSamples, draw_labeled, draws_by_label, sampleable_classes
from convae.latents.neighborhood import find_neighbors
from convae.latents.projection import Projection, project
from convae.latents.quantized import nearest_latents
from convae.latents.refinement import refine
from convae.latents.session import Session
from convae.latents.tiling import TileDifference, measure_tiles
from convae.latents.translation import find_class_direction, find_direction, translate
from convae.latents.traversals import build_latent_grid, kl_per_dimension, rank_by_kl, traverse

__all__ = [
    "CONFIDENCE",
    "Agreement",
    "ClassGaussians",
    "Clusters",
    "Decodable",
    "EncodedInputs",
    "Encoding",
    "EvalBatch",
    "FileShard",
    "LabeledSamples",
    "Projection",
    "Session",
    "TileDifference",
    "build_latent_grid",
    "class_number",
    "cluster",
    "decode",
    "draw_labeled",
    "draw_latents",
    "draws_by_label",
    "encode",
    "encode_to",
    "find_class_direction",
    "find_direction",
    "find_image",
    "find_neighbors",
    "fit_class_gaussians",
    "impute",
    "interpolate",
    "interpolate_path",
    "is_image_file",
    "iterate_decodable",
    "iterate_decoded",
    "iterate_latents",
    "kl_per_dimension",
    "map_errors",
    "measure_agreement",
    "measure_tiles",
    "nearest_latents",
    "project",
    "rank_by_kl",
    "read_images",
    "read_labels",
    "read_latents",
    "read_manifest",
    "read_model_identity",
    "refine",
    "sampleable_classes",
    "translate",
    "traverse",
]
