"""Feature matching and the VAE/GAN: against a transcription of the paper, with models of every kind of latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from training.runs import RECIPE, StopAt, content

import convae
from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.vae import VAE
from convae.objective import LossInputs, Moment, Objective, build_objective
from convae.objective.terms._image_critic import ImageCritic
from convae.training import resume, train

COUNT, SIZE, GAMMA = 6, 12, 0.02
START = Moment(0, 0.0, 0.0)
SPEC: dict[str, Any] = {
    "input": [1, SIZE, SIZE],
    "encoder": [{"conv": {"channels": 3, "stride": 2}}, "silu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 4}},
    "decoder": [
        {"linear": {"features": 72}},
        "silu",
        {"unflatten": {"to": [2, 6, 6]}},
        {"conv-transpose": {"channels": 1, "stride": 2}},
    ],
    "likelihood": {"gaussian": {"link": "sigmoid"}},
}
MODELS: dict[str, dict[str, Any]] = {
    "one latent": SPEC,
    "mixture prior": {**SPEC, "prior": {"mixture": {"components": 3}}},
    "conditional": {**SPEC, "condition": {"classes": 3}},
    "sphere": {**SPEC, "bottleneck": {"von-mises-fisher": {"latent": 4}}},
    "codes": {
        **SPEC,
        "encoder": SPEC["encoder"][:-1],
        "bottleneck": {"vq": {"codes": 5, "latent": 2}},
        "decoder": ["flatten", *SPEC["decoder"]],
    },
    "hierarchy": {"preset": "ladder", "input": [1, SIZE, SIZE], "latent": 3, "size": "tiny"},
    "codes in levels": {"preset": "vq-vae-2", "input": [1, SIZE, SIZE], "channels": 8, "latent": 3, "codes": 8},
}
PATCH: dict[str, Any] = {"patch": {"channels": 3, "layers": 2, "norm": "group"}}
GAN: dict[str, Any] = {"discriminator": PATCH, "adaptive": False, "trains_encoder": False, "fakes": "both"}
PAPER = {**GAN, "loss": "minimax"}


def built(spec: dict[str, Any], terms: dict[str, Any]) -> tuple[VAE, Objective, ImageCritic]:
    model = convae.build(spec, seed=2).double().train()
    objective = build_objective(terms)
    objective.bind(model.latent_shape, model.input_shape)
    critic = objective.critics["adversarial"]
    assert isinstance(critic, ImageCritic)
    return model, objective, critic.double()


def batch() -> Batch:
    images = torch.rand(COUNT, 1, SIZE, SIZE, generator=torch_generator(0, "images"), dtype=torch.float64)
    return Batch.of(images, torch.arange(COUNT) % 3)


def noise() -> CountedNoise:
    return CountedNoise(0, (1,), 0, COUNT)


def passed(model: VAE, objective: Objective, weight: float = 1.0) -> LossInputs:
    given = batch()
    output = model(given.images, noise(), given.labels)
    return LossInputs(given.images, given.labels, output, START, weight=weight, critics=objective.critics)


def gradients(value: Tensor, module: torch.nn.Module) -> dict[str, Tensor]:
    named = dict(module.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), retain_graph=True, allow_unused=True)
    return {name: each for name, each in zip(named, found, strict=True) if each is not None and each.any()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)


def discriminate(critic: ImageCritic, x: Tensor) -> tuple[Tensor, Tensor]:
    """Dis_l(x) and Dis(x): the last hidden layer, (batch, value), and the probability of a real image, (batch,)."""
    (network,) = (module for module in critic.modules() if isinstance(module, torch.nn.Sequential))
    hidden = network[:-1](2 * x - 1)
    logit = network[-1](hidden).flatten(1)
    assert logit.shape == (COUNT, 1)
    return hidden.flatten(1), logit[:, 0].sigmoid()


def test_it_is_algorithm_1_of_the_vae_gan() -> None:
    terms = {"kl": 1, "feature-matching": {"layers": [-1]}, "adversarial": {**PAPER, "weight": 1 / GAMMA}}
    model, objective, critic = built(SPEC, terms)
    given = batch()
    output = model(given.images, noise())
    losses = objective(given, output)
    assert output.calls is not None
    # The paper, with the same latents and samples of the prior.
    z, sampled = output.latent, output.calls.sample_prior()

    def decoded(latents: Tensor) -> Tensor:
        image: Tensor = model.head(model.decoder(latents)).mean
        return image

    mean, logvar = output.posterior.mean, output.posterior.logvar
    prior = (0.5 * (mean.square() + logvar.exp() - 1 - logvar)).sum(1).mean()
    (hidden, real), (wanted, _) = discriminate(critic, given.images), discriminate(critic, decoded(z))
    similarity = (0.5 * (hidden - wanted).square()).sum(1).mean()  # of N(Dis_l(x) | Dis_l(x̃), I), without its constant
    fakes = [discriminate(critic, decoded(latents))[1] for latents in (z, sampled)]
    gan = (real.log() + sum((1 - fake).log() for fake in fakes)).mean()
    torch.testing.assert_close(losses.total.detach() - losses.terms["adversarial"].mean() / GAMMA, prior + similarity)
    torch.testing.assert_close(losses.terms["adversarial"].mean(), (gan - real.log().mean()).detach())
    for part in (model.encoder, model.bottleneck):
        assert_same(gradients(losses.total, part), gradients(prior + similarity, part))
    own = {name: GAMMA * each for name, each in gradients(losses.total, model.decoder).items()}
    assert_same(own, gradients(GAMMA * similarity + gan, model.decoder))
    loss = critic.loss(passed(model, objective)).mean()
    torch.testing.assert_close(loss, -gan.detach())
    assert_same(gradients(loss, critic), gradients(-gan, critic))


@pytest.mark.parametrize("error", ["squared", "absolute"])
@pytest.mark.parametrize("layers", [None, [0], [-1, 1]])
def test_it_compares_the_chosen_layers_of_each_scale(error: str, layers: list[int] | None) -> None:
    adversarial = {"discriminator": {"multiscale": {"scales": 2, "each": {"patch": {"channels": 3, "layers": 1}}}}}
    options = {"error": error, "layers": layers}
    model, objective, critic = built(SPEC, {"feature-matching": options, "adversarial": adversarial})
    inputs = passed(model, objective)
    wanted = []
    for x, y in zip(critic.features(inputs.images), critic.features(inputs.reconstruction), strict=True):
        assert len(x) == 2
        for number in range(2) if layers is None else layers:
            difference = (x[number] - y[number]).flatten(1)
            wanted.append(0.5 * difference.square().sum(1) if error == "squared" else difference.abs().mean(1))
    value = torch.stack(wanted)
    found = objective.terms["feature-matching"](inputs)
    torch.testing.assert_close(found, value.sum(0) if error == "squared" else value.mean(0))


def test_features_are_the_hidden_layers_before_the_logits() -> None:
    _, _, critic = built(SPEC, {"adversarial": GAN})
    ((*_, last),) = critic.features(batch().images)
    (network,) = (module for module in critic.modules() if isinstance(module, torch.nn.Sequential))
    torch.testing.assert_close(network[-1](last).flatten(1), critic(batch().images)[0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fakes", ["samples", "both"])
def test_models_of_every_latent_have_samples_for_the_discriminator(name: str, fakes: str) -> None:
    terms = {"feature-matching": 1, "adversarial": {**GAN, "fakes": fakes, "loss": "non-saturating"}}
    model, objective, critic = built(MODELS[name], terms)
    inputs = passed(model, objective)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()  # as in the step of the discriminator
    loss = critic.loss(inputs).mean()
    loss.backward()
    assert all(each.grad is None for each in model.parameters())
    assert all(each.grad is not None and each.grad.any() for each in critic.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # The samples are those of the model, from all of its latents.
    model.train()
    calls = inputs.output.calls
    assert calls is not None
    drawn = model.sample(COUNT, noise().named("prior"), batch().labels if name == "conditional" else None)
    model.eval()
    torch.testing.assert_close(calls.decode_prior().mean, drawn)
    value = objective.terms["adversarial"](inputs).sum()
    assert not gradients(value, model.encoder)
    assert not gradients(value, model.bottleneck)
    assert gradients(value, model.decoder)
    assert not gradients(value, critic)


@pytest.mark.parametrize("name", ["one latent", "hierarchy"])
def test_without_a_gradient_for_the_encoder_the_value_is_the_same(name: str) -> None:
    values = []
    for trains in (True, False):
        options = {**GAN, "fakes": "reconstructions", "trains_encoder": trains}
        model, objective, _ = built(MODELS[name], {"adversarial": options})
        values.append(objective.terms["adversarial"](passed(model, objective)))
        assert bool(gradients(values[-1].sum(), model.encoder)) == trains
    torch.testing.assert_close(*values)


def test_the_discriminator_is_trained_on_both_kinds_of_fakes() -> None:
    model, objective, critic = built(SPEC, {"adversarial": {**GAN, "loss": "hinge", "lecam": 0.5, "r2": 2.0}})
    critic.logits.copy_(torch.tensor([0.4, -0.3]))
    inputs = passed(model, objective)
    assert inputs.output.calls is not None
    x, y, z = inputs.images, inputs.reconstruction.detach(), inputs.output.calls.decode_prior().mean.detach()
    real, first, second = (critic(images)[0] for images in (x, y, z))
    hinge = 0.5 * (F.relu(1 - real) + F.relu(1 + first) + F.relu(1 + second))
    lecam = (real + 0.3).square() + (0.4 - first).square() + (0.4 - second).square()
    penalty = torch.zeros(COUNT, dtype=torch.float64)
    for images in (y, z):
        jacobian = torch.autograd.functional.jacobian(lambda image: critic(image)[0].mean(1).sum(), images)
        assert isinstance(jacobian, Tensor)
        penalty += 0.5 * 2.0 * 16 * jacobian.flatten(1).square().sum(1)
    torch.testing.assert_close(critic.loss(inputs), (hinge + 0.5 * lecam).mean(1) + penalty)
    right = ((real > 0).double() + ((first < 0).double() + (second < 0).double()) / 2).mean() / 2
    torch.testing.assert_close(critic.accuracy, right)  # of the first step


def test_with_adaptive_samples_have_the_factor_of_reconstructions() -> None:
    terms = {"reconstruction": 1, "adversarial": {"discriminator": PATCH, "fakes": "both"}}
    model, objective, critic = built(SPEC, terms)
    given = batch()
    objective(given, model(given.images, noise())).total.backward()  # measures both norms
    ratio = float(critic.ratio)
    assert ratio not in (0, 1)
    one: dict[str, Tensor] = {}
    other: dict[str, Tensor] = {}
    for adaptive, found in ((True, one), (False, other)):
        term = build_objective({"adversarial": {"discriminator": PATCH, "adaptive": adaptive, "fakes": "both"}})
        term.bind(model.latent_shape, model.input_shape)
        own = term.critics["adversarial"].double()
        own.load_state_dict(critic.state_dict())
        found.update(gradients(term(given, model(given.images, noise())).total, model.decoder))
    assert_same(one, {name: ratio * each for name, each in other.items()})


def test_image_and_reconstruction_have_the_same_augmentation() -> None:
    kinds = ["color", "translation", "cutout"]
    model, objective, critic = built(SPEC, {"feature-matching": 1, "adversarial": {**GAN, "augment": kinds}})
    for drawn in (noise(), torch_generator(0, "one for all")):
        x = model(batch().images, drawn).likelihood.mean.detach()
        inputs = LossInputs(x, None, model(batch().images, drawn), START, critics=objective.critics)
        one, other = critic.augmented_alike([x, x.clone()], inputs, "features")
        assert torch.equal(one, other)
        assert not torch.equal(one, x)


def test_with_weight_0_it_is_logged_and_has_no_gradient() -> None:
    model, objective, _ = built(SPEC, {"feature-matching": {}, "adversarial": GAN})
    values = [objective.terms["feature-matching"](passed(model, objective, weight)) for weight in (1.0, 0.0)]
    torch.testing.assert_close(values[0].detach(), values[1])
    assert not values[1].requires_grad


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"feature-matching": 1}, "adversarial"),
        ({"feature-matching": {"layers": [3]}, "adversarial": GAN}, "-3 to 2"),
        ({"feature-matching": {"layers": []}, "adversarial": GAN}, "layers"),
        ({"adversarial": {**GAN, "adaptive": True}}, "adaptive: false"),
        ({"adversarial": {"fakes": "samples"}}, "adaptive: false"),
    ],
)
def test_what_cannot_be_compared_is_refused(terms: dict[str, Any], words: str) -> None:
    model = convae.build(SPEC).train()
    with pytest.raises(ConfigError, match=f"objective.{next(iter(terms))}: .*{words}"):
        objective = build_objective(terms)
        objective.bind(model.latent_shape, model.input_shape)
        objective(batch().images.float(), model(batch().images.float()))


def test_samples_of_a_sharded_model_are_refused_in_one_sentence() -> None:
    model, objective, _ = built(SPEC, {"adversarial": GAN})
    output = model(batch().images, noise())
    next(model.parameters()).full_tensor = None  # type: ignore[attr-defined]  # as DTensor has
    with pytest.raises(ConfigError, match=r"objective\.adversarial: .*shard"):
        objective(batch(), output)


def test_a_discriminator_without_features_is_refused() -> None:
    adversarial = {"discriminator": "testing.plain_discriminator:Plain"}
    terms: dict[str, Any] = {"feature-matching": 1, "adversarial": adversarial}
    model = convae.build(SPEC).train()
    objective = build_objective(terms)
    objective.bind(model.latent_shape, model.input_shape)
    with pytest.raises(ConfigError, match=r"feature-matching: .*Plain.*patch"):
        objective(batch().images.float(), model(batch().images.float()))


def recipe(**options: Any) -> dict[str, Any]:
    """A VAE/GAN with batch norm and dropout, in which the term is the recipe's and its discriminator a stage's."""
    adversarial = {"discriminator": {"patch": {"channels": 4, "layers": 1}}, **options}
    training = {**RECIPE["training"], "epochs": None, "ema": 0.9, "batch_size": 200}
    objective = {"reconstruction": 1, "kl": 1, "feature-matching": 0.1, "adversarial": {**adversarial, "weight": 0}}
    stages = [{"steps": 3}, {"steps": 5, "objective": {"adversarial": {"weight": 0.5}}}]
    return {**RECIPE, "objective": objective, "training": training, "stages": stages}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_survives_a_stop_bit_for_bit(precision: str, tmp_path: Path) -> None:
    written = recipe(fakes="both", trains_encoder=False, adaptive=False)
    written["training"]["precision"] = precision
    run = train(written, out=tmp_path / "unbroken")
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert {"feature-matching", "adversarial", "adversarial_critic"} <= rows[-1].keys()
    train(written, out=tmp_path / "run", callback=StopAt(5))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_the_step_of_the_discriminator_leaves_the_model_alone(tmp_path: Path) -> None:
    plain = {**recipe(), "objective": {"reconstruction": 1, "kl": 1}, "stages": [{"steps": 8}]}
    written = recipe(fakes="both", adaptive=False)
    written["objective"]["feature-matching"] = 0
    written["stages"] = [{"steps": 8}]
    one, other = (train(each, out=tmp_path / name).last for name, each in (("with", written), ("without", plain)))
    for name, value in other.state_dict().items():
        if "running" not in name and "batches" not in name:
            assert torch.equal(one.state_dict()[name], value), name


def test_a_recipe_without_the_discriminator_is_refused_before_the_data(tmp_path: Path) -> None:
    written = {**RECIPE, "objective": {"reconstruction": 1, "feature-matching": 1}}
    with pytest.raises(ConfigError, match=r"objective\.feature-matching: .*adversarial"):
        train(written, out=tmp_path / "run")
