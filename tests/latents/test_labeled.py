"""Samples of wanted classes, and the classes of samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import convae
from convae.core.errors import ConfigError
from convae.data import Split
from convae.latents import decode, draw_labeled, draw_latents, encode, fit_class_gaussians, sampleable_classes
from convae.model.vae import VAE

FLAT: dict[str, Any] = {
    "input": [1, 1, 2],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"unflatten": {"to": [1, 1, 2]}}],
}


@pytest.fixture
def judged() -> VAE:
    """A model whose image is σ(z), and whose classes are the quadrants: 2 × [z₀ > 0] + [z₁ > 0], surer further out.

    Its encoder looks at the first value only: of the second, it always says that it is far above 0.
    """
    model = convae.build({**FLAT, "classifier": [{"linear": {"features": 4}}]}).eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        signs = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
        parameters["classifier.0.weight"].copy_(5 * signs)
        parameters["bottleneck.weight"].copy_(torch.tensor([[20.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
        parameters["bottleneck.bias"].copy_(torch.tensor([-10.0, 3.0, 0.0, 0.0]))
    return model


def test_of_a_wanted_class_those_are_kept_of_which_the_classifier_is_sure_twice(judged: VAE) -> None:
    found = draw_labeled(judged, 200, [3, 1], confidence=0.9, seed=4)
    assert found.labels.tolist() == [3] * 200 + [1] * 200
    z = torch.logit(found.images.flatten(1))
    assert (judged.classify(z).softmax(1).gather(1, found.labels[:, None]) >= 0.9 - 1e-4).all()
    assert found.confidence is not None
    assert (found.confidence >= 0.9).all()
    # What is kept is the prior where the judge is sure: half of a normal beyond about 0.22, untouched.
    candidates = draw_latents(judged, found.tried, seed=4)
    sure = judged.classify(candidates).softmax(1)[:, 3] >= 0.9
    again = judged.classify(judged.encode(decode(judged, candidates)).mean).softmax(1)[:, 3] >= 0.9
    wanted = candidates[sure & again][:200]
    torch.testing.assert_close(z[:200], wanted, atol=1e-3, rtol=1e-3)


def test_a_class_that_decoded_images_do_not_show_is_not_found(judged: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convae.latents.labeled.PATIENCE", 4)
    # Latents of class 2 there are, but encoded again their images are of class 3.
    with pytest.raises(ConfigError, match=r"5 samples of class 2 .* 0\.9"):
        draw_labeled(judged, 5, [2], confidence=0.9)
    assert draw_labeled(judged, 5, [2], confidence=0.0).labels.tolist() == [2] * 5


def test_any_sample_gets_its_label_and_the_unsure_may_be_left_out(judged: VAE) -> None:
    every = draw_labeled(judged, 50, confidence=0.0, seed=1)
    latents = draw_latents(judged, 50, seed=1)
    torch.testing.assert_close(every.images, decode(judged, latents))
    assert torch.equal(every.labels, judged.classify(latents).argmax(1))
    sure = draw_labeled(judged, 20, confidence=0.8, seed=1)
    assert sure.confidence is not None
    assert (sure.confidence >= 0.8).all()
    assert set(sure.labels.tolist()) == {1, 3}


def test_the_first_samples_are_the_same_for_any_count_and_any_classes(judged: VAE) -> None:
    few, many = draw_labeled(judged, 3, [1], confidence=0.5), draw_labeled(judged, 300, [3, 1], confidence=0.5)
    torch.testing.assert_close(few.images, many.images[300:303])
    assert not torch.allclose(few.images, draw_labeled(judged, 3, [1], confidence=0.5, seed=1).images)


def test_a_conditional_model_decodes_the_same_latents_with_each_label() -> None:
    model = convae.build(
        {**FLAT, "decoder": [{"linear": {"features": 2}}, *FLAT["decoder"]], "condition": {"classes": 3}}
    )
    found = draw_labeled(model, 4, [2, 0])
    assert found.labels.tolist() == [2] * 4 + [0] * 4
    assert found.confidence is None
    latents = draw_latents(model, 4)
    torch.testing.assert_close(found.images[:4], decode(model, latents, labels=torch.full((4,), 2)))
    torch.testing.assert_close(found.images[4:], decode(model, latents, labels=torch.zeros(4, dtype=torch.long)))
    assert draw_labeled(model, 5).labels.tolist() == [0, 1, 2, 0, 1]
    assert sampleable_classes(model) == [0, 1, 2]


def test_other_models_draw_from_the_latents_of_labeled_images(model: VAE, digits: Split) -> None:
    known = fit_class_gaussians(encode(model, digits))
    found = draw_labeled(model, 3, [7, 2], confidence=0.0, known=known, seed=3)
    assert found.labels.tolist() == [7] * 3 + [2] * 3
    torch.testing.assert_close(found.images[:3], decode(model, known.draw(7, 3, seed=3)))
    assert found.confidence is not None
    latents = torch.cat([known.draw(7, 3, seed=3), known.draw(2, 3, seed=3)])
    again = encode_again(model, found.images)
    both = torch.minimum(known.posterior(latents), known.posterior(again))
    torch.testing.assert_close(found.confidence, both.gather(1, found.labels[:, None])[:, 0])


def test_samples_of_any_class_from_labeled_images_are_of_all_classes_in_turn(model: VAE, digits: Split) -> None:
    known = fit_class_gaussians(encode(model, digits))
    found = draw_labeled(model, 25, confidence=0.0, known=known)
    assert found.labels.tolist() == [*range(10), *range(10), *range(5)]
    torch.testing.assert_close(found.images[[3, 13, 23]], decode(model, known.draw(3, 3)))
    few = draw_labeled(model, 2, confidence=0.0, known=known)
    torch.testing.assert_close(few.images, found.images[:2])


def encode_again(model: VAE, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.encode(images).mean


def test_invalid_requests_are_refused(judged: VAE, model: VAE, digits: Split) -> None:
    known = fit_class_gaussians(encode(model, digits))
    cases: list[tuple[VAE, dict[str, Any], str]] = [
        (model, {}, "condition.*classifier"),
        (judged, {"labels": [4]}, "class 4.*0, 1, 2, 3"),
        (judged, {"confidence": 1.5}, "confidence.* 1.5"),
        (judged, {"known": known}, "4 classes.* 10"),
        (model, {"known": known, "temperature": 0.5}, "temperature.*truncation"),
    ]
    for asked, options, message in cases:
        with pytest.raises(ConfigError, match=message):
            draw_labeled(asked, 2, **options)
