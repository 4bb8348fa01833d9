from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import run
from narrow import present
from originals import TorchVAE

import convae


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "vae.pth"
    torch.save(TorchVAE(1, latent=2, most=8).state_dict(), path)
    return path


def test_published_weights_become_an_artifact(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = weights.parent / "model"
    run("import", weights, "--as", "torch-vae", "--out", out)
    told = capsys.readouterr()
    assert str(out) in told.out
    assert "8 tensors of unused shortcut layers" in told.err
    model = convae.load(out)
    assert present(model.provenance.imported).file == "vae.pth"
    assert model.name == "vae"
    assert model.latent_shape == (2,)
    run("import", weights, "--as", "torch-vae", "--out", out, code=2)
    assert "--force" in capsys.readouterr().err
    run("import", weights, "--as", "torch_vae", "--out", out, "--force")


@pytest.mark.parametrize(
    ("form", "part"),
    [("image-vae", "vae.pth: not the weights of image-vae"), ("torch-vea", "did you mean 'torch-vae'?")],
)
def test_a_refused_file_leaves_nothing(form: str, part: str, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("import", weights, "--as", form, "--out", weights.parent / "model", code=2)
    assert part in capsys.readouterr().err
    assert [path.name for path in weights.parent.iterdir()] == ["vae.pth"]
