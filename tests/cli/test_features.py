"""Feature networks as the option `--features` names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convae.cli._features import find_feature_network
from convae.core.errors import ConfigError


@pytest.mark.parametrize(
    ("tensor", "network"),
    [
        ("cls_token", "dinov2"),
        ("embeddings.cls_token", "dinov2"),
        ("dinov2.embeddings.cls_token", "dinov2"),
        ("Conv2d_1a_3x3.conv.weight", "inception"),
    ],
)
def test_a_file_is_recognized_by_its_tensors(tensor: str, network: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({tensor: torch.zeros(1, 1, 2)}, path)
    assert find_feature_network(str(path)) == {network: {"weights": str(path)}}


def test_a_folder_is_a_model_and_other_words_are_names(tmp_path: Path) -> None:
    assert find_feature_network(str(tmp_path)) == {"encoder": {"model": str(tmp_path)}}
    assert find_feature_network("efficientnet-lite0") == "efficientnet-lite0"
    assert find_feature_network("{dinov2: {weights: a.pth, size: 28}}") == {"dinov2": {"weights": "a.pth", "size": 28}}


def test_a_model_of_the_hub_is_its_downloaded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    asked: list[str] = []

    def download(written: str, _: object) -> tuple[Path, str]:
        asked.append(written)
        return tmp_path, f"{written}@{'0' * 40}"

    monkeypatch.setattr("convae.interop.hub.download_model", download)
    found = find_feature_network("hf:facebook/dinov2-small@main")
    assert found == {"dinov2": {"weights": str(tmp_path / "model.safetensors")}}
    assert asked == ["hf:facebook/dinov2-small@main"]
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="hf:OWNER/NAME"):
        find_feature_network("hf:facebook/../small")
