"""Artifacts of format 1 are read under the names of today."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

import convae
from convae.core.checked_files import with_checksum
from convae.core.files import write_json
from convae.model.fingerprint import fingerprint
from convae.model.vae import VAE

CODEBOOK_OF_FORMAT_1 = {"codebook": "codebook", "cluster_size": "uses", "embed_sum": "sums"}


def test_tensors_and_options_of_format_1_are_read_under_their_new_names(tmp_path: Path) -> None:
    layers = [{"conv": {"channels": 4, "stride": 2}}, {"attention": {"norm": {"group-norm": {"groups": 2}}}}]
    spec = {
        "input": [1, 8, 8],
        "encoder": [*layers, {"residual": {"layers": ["relu", {"conv": {"channels": 4}}]}}],
        "bottleneck": {"vq": {"codes": 5, "latent": 4, "dead_code_threshold": 0.2}},
        "decoder": [{"upsample": {"scale": 2}}, {"conv": {"channels": 1}}],
        "likelihood": {"discretized-logistic": {}},
    }
    model = convae.build(spec).eval()
    folder = convae.save(model, tmp_path / "model")
    old = {".qkv.": ".ask.", ".out_proj.": ".branch."}
    old |= {f".quantizer.{new}": f".{word}" for new, word in CODEBOOK_OF_FORMAT_1.items()}

    def renamed(name: str) -> str:
        return next((name.replace(new, word) for new, word in old.items() if new in name), name)

    tensors = {renamed(name): value for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["provenance"], config["config_sha256"]
    config["model"]["bottleneck"] = spec["bottleneck"]
    text = json.dumps({**config, "format": 1, "sha256": {renamed(name): sha for name, sha in config["sha256"].items()}})
    text = text.replace("discretized-logistic", "discretised-logistic").replace("dead_code_threshold", "restart")
    write_json(folder / "config.json", with_checksum(json.loads(text)))
    assert fingerprint(convae.load(folder)) == fingerprint(model)


def test_an_artifact_of_format_1_has_its_metadata_read_as_provenance(model: VAE, tmp_path: Path) -> None:
    folder = convae.save(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["provenance"], config["config_sha256"]
    config |= {
        "format": 1,
        "metadata": {
            "classes": ["cat", "dog"],
            "data": {"source": "digits", "fit": "pad"},
            "splits": {"test": {"count": 7, "content_hash": "ab"}},
            "training": {"step": 3, "which": "last", "data": {"source": "digits", "fit": "pad"}},
            "imported": {"file": "vae.pth", "as": "torch-vae", "notes": ["a"]},
        },
    }
    write_json(folder / "config.json", with_checksum(config))
    found = convae.load(folder).provenance
    assert found.classes == ("cat", "dog")
    assert found.data == {"source": "digits", "resize_mode": "pad"}
    assert (found.splits["test"].count, found.splits["test"].content_hash) == (7, "ab")
    assert found.training is not None
    assert (found.training.step, found.training.data.resize_mode) == (3, "pad")
    assert found.imported is not None
    assert (found.imported.file, found.imported.importer) == ("vae.pth", "torch-vae")
