"""Latent space tools of a trained model.

`Session` opens a model with its data; every tool is a function from tensors to tensors.
"""

from __future__ import annotations

from convae.latents.anomalies import explain
from convae.latents.batches import EvalBatch
from convae.latents.class_labels import class_number, labels_of
from convae.latents.classes import Classes, classes
from convae.latents.clusters import Agreement, Clusters, agreement, cluster
from convae.latents.decodable import Decodable, encoded_by, iterate_decodable
from convae.latents.decoding import decode, iterate_decoded
from convae.latents.drawing import draw
from convae.latents.encoding import Encoding, encode
from convae.latents.folders import FileShard, encode_to, iterate_latents, read_latents, read_manifest
from convae.latents.inputs import EncodedInputs, images_at, is_image_file, position
from convae.latents.interpolation import interpolate, path
from convae.latents.labeled import CONFIDENCE, LabeledSamples, draw_labeled, draws_by_label, known_classes
from convae.latents.neighborhood import neighbors
from convae.latents.projection import Projection, project
from convae.latents.quantized import nearest_latents
from convae.latents.session import Session
from convae.latents.translation import direction, direction_of_label, translate
from convae.latents.traversals import kl_per_dimension, manifold, rank_by_kl, traverse

__all__ = [
    "CONFIDENCE",
    "Agreement",
    "Classes",
    "Clusters",
    "Decodable",
    "EncodedInputs",
    "Encoding",
    "EvalBatch",
    "FileShard",
    "LabeledSamples",
    "Projection",
    "Session",
    "agreement",
    "class_number",
    "classes",
    "cluster",
    "decode",
    "direction",
    "direction_of_label",
    "draw",
    "draw_labeled",
    "draws_by_label",
    "encode",
    "encode_to",
    "encoded_by",
    "explain",
    "images_at",
    "interpolate",
    "is_image_file",
    "iterate_decodable",
    "iterate_decoded",
    "iterate_latents",
    "kl_per_dimension",
    "known_classes",
    "labels_of",
    "manifold",
    "nearest_latents",
    "neighbors",
    "path",
    "position",
    "project",
    "rank_by_kl",
    "read_latents",
    "read_manifest",
    "translate",
    "traverse",
]
