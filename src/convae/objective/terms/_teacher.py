"""Terms that compare the model with a trained one, its teacher."""

from __future__ import annotations

from convae.core.errors import ConfigError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.vae import VAE
from convae.objective.terms.base import NO_TEACHER, Term


class TeacherTerm(Term):
    """A term that compares the model with its teacher, the trained model of `start`, which is frozen."""

    _teacher: tuple[VAE, ...] = ()  # in a tuple, so that it is no submodule
    _shapes: tuple[Shape, Shape] | None = None

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Records the shapes of the model."""
        self._shapes = tuple(latent_shape), tuple(image_shape)

    def bind_teacher(self, teacher: VAE) -> None:
        """Sets the teacher.

        Raises:
            ConfigError: its latents or its images are not those of the model.
        """
        if teacher.is_hierarchical:
            raise ConfigError("the teacher has several latents, whose decoder cannot be distilled. Use another teacher")
        for what, own, its in zip(
            ("latents", "images"), self._shapes or (), (teacher.latent_shape, teacher.input_shape), strict=False
        ):
            if own != tuple(its):
                raise ConfigError(
                    f"the {what} of the teacher are {shape_text(its)}, but those of the model {shape_text(own)}"
                )
        self._teacher = (teacher,)

    @property
    def teacher(self) -> VAE:
        """The teacher.

        Raises:
            ConfigError: there is none.
        """
        if not self._teacher:
            raise ConfigError(NO_TEACHER)
        return self._teacher[0]
