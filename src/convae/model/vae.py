"""The variational autoencoder: encoder, bottleneck, decoder and likelihood, any modules that map shapes as stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from convae.core.arguments import Named
from convae.core.description import Spec
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.types import (
    LatentLayout,
    Shape,
)
from convae.model.autoencoder import Autoencoder
from convae.model.bottlenecks.base import Bottleneck
from convae.model.condition import Condition
from convae.model.described import ModelDescription
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.parts import build_prior, check_shapes, name_streams
from convae.model.priors.base import Prior
from convae.model.provenance import Provenance


class VAE(Autoencoder):
    """A convolutional variational autoencoder.

        image ── encoder ──> features ── bottleneck ──> latent ── decoder ──> raw ── likelihood head ──> p(x | z)
                                            │              │
                                            │              └── classifier ──> logits, in models that have one
                                            └──> q(z | x), costs

    The decoder may hold further latents (layer `latent`), whose posteriors see named features of the encoder; the
    bottleneck is then the top of a hierarchy, and all latents together form one tensor (`latent_layout`).

    Encoder, decoder and classifier are any modules; `convae.build` makes them of a description. A conditional model
    concatenates the class embedding of the label to the input of encoder and decoder, so encode, decode and sample
    take labels; other models ignore them.

    Images are float tensors (batch, channel, *sizes) in [0, 1].

    Args:
        encoder: (batch, channel, *sizes) to features; `channel` counts the condition's channels too.
        bottleneck: features to latents; made for the shape of the encoder's features.
        decoder: (batch, *latent) to the raw values of the likelihood, (batch, raw channels, *sizes).
        likelihood: the head that turns raw values into p(x | z).
        input_shape: (channels, *sizes) of the images, with one, two or three spatial axes.
        prior: p(z); without it, the default prior of the bottleneck.
        classifier: latents to logits, (batch, class).
        condition: the class embedding of a conditional model.
        name: of the model, in messages and artifacts.

    Raises:
        ShapeError: a part does not accept its input shape, or the decoder's output does not match the images.
        ConfigError: the model has a classifier and a condition, or a condition and a prior that encodes images.
    """

    def __init__(
        self,
        encoder: nn.Module,
        bottleneck: Bottleneck,
        decoder: nn.Module,
        likelihood: LikelihoodHead,
        *,
        input_shape: Shape,
        prior: Prior | None = None,
        classifier: nn.Module | None = None,
        condition: Condition | None = None,
        name: str = "vae",
    ) -> None:
        super().__init__()
        if classifier is not None and condition is not None:
            raise ConfigError(
                f"model '{name}' has a condition and a classifier, but the latent of a conditional model need not hold "
                "the class. Remove one of them"
            )
        self.input_shape: Shape = tuple(input_shape)
        self.name = name
        self.provenance = Provenance()
        self.condition = condition
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.classifier = classifier
        self.head = likelihood
        self._set_prior(prior or build_prior(bottleneck.default_prior, bottleneck, decoder))
        self._places = name_streams(self)
        self.latent_layout = LatentLayout(tuple((each.stream, each.latent_shape) for each in self.latent_modules))
        self._description: ModelDescription | None = None
        extra = 0 if condition is None else condition.channels
        self._logits = check_shapes(self.input_shape, encoder, bottleneck, decoder, likelihood, classifier, extra)

    def described_by(self, spec: Spec, rebuild: Callable[[Shape], VAE]) -> None:
        """Attaches the description that the model was built from, as long as its parts stay as they are.

        Args:
            spec: the description.
            rebuild: makes the same model for another input shape, on the meta device.
        """
        self._description, self._rebuild = ModelDescription.of(self, spec), rebuild

    def replace_prior(self, prior: Prior, entry: Named) -> None:
        """Replaces the prior by one that was made for this model's bottleneck.

        Args:
            prior: on the device of the model.
            entry: its name and arguments, for the description.
        """
        self._set_prior(prior)
        if self._description is not None:
            written = self._description.written.model_copy(update={"prior": entry})
            self._description = ModelDescription.of(self, written)

    def _set_prior(self, prior: Prior) -> None:
        """Sets the prior, and gives it the encoder.

        Raises:
            ConfigError: it encodes images of its own, which have no labels, and the model is conditional.
        """
        if self.condition is not None and type(prior).bind is not Prior.bind:
            raise ConfigError(
                f"model '{self.name}' is conditional, but its prior {type(prior).__name__} encodes images of its own, "
                "which have no labels. Use another prior, such as mixture"
            )
        prior.bind(self._encode_pseudo, self.input_shape)
        self.prior = prior

    def with_sizes(self, sizes: int | Sequence[int]) -> VAE:
        """The same model for images of other sizes, with the same parameters, in evaluation mode.

        `encode`, `decode` and `forward` take other sizes without it; tools that read images need it to resize them.

        Args:
            sizes: one for each spatial axis, or one for all.

        Raises:
            ShapeError: the model does not accept images of these sizes, or its prior depends on them.
            ConfigError: the model was made of modules.
        """
        axes = len(self.input_shape) - 1
        shape = (self.input_shape[0], *((sizes,) * axes if isinstance(sizes, int) else sizes))
        if shape == self.input_shape:
            return self
        if self._rebuild is None:
            raise ConfigError(f"model '{self.name}' was made of modules. Make it for {shape_text(shape)} in your code")
        self._fit(shape)
        model: VAE = self._rebuild(shape)
        own = self.state_dict()
        if changed := [name for name, each in model.state_dict().items() if each.shape != own[name].shape]:
            raise ShapeError(f"model '{self.name}' depends on {shape_text(self.input_shape)} ({changed[0]})")
        model.load_state_dict(own, assign=True)
        model.name, model.provenance = self.name, self.provenance
        return model.eval()

    def extra_repr(self) -> str:
        """Name and shapes, for `print(model)`."""
        return f"'{self.name}', input {shape_text(self.input_shape)}, latent {shape_text(self.latent_shape)}"

    @property
    def is_described(self) -> bool:
        """Whether the model has a description; one that was made of modules has none."""
        return self._description is not None

    @property
    def class_count(self) -> int | None:
        """Number of classes of the classifier or the condition; None without either."""
        return self.condition.classes if self.condition is not None else self._logits

    @property
    def spec(self) -> Spec:
        """The canonical description: presets and repeats expanded.

        Raises:
            ConfigError: the model was made of modules, or was changed after it was built.
        """
        if self._description is None:
            raise ConfigError(
                f"model '{self.name}' was made of modules and has no description. "
                "Load its weights with convae.load(path, model=...), where your code makes the model"
            )
        return self._description.canonical(self)
