"""Model folders for `from_pretrained` of diffusers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from convae.core.errors import ConfigError
from convae.core.file_sets import begin_file_set
from convae.core.files import write_bytes, write_json
from convae.interop.exporters.base import FLOAT32, ExportedFile, Exporter
from convae.interop.importers.diffusers import COUNTER, VARIANCE, diffusers
from convae.interop.precision import ExportPrecision
from convae.interop.published import CONFIG, WEIGHTS
from convae.interop.structures import STRUCTURES
from convae.interop.structures.base import Structure
from convae.model.construct import construct
from convae.model.layers import LAYERS
from convae.model.likelihoods.base import LocationScaleHead
from convae.model.priors.standard_normal import StandardNormal
from convae.model.vae import VAE
from convae.model.weights import State

VERSION = "0.30.0"
"""Version of diffusers in the configuration, which supports all of its keys."""


class Diffusers(Exporter):
    """Configuration and weights of AutoencoderKL, AutoencoderKLFlux2, AutoencoderTiny, AutoencoderDC or VQModel."""

    def export(
        self,
        model: VAE,
        folder: Path,
        *,
        graphs: Sequence[str] | None,
        force: bool,
        precision: ExportPrecision = FLOAT32,
    ) -> Iterator[ExportedFile]:
        """Exports `config.json` and weights; see `Exporter.export`.

        Importing them again restores the weights bit for bit.

        Raises:
            ConfigError: `graphs` is given, or the model has the layers of none of the classes; the message contains the
                first difference from each.
            OutputError: files exist and `force` is False, or they cannot be written.
        """
        if graphs:
            raise ConfigError("the exporter diffusers has no graphs. Omit --graph, or use --to onnx")
        model = without_training_layers(model)
        structure = find_structure(model)
        state = published_state(structure, model)
        config = {"_class_name": structure.class_name, "_diffusers_version": VERSION, **structure.published()}
        imported, original = diffusers(dict(state), config).model.state_dict(), model.state_dict()
        for name in imported:
            if not torch.equal(imported[name], original[name].float()) and not structure.is_derived(name):
                raise ConfigError(f"'{name}' cannot be exported, since its values would change")
        paths = begin_file_set(folder, [CONFIG, WEIGHTS[0]], force=force)
        write_json(paths[0], config)
        write_bytes(paths[1], save(state, metadata={"format": "pt"}))
        yield ExportedFile("weights", paths[1], {}, 0.0, tuple(_notes(model)))


def without_training_layers(model: VAE) -> VAE:
    """The model without the layers of encoder and decoder that act in training only; itself if there are none."""
    if not model.is_described:
        return model
    spec = model.spec
    kept = {
        side: [number for number, layer in enumerate(getattr(spec, side)) if not _acts_in_training_only(layer.name)]
        for side in ("encoder", "decoder")
    }
    if all(len(numbers) == len(getattr(spec, side)) for side, numbers in kept.items()):
        return model
    made = construct(
        spec.model_copy(update={side: [getattr(spec, side)[number] for number in kept[side]] for side in kept})
    )
    places = {f"{side}.{old}": f"{side}.{new}" for side, numbers in kept.items() for new, old in enumerate(numbers)}
    state = {}
    for name, value in model.state_dict().items():
        parts = name.split(".", 2)
        place = ".".join(parts[:2])
        state[".".join([places.get(place, place), *parts[2:]])] = value
    made.load_state_dict(state, assign=True)
    made.provenance = model.provenance
    return made


def _acts_in_training_only(layer: str) -> bool:
    return bool(LAYERS.get(layer).only_in_training)


def find_structure(model: VAE) -> Structure:
    """Finds the published structure of a model.

    Raises:
        ConfigError: there is none; the message contains the first difference from each.
    """
    if not model.is_described:
        raise ConfigError(f"model '{model.name}' has no description, which the exporter diffusers needs")
    if model.condition is not None:
        raise ConfigError(f"model '{model.name}' is conditional, unlike autoencoders of diffusers")
    if not isinstance(model.head, LocationScaleHead) or model.head.link != "identity" or model.head.scale == "pixel":
        raise ConfigError(
            f"model '{model.name}': the decoder output is not an image. Use likelihood {{gaussian: {{link: identity}}}}"
        )
    reasons = []
    for name in STRUCTURES.names():
        structure: type[Structure] = STRUCTURES.get(name)
        try:
            return structure.of_model(model)
        except ConfigError as error:
            reasons.append(f"{structure.class_name}: {error}")
    raise ConfigError(f"model '{model.name}' is none of the autoencoders of diffusers. {'; '.join(reasons)}")


def published_state(structure: Structure, model: VAE) -> State:
    """The tensors of a model by their published names, in float32."""
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
    """Notes on what the exported files do not contain."""
    if model.classifier is not None:
        yield "the classifier was not exported"
    if model.provenance.latent_scale is None:
        yield "the model has no latent scale, so scaling_factor is 1. Measure it with convae latents stats"
    if not isinstance(model.prior, StandardNormal) and not model.latent_modules[0].is_discrete:
        yield "the prior was not exported"
