"""The explorer's page: what it holds, and what is refused."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import run
from torch import Tensor, nn

import convae
from convae.core.errors import ConfigError
from convae.explorer import lower, write_page
from convae.explorer.contents import Blob, describe_points, most_points
from convae.interop.graphs import Graph, build_graph
from convae.latents import Session, encode, project

MODEL: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "batch-norm", "relu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
    "likelihood": "bernoulli",
}
HOSTILE = '</script><script>document.title="broken"</script>'


class Elements(HTMLParser):
    """The elements of a page, and the text of those with an id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.links: list[str] = []
        self.texts: dict[str, str] = {}
        self._id: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self._id = own.get("id")

    def handle_data(self, data: str) -> None:
        if self._id is not None:
            self.texts[self._id] = self.texts.get(self._id, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._id = None


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    np.savez(folder / "all.npz", images=values, labels=np.arange(12) % 2)
    return folder / "all.npz"


def contents(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Elements(path.read_text("utf-8")).texts["data"])
    return found


def test_a_page_is_whole_and_loads_nothing(images: Path, tmp_path: Path) -> None:
    path = write_page(Session(convae.build(MODEL), data=images), tmp_path / "page.html")
    page = Elements(path.read_text("utf-8"))
    assert page.links == []
    assert page.names.count("script") == 2
    assert "default-src 'none'" in path.read_text("utf-8")
    own = contents(path)
    assert own["count"] == 12
    assert own["image_shape"] == [1, 8, 8]
    assert set(own["decode"]["inputs"]) == {"z"}
    steps = np.frombuffer(base64.b64decode(own["points"]), "<u2")
    assert steps.size == 12 * 3
    assert path.stat().st_size - len(own["blob"]) < 100_000


def test_points_are_the_posterior_means(images: Path) -> None:
    model, blob = convae.build(MODEL), Blob()
    session = Session(model, data=images)
    encoding = encode(model, session.images)
    own = describe_points(model, encoding, blob)
    values = np.frombuffer(bytes(blob.content), "<f4")

    def vector(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        begin, length = own[name]
        return values[begin : begin + length]

    steps = np.frombuffer(base64.b64decode(own["points"]), "<u2").reshape(12, 3) / 65535
    points = vector("low") + steps * (vector("high") - vector("low"))
    assert np.abs(points - encoding.mean.numpy()).max() < 1e-3 * np.ptp(encoding.mean.numpy())
    assert sorted(own["order"]) == [0, 1, 2]
    assert np.all(np.diff(vector("kl")[own["order"]]) <= 0)


@pytest.mark.parametrize(
    "parts", [{"prior": {"mixture": {"components": 3}}}, {"bottleneck": {"deterministic": {"latent": 3}}}]
)
def test_no_kl_divergence_is_shown_that_is_not_from_the_prior(parts: dict[str, Any], images: Path) -> None:
    model = convae.build({**MODEL, **parts})
    own = describe_points(model, encode(model, Session(model, data=images).images), Blob())
    assert own["kl"] is None
    assert sorted(own["order"]) == [0, 1, 2]


def test_a_map_has_the_coordinates_of_each_point(images: Path, tmp_path: Path) -> None:
    session = Session(convae.build(MODEL), data=images)
    assert contents(write_page(session, tmp_path / "plain.html"))["map"] is None
    own = contents(write_page(session, tmp_path / "page.html", projection="tsne"))
    values = np.frombuffer(base64.b64decode(own["blob"]), "<f4")
    found = [values[begin : begin + length] for begin, length in (own["map"]["x"], own["map"]["y"])]
    wanted = project(encode(session.model, session.images).mean, "tsne").points
    assert np.allclose(np.stack(found, 1), wanted.numpy(), rtol=1e-3, atol=1e-3)


def test_a_class_name_cannot_end_the_script(images: Path, tmp_path: Path) -> None:
    model = convae.build({**MODEL, "condition": {"classes": 2, "channels": 1}})
    model.provenance = model.provenance.model_copy(update={"classes": (HOSTILE, "b")})
    session = Session(model, data=images, label="b")
    path = write_page(session, tmp_path / "page.html")
    assert contents(path)["classes"] == [HOSTILE, "b"]
    assert Elements(path.read_text("utf-8")).names.count("script") == 2


def test_batch_norm_is_folded_and_constants_are_computed() -> None:
    model = convae.build(MODEL).eval()
    ops = [step.op for step in lower(build_graph(model, "encode")).steps]
    assert ops.count("conv") == 1
    assert "mul" not in ops[: ops.index("relu")]


def test_large_latents_have_fewer_points() -> None:
    assert most_points(2) == 10_000
    assert most_points(4096) < 200


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (torch.fft.fft(x).real,)


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(ConfigError, match="fft"):
        lower(Graph("decode", Unknown(), {"x": torch.zeros(2, 4)}, ("y",)))


def test_too_many_weights_are_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convae.explorer.page.LARGEST", 100)
    with pytest.raises(ConfigError, match="MB"):
        write_page(Session(convae.build(MODEL), data=images), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_writes_the_page(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = convae.save(convae.build(MODEL), tmp_path / "model"), tmp_path / "explorer.html"
    run("explore", model, "--data", images, "--out", out)
    assert re.search(r"explorer\.html: \d", capsys.readouterr().out)
    assert contents(out)["count"] == 12
    run("explore", model, "--data", images, "--out", out, code=2)
    assert "--force" in capsys.readouterr().err
