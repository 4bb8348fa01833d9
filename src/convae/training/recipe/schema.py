"""The keys of a recipe: everything that a run is a function of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from convae.core.arguments import Fraction, Named, NonNegative, NonNegativeFloat, Positive, PositiveFloat
from convae.core.config import Config
from convae.core.paths import check_name, safe_name
from convae.data import DataConfig
from convae.objective.terms import TERMS

PrecisionName = Literal["auto", "float32", "bf16", "fp16"]
_OF_MODELS = ("latent", "likelihood", "preset", "bottleneck", "classifier", "condition", "encoder", "decoder")
"""Keys of the model that people write on the level above."""


def _whole_or_share(value: float) -> float:
    if isinstance(value, float) and not value <= 1:
        raise ValueError("a share of the labels is at most 1, and a number of them is whole")
    return value


class OptimizerConfig(Config):
    """How weights follow gradients."""

    name: Literal["adam", "adamw"] = "adam"
    """`adam`, or `adamw` for weight decay apart from the gradient."""
    lr: PositiveFloat = 1e-3
    """Largest learning rate."""
    schedule: float | Named = "cosine"
    """Factor on the learning rate over the training, a schedule such as `constant` or `cosine`."""
    warmup: Fraction = 0.02
    """Share of the training over which the learning rate first rises from zero."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the running mean of gradients and of their squares."""
    weight_decay: NonNegativeFloat = 0.0
    """On weights; never on biases, norms and other single numbers a channel."""
    clip: PositiveFloat | None = None
    """Largest norm of the gradient of all parameters together; longer ones are scaled down."""
    skip_above: PositiveFloat | None = None
    """Steps with a larger gradient norm are skipped, which keeps deep hierarchies stable (Child 2021).
    Choose it well above the usual `gradient_norm` of the log, whose `above_limit` is the fraction of such steps."""


class TrainingConfig(Config):
    """Length, optimizer, precision and logging."""

    epochs: Positive | None = None
    """Passes through the training images. Where nothing says how long: 10, or as many as make 1,000 steps."""
    steps: Positive | None = None
    """Stop after so many steps instead."""
    minutes: PositiveFloat | None = None
    """Stop after so many minutes of training, with a model, pictures and a checkpoint to continue from. Schedules go by
    steps all the same: choose a length that the time is about enough for."""
    batch_size: Positive = 64
    """Images in a step; under torchrun, of all processes together."""
    accumulate: Positive = 1
    """Parts in which a batch goes through the model, for less memory; the step is that of the whole batch."""
    sync_batch_norm: bool = False
    """Under torchrun, take the statistics of batch norms over the images of all processes, not over each one's own."""
    shard: bool = False
    """Under torchrun, cut parameters, gradients and optimizer into a part for each process (FSDP2), for models that one
    device cannot hold; without it, each process has them all (DDP)."""
    checkpointing: bool = False
    """Keep only a part of what lies between layers, and compute the rest again in the backward pass: less memory, more
    time, the same gradients."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights, such as 0.999, with which the model is validated, shown and saved."""
    labels: Annotated[int | float, Field(gt=0), AfterValidator(_whole_or_share)] | None = None
    """Training images that keep their label: a whole number of them, or a share such as 0.05; as many of each class.
    Without it, all."""
    augmentation: float | Named = 1.0
    """Factor on the random changes of `data.augment`, a number or a schedule, with one value for each epoch."""
    temperature: float | Named = 1.0
    """Factor on the standard deviation with which latents are drawn from posteriors in training, a number or a
    schedule; 0 draws their means. Validation takes 1."""
    seed: NonNegative = 0
    """Of everything random: initial weights, order, noise."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes CUDA, then MPS, then the CPU."""
    precision: PrecisionName = "auto"
    """In what a step computes where nothing is lost by it: `auto` is bf16 where the hardware has it, else float32; fp16
    scales the loss. What is saved, validated and shown is float32."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights follow gradients."""
    log_every: Positive = 50
    """Steps between two rows of training figures."""
    checkpoint_every: Positive | None = None
    """Steps between two checkpoints; without it, one at the end of each epoch."""
    keep: Positive = 2
    """How many of the newest checkpoints are kept."""
    pictures_every: NonNegative = 1
    """Epochs between two sets of pictures; 0 for none."""
    tensorboard: bool = False
    """Write the figures for TensorBoard, too, into `tensorboard/` of the run; needs the extra of that name."""


class PlateauConfig(Config):
    """When a figure no longer gets better, on the validation images, or without them on the training images."""

    of: str = "total"
    """A term of the objective, or `total`, with the weights of the stage's end."""
    patience: Positive = 5
    """Epochs without a better figure after which the stage is over."""
    change: NonNegativeFloat = 1e-3
    """Share of the best figure by which another has to be lower to count as better."""
    after: NonNegativeFloat = 0.0
    """Epochs of the stage before the figure is watched, for instance until all weights have their last value."""


class UntilConfig(Config):
    """What ends a stage before its time."""

    plateau: PlateauConfig
    """A metric that no longer improves."""


class StageConfig(Config):
    """A part of the training, with what is different in it. The next stage goes on with its weights."""

    name: str | None = None
    """What curves and logs call it; otherwise `stage 1`, `stage 2` …"""
    epochs: Positive | None = None
    """Its length in epochs; with `until`, the longest it may take."""
    steps: Positive | None = None
    """Its length in steps, instead."""
    until: UntilConfig | None = None
    """What ends it sooner: early stopping."""
    freeze: tuple[str, ...] = ()
    """Parts that keep their weights and statistics (`encoder`, `decoder` …), or patterns of parameters' names."""
    objective: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Terms that are other than the recipe's, option by option; their schedules begin with the stage."""
    optimizer: dict[str, Any] | None = None
    """A new optimizer: options other than `training.optimizer`'s, on a clock that begins with the stage."""

    @model_validator(mode="after")
    def _one_length(self) -> StageConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("needs its length: either epochs or steps")
        return self


class StartConfig(Config):
    """The saved model whose weights, statistics and codes a run begins with, in place of random ones."""

    model: Path
    """Path of a run or of a saved model. A path in the place of the whole mapping is the short form. With
    `importer`, a file of weights of another project: `.pt`, `.pth` or `.safetensors`."""
    importer: str | None = None
    """Which project wrote the file of weights, such as `torch-vae`."""
    key: str | None = None
    """Where the weights are in a file of several models."""
    which: Literal["best", "last"] = "best"
    """Of a run: the model that was best on the validation images, or the last one."""
    parts: tuple[str, ...] = ()
    """Parts that are taken (`encoder`, `bottleneck`, `decoder` …); all others begin at random. Without it, the whole
    model."""
    sha256: str | None = None
    """SHA-256 of description and weights, which a run writes into its recipe; another model is then refused."""

    @model_validator(mode="after")
    def _key_of_a_file(self) -> StartConfig:
        if self.importer is None and self.key is not None:
            raise ValueError("key belongs to a file of weights: say which project wrote it by importer")
        return self


class Recipe(Config):
    """A whole experiment."""

    other_names: ClassVar[Mapping[str, str]] = {
        "beta": "objective.kl.weight",
        "learning_rate": "training.optimizer.lr",
        "gpu": "training.device",
        "image_size": "data.size",
    }

    name: Annotated[str, AfterValidator(check_name)] | None = None
    """What the run is called, and its folder in `runs/`."""
    data: DataConfig
    """Which images, at which size, split how."""
    start: StartConfig | None = None
    """The model that training begins with; without it, random weights."""
    model: dict[str, Any]
    """A preset's name under `preset` and its arguments, or a whole description; a name or path stands for either.
    Without it, that of `start`; the path of a saved model stands for its description and its weights."""
    objective: dict[str, dict[str, Any]]
    """Terms by name, each with a `weight` (a number or a schedule) and its own arguments."""
    training: TrainingConfig = TrainingConfig()
    """Length, optimizer, precision and logging."""
    stages: tuple[StageConfig, ...] = ()
    """Parts of the training, one after another; without any, it is one stage."""

    @model_validator(mode="after")
    def _one_plan(self) -> Recipe:
        if self.stages and (self.training.epochs or self.training.steps):
            raise ValueError("the stages say how long training takes: leave training.epochs and training.steps out")
        return self

    @classmethod
    def paths(cls) -> list[str]:
        """The paths of all keys but those of stages, with terms and what models often have."""
        own = [path for path in super().paths() if not path.startswith("stages.")]
        return [*own, *(f"objective.{name}" for name in TERMS.names()), *(f"model.{name}" for name in _OF_MODELS)]

    @property
    def title(self) -> str:
        """The name, or one made of the data and the model."""
        if self.name:
            return self.name
        preset = self.model.get("preset", self.model.get("name", "vae"))
        source = self.data.source if isinstance(self.data.source, str) else next(iter(self.data.source))
        return safe_name(f"{Path(source).name}-{preset}")
