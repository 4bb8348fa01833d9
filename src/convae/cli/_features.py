"""Feature networks as options name them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convae.core.arguments import Named
    from convae.core.progress import Progress


def find_feature_network(written: str, progress: Progress | None = None) -> Named:
    """The name and arguments of a feature network.

    Args:
        written: a registered name; a mapping of the name to its arguments; a file with the weights of Inception or
            DINOv2; the folder or the name of a trained model, whose encoder it is; or `hf:OWNER/NAME@REVISION`, DINOv2
            on the Hub.
        progress: called with the progress of a download.

    Raises:
        ArtifactError: a file cannot be read, or there is no such model on the Hub.
        DataError: downloads are disabled, or the Hub cannot be reached.
    """
    from convae.cli._parsing import data_source
    from convae.interop.hub import download_model, is_on_hub
    from convae.interop.published import find_published
    from convae.model.pretrained import model_path
    from convae.model.weights import read_state

    path = model_path(written)
    if is_on_hub(Path(written)):
        folder, _ = download_model(written, progress)
        return {"dinov2": {"weights": str(find_published(folder).weights)}}
    if path.is_file():
        is_transformer = any(name.endswith("cls_token") for name in read_state(path))
        return {"dinov2" if is_transformer else "inception": {"weights": str(path)}}
    if path.is_dir():
        return {"encoder": {"model": str(path)}}
    named: Named = data_source(written, "--features")
    return named
