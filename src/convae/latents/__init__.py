"""The latents room: what a trained model's latent space can do.

Every tool is a function from tensors to tensors; commands draw and save what it gives.
"""

from __future__ import annotations

from convae.latents.anomalies import explain
from convae.latents.classes import Classes, classes
from convae.latents.clusters import Agreement, Clusters, agreement, cluster
from convae.latents.decodable import Decodable, encoded_by, iterate_decodable
from convae.latents.decoding import decode, decoded
from convae.latents.drawing import draw
from convae.latents.encoding import Encoding, FileShard, encode, encode_to, iterate_latents, read_latents, read_manifest
from convae.latents.fitted import FittedPrior, fit_prior
from convae.latents.interpolation import interpolate, path
from convae.latents.labelled import CONFIDENCE, Labelled, draw_labelled, known_classes
from convae.latents.neighbourhood import neighbours
from convae.latents.projection import Projection, project
from convae.latents.quantized import nearest_latents
from convae.latents.translation import direction, direction_of_label, translate
from convae.latents.walks import by_information, information, manifold, traverse

__all__ = [
    "CONFIDENCE",
    "Agreement",
    "Classes",
    "Clusters",
    "Decodable",
    "Encoding",
    "FileShard",
    "FittedPrior",
    "Labelled",
    "Projection",
    "agreement",
    "by_information",
    "classes",
    "cluster",
    "decode",
    "decoded",
    "direction",
    "direction_of_label",
    "draw",
    "draw_labelled",
    "encode",
    "encode_to",
    "encoded_by",
    "explain",
    "fit_prior",
    "information",
    "interpolate",
    "iterate_decodable",
    "iterate_latents",
    "known_classes",
    "manifold",
    "nearest_latents",
    "neighbours",
    "path",
    "project",
    "read_latents",
    "read_manifest",
    "translate",
    "traverse",
]
