"""Folders of diffusers, which `from_pretrained` loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from convae.core.errors import ConfigError
from convae.core.file_sets import begin_file_set
from convae.core.files import write_bytes, write_json
from convae.interop.exporters.base import ExportedFile, Exporter
from convae.interop.importers.diffusers import COUNTER, VARIANCE, diffusers
from convae.interop.published import CONFIG, WEIGHTS
from convae.interop.structures import STRUCTURES
from convae.interop.structures.base import Structure
from convae.model.likelihoods.base import LocationScaleHead
from convae.model.priors.standard_normal import StandardNormal
from convae.model.vae import VAE
from convae.model.weights import State

VERSION = "0.30.0"
"""The version of diffusers stated in the configuration: one that has all of its keys."""


class Diffusers(Exporter):
    """Configuration and weights of AutoencoderKL, AutoencoderKLFlux2, AutoencoderTiny, AutoencoderDC or VQModel."""

    def export(self, model: VAE, folder: Path, *, graphs: Sequence[str] | None, force: bool) -> Iterator[ExportedFile]:
        """Writes config.json and the weights of a model whose layers are those of one of the classes.

        The files are read again; their weights are those of the model, bit for bit.

        Raises:
            ConfigError: graphs were named, or the model has other layers; the message says where they differ.
        """
        if graphs:
            raise ConfigError("diffusers has no graphs: leave --graph out, or use --to onnx")
        structure = find_structure(model)
        state = published_state(structure, model)
        config = {"_class_name": structure.class_name, "_diffusers_version": VERSION, **structure.published()}
        again = diffusers(dict(state), config).model.state_dict()
        own = model.state_dict()
        for name in again:
            if not torch.equal(again[name], own[name].float()) and not structure.is_derived(name):
                raise ConfigError(f"'{name}' cannot be exported: its values change")
        paths = begin_file_set(folder, [CONFIG, WEIGHTS[0]], force=force)
        write_json(paths[0], config)
        write_bytes(paths[1], save(state, metadata={"format": "pt"}))
        yield ExportedFile("weights", paths[1], {}, 0.0, tuple(_notes(model)))


def find_structure(model: VAE) -> Structure:
    """The published structure that a model has.

    Raises:
        ConfigError: it has none; the message says where it differs from each.
    """
    if not model.is_described:
        raise ConfigError(f"model '{model.name}' was made of modules. Only described models are exported to diffusers")
    if model.condition is not None:
        raise ConfigError(f"model '{model.name}' is conditional, which no autoencoder of diffusers is")
    if not isinstance(model.head, LocationScaleHead) or model.head.link != "identity" or model.head.scale == "pixel":
        raise ConfigError(
            f"model '{model.name}': the decoder gives no images. Use the likelihood {{gaussian: {{link: identity}}}}"
        )
    reasons = []
    for name in STRUCTURES.names():
        structure: type[Structure] = STRUCTURES.get(name)
        try:
            return structure.of_model(model)
        except ConfigError as error:
            reasons.append(f"{structure.class_name}: {error}")
    raise ConfigError(f"model '{model.name}' has the layers of no autoencoder of diffusers. {'; '.join(reasons)}")


def published_state(structure: Structure, model: VAE) -> State:
    """The tensors of a model under their published names, in float32."""
    tensors, state = model.state_dict(), State()
    for each in structure.renamings(model):
        value = tensors[each.name].detach().cpu().float()
        value = value.flatten(1) if each.is_linear and value.ndim > 2 else value
        for name, part in zip(each.sources, value.chunk(len(each.sources)), strict=True):
            state[name] = part.clone().contiguous()
            if name.endswith(VARIANCE):
                state[f"{name.removesuffix(VARIANCE)}{COUNTER}"] = torch.zeros((), dtype=torch.int64)
    return {**state, **structure.export_further(model.provenance.latent_scale)}


def _notes(model: VAE) -> Iterator[str]:
    """What of a model is not in the exported files."""
    if model.classifier is not None:
        yield "the classifier was left out"
    if model.provenance.latent_scale is None:
        yield "no scale of the latents is stored: scaling_factor is 1. Measure it with convae latents stats"
    if not isinstance(model.prior, StandardNormal) and not model.latent_modules[0].is_discrete:
        yield "the prior was left out"
