"""The keys of recipes, of a model and of a prior that is fitted to one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from convae.core.arguments import Fraction, Named, NonNegative, NonNegativeFloat, Positive, PositiveFloat, split_name
from convae.core.config import Config
from convae.core.paths import check_name, safe_name
from convae.data import AugmentConfig, DataConfig
from convae.model.pretrained import ModelPath
from convae.objective.terms import TERMS

PrecisionName = Literal["auto", "float32", "bf16", "fp16"]
_OF_MODELS = ("latent", "likelihood", "preset", "bottleneck", "classifier", "condition", "encoder", "decoder")
"""Keys of `model` that users often write at the top level."""


def _count_or_fraction(value: float) -> float:
    if isinstance(value, float) and not value <= 1:
        raise ValueError("must be a fraction of at most 1, or an integer")
    return value


class OptimizerConfig(Config):
    """Optimizer and learning rate."""

    name: Named = "adam"
    """`adam`, `adamw`, `muon`, `sgd`, or the path of a class of torch; with options, a mapping of the name to them."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate."""
    schedule: float | Named = "cosine"
    """Factor on the learning rate, a schedule such as `constant` or `cosine`."""
    warmup: Fraction = 0.02
    """Fraction of the training over which the learning rate rises from zero."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay, except of biases, norms and other parameters with one value per channel."""
    clip: PositiveFloat | None = None
    """Gradient clipping: largest norm of the gradient of all parameters."""
    skip_above: PositiveFloat | None = None
    """Skip steps with a larger gradient norm, which stabilizes deep hierarchies (Child 2021, arXiv:2011.10650).
    Choose a value well above the usual `gradient_norm` in the log; `above_limit` is the fraction of skipped steps."""


class LabeledConfig(Config):
    """Labeled images that are drawn into every batch, in place of other images, again and again."""

    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Fraction of each batch."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of these images, in place of `data.augment`."""


class TrainingConfig(Config):
    """Length, optimizer, precision and logging."""

    epochs: Positive | None = None
    """Epochs. By default 10, or as many as make 1,000 steps."""
    steps: Positive | None = None
    """Length in steps, instead of epochs."""
    minutes: PositiveFloat | None = None
    """Time limit in minutes, after which training stops with a model, pictures and a checkpoint to continue from.
    Schedules depend on steps, so choose a length that fits the time."""
    batch_size: Positive = 64
    """Images per step, over all processes."""
    accumulate: Positive = 1
    """Number of slices of a batch for gradient accumulation, to save memory; the step is that of the batch."""
    sync_batch_norm: bool = False
    """Synchronized batch norm under torchrun: statistics over all processes."""
    shard: bool = False
    """Shard parameters, gradients and optimizer state under torchrun (FSDP2), for models larger than one device; by
    default, each process has a replica (DDP)."""
    checkpointing: bool = False
    """Gradient checkpointing: recompute activations in the backward pass, for less memory, more time and the same
    gradients."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights and of the running statistics of batch norm, such as 0.999, used for
    validation, pictures and the saved model."""
    labels: Annotated[int | float, Field(gt=0), AfterValidator(_count_or_fraction)] | None = None
    """Number of training images that keep their label, or a fraction such as 0.05, balanced over the classes. All by
    default."""
    labeled: LabeledConfig | None = None
    """Labeled images that are drawn into every batch, where few images have a label."""
    freeze: tuple[str, ...] = ()
    """Frozen parts (`encoder`, `decoder` …), or patterns of parameter names, in every stage."""
    cache_latents: bool = False
    """Encode the training images once, in stages that freeze encoder and bottleneck, and keep the result in the cache
    (`convae cache`). Each step draws new latents; needs images without augmentation."""
    augmentation: float | Named = 1.0
    """Factor on the amounts of `data.augment`, a number or a schedule, with one value per epoch."""
    temperature: float | Named = 1.0
    """Factor on the standard deviation of posterior samples in training, a number or a schedule; 0 uses the means.
    Validation uses 1."""
    seed: NonNegative = 0
    """Seed of initial weights, order and noise."""
    image_mean: tuple[Fraction, ...] | None = None
    """Mean of each channel of the images, at which the output of a decoder with random weights starts. By default that
    of the training images, recorded by the run."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` uses CUDA, then MPS, then the CPU."""
    precision: PrecisionName = "auto"
    """Precision of matrix products and convolutions: `auto` is bf16 if the hardware supports it, otherwise float32;
    fp16 uses a loss scale. Weights, validation and pictures are float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile encoder and decoder by `torch.compile`: `auto` does on CUDA for trainings of 2,000 steps or more, with
    CUDA graphs where a step is short. Results are equal up to rounding."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and learning rate."""
    log_every: Positive = 50
    """Steps between two rows of training metrics."""
    checkpoint_every: Positive | None = None
    """Steps between two checkpoints; by default one at the end of each epoch."""
    keep: Positive = 2
    """Number of checkpoints to keep."""
    pictures_every: NonNegative = 1
    """Epochs between two sets of pictures; 0 for none."""
    loggers: tuple[Named, ...] = ()
    """Programs that receive metrics and pictures, such as `[tensorboard, trackio]`. Each needs its own extra."""


class PlateauConfig(Config):
    """A plateau of a metric on the validation images, or without them on the training images."""

    metric: str = "total"
    """The metric: a term of the objective, or `total` with the weights at the end of the stage."""
    patience: Positive = 5
    """Epochs without improvement after which the stage ends."""
    threshold: NonNegativeFloat = 1e-3
    """Relative decrease that counts as an improvement."""
    after: NonNegativeFloat = 0.0
    """Epochs of the stage before the metric is monitored, for instance until all schedules are constant."""


class UntilConfig(Config):
    """Early stopping of a stage."""

    plateau: PlateauConfig
    """A metric that no longer improves."""


class StageConfig(Config):
    """A stage of the training, with options that differ from the recipe. The next stage continues with its weights."""

    name: str | None = None
    """Name in curves and logs; by default `stage 1`, `stage 2` …"""
    epochs: Positive | None = None
    """Length in epochs; with `until`, the maximum."""
    steps: Positive | None = None
    """Length in steps, instead of epochs."""
    until: UntilConfig | None = None
    """Early stopping."""
    freeze: tuple[str, ...] = ()
    """Frozen parts (`encoder`, `decoder` …), or patterns of parameter names."""
    objective: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changed terms, option by option; their schedules begin with the stage."""
    optimizer: dict[str, Any] | None = None
    """A new optimizer: changed options of `training.optimizer`, with a schedule that begins with the stage."""

    @model_validator(mode="after")
    def _one_length(self) -> StageConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("the length is missing. Set either epochs or steps")
        return self


class StartConfig(Config):
    """A saved model from whose weights, statistics and codes training starts."""

    model: ModelPath
    """Path of a run or of a saved model, or the name of a pretrained model; `start` with it alone is short. With
    `importer`, a file of weights of another project, such as `weights.pth` or `weights.safetensors`."""
    importer: str | None = None
    """Project that wrote the file of weights, such as `torch-vae`."""
    key: str | None = None
    """Key of the weights in a file of several models."""
    which: Literal["best", "last"] = "best"
    """Model of a run: the best on the validation images, or the last one."""
    parts: tuple[str, ...] = ()
    """Parts to load (`encoder`, `bottleneck`, `decoder` …); the others start from random weights. By default the entire
    model."""
    sha256: str | None = None
    """SHA-256 of description and weights, recorded by the run; a different model is refused."""

    @model_validator(mode="after")
    def _key_of_a_file(self) -> StartConfig:
        if self.importer is None and self.key is not None:
            raise ValueError("key applies to files of weights only. Set importer")
        return self


class AdapterConfig(Config):
    """Low-rank adapters (LoRA, arXiv:2106.09685) of a model that starts from trained weights; only they are trained."""

    rank: Positive = 8
    """Rank of the update of each weight."""
    alpha: PositiveFloat | None = None
    """The update is scaled by alpha / rank. By default 1."""
    parts: tuple[str, ...] = ("decoder",)
    """Parts with adapters (`encoder`, `decoder` …); all others are frozen."""
    layers: tuple[str, ...] = ()
    """Patterns of weight names, such as `decoder.3.*`. By default all weights of linear layers and convolutions."""


class Recipe(Config):
    """A recipe."""

    other_names: ClassVar[Mapping[str, str]] = {
        "beta": "objective.kl.weight",
        "learning_rate": "training.optimizer.lr",
        "gpu": "training.device",
        "image_size": "data.size",
    }

    name: Annotated[str, AfterValidator(check_name)] | None = None
    """Name of the run, and of its folder in `runs/`."""
    data: DataConfig
    """Images, size and splits."""
    start: StartConfig | None = None
    """The model from which training starts; by default random weights."""
    model: dict[str, Any]
    """`preset` and its arguments, or a description; a name or path is short for either. By default that of `start`; the
    path of a saved model means its description and weights."""
    adapters: AdapterConfig | None = None
    """Train low-rank adapters instead of the weights; they become part of the weights in the saved model."""
    objective: dict[str, dict[str, Any]]
    """Terms by name, each with a `weight` (a number or a schedule) and its arguments. By default `reconstruction`, `kl`
    for latents with a density, and the terms that the model requires."""
    training: TrainingConfig = TrainingConfig()
    """Length, optimizer, precision and logging."""
    stages: tuple[StageConfig, ...] = ()
    """Stages of the training, in order; by default one."""

    @model_validator(mode="after")
    def _one_plan(self) -> Recipe:
        if self.stages and (self.training.epochs or self.training.steps):
            raise ValueError("the length is that of the stages. Remove training.epochs and training.steps")
        return self

    @model_validator(mode="after")
    def _whole_where_augmented(self) -> Recipe:
        labeled = self.training.labeled
        if self.data.missing is not None and labeled is not None and labeled.augment != AugmentConfig():
            raise ValueError("training.labeled.augment is not supported with missing values. Remove it")
        return self

    @classmethod
    def paths(cls) -> list[str]:
        """The paths of all keys except those of stages, with common keys of terms and models."""
        own = [path for path in super().paths() if not path.startswith("stages.")]
        return [*own, *(f"objective.{name}" for name in TERMS.names()), *(f"model.{name}" for name in _OF_MODELS)]

    @property
    def title(self) -> str:
        """The name, or one made from data and model."""
        if self.name:
            return self.name
        preset = self.model.get("preset", self.model.get("name", "vae"))
        source = self.data.source if isinstance(self.data.source, str) else next(iter(self.data.source))
        return safe_name(f"{Path(source).name}-{preset}")


class PriorRecipe(Config):
    """The recipe of `convae prior`: fits a prior to a trained model."""

    other_names: ClassVar[Mapping[str, str]] = {"learning_rate": "training.optimizer.lr", "model": "start.model"}

    name: Annotated[str, AfterValidator(check_name)] | None = None
    """Name of the run, and of its folder in `runs/`."""
    start: StartConfig
    """The trained model, whose weights stay fixed."""
    prior: Named
    """The prior and its arguments, such as `{transformer: {layers: 4}}`."""
    data: DataConfig
    """Images to whose latents the prior is fitted; by default the training data of the model."""
    training: TrainingConfig = TrainingConfig()
    """Length, optimizer, precision and logging."""

    @property
    def title(self) -> str:
        """The name, or one made from the model and the prior."""
        model = (
            self.start.model.name if self.start.model.name not in ("model", "last") else self.start.model.parent.name
        )
        return self.name or safe_name(f"{model}-{split_name(self.prior, 'prior')[0]}")
