"""Makes the pretrained models in models/: training, artifacts in half precision, cards, and the index of convae.

    python -m benchmarks.pretrained train mnist/torch-vae-2 --runs RUNS     trains models/NAME/training.yaml, publishes;
                                                                            models/NAME/start.yaml first, if it exists
    python -m benchmarks.pretrained publish NAME RUN --seconds 3960         the model of a run that was trained before
    python -m benchmarks.pretrained check [NAME ...]                        measures the cards again
    python -m benchmarks.pretrained index                                   `make models-index`

Data sets are found in $CONVAE_DATA, also folders such as `flowers`. `train` continues a run that was stopped. `check`
prints each metric of a card that is not equal to the digits printed, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

import convae
from benchmarks.classifiers import data_folder
from benchmarks.records import read_results
from convae.core.documents import read_mapping
from convae.core.files import write_bytes, write_json, write_text
from convae.core.random import torch_generator
from convae.core.version import VERSION
from convae.data import Split, in_order
from convae.evaluation.card import Card, card_markdown, draw_comparison, measure_card, read_cards, write_cards
from convae.evaluation.card.pictures import choose_error_maps
from convae.model.artifact import CARD, CONFIG, WEIGHTS, read_config
from convae.model.pretrained import FORMAT, INDEX
from convae.model.provenance import Provenance, without_folders
from convae.model.storage import StoragePrecision
from convae.model.weights import sha256_of
from convae.pictures.grid import grid

MODELS = Path(__file__).parents[1] / "models"
LIKELIHOODS = Path(__file__).with_name("results.jsonl")
"""The NLL of `benchmarks.results`."""
RECIPE, START, MEASURED, TRAINED = "training.yaml", "start.yaml", "card.json", "training.json"
PICTURE, SAMPLES = "card.png", "samples.png"
LICENSES = {
    "binarized-mnist": "CC BY-SA 3.0 (MNIST)",
    "digits": "CC BY 4.0 (UCI)",
    "fashion-mnist": "MIT",
    "flowers": "CC BY 2.0 (Flickr)",
    "mnist": "CC BY-SA 3.0",
}
"""License of each data set."""
DRAWN = {"flowers": "kodak"}
"""Data sets that pictures show instead, where images of the data set may not be published."""
WITHOUT_SAMPLES = ("flowers/tokenizer",)
"""Tokenizers, whose latents are far from N(0, I): a generator is trained on them."""
FEATURES = "efficientnet-lite0"
SHOWN = ("elbo", "psnr", "ssim", f"fd-{FEATURES}", f"rfd-{FEATURES}")
"""Metrics of the index."""
TOLERANCE = 1e-3
"""Largest change of a decoded value for which weights are stored in half precision."""
COLORS = 160
"""Colors of the pictures, which are kept small."""


def main() -> None:
    """Runs the command of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("names", nargs="+")
    training.add_argument("--runs", type=absolute, required=True)
    training.add_argument("--features", default=FEATURES, help="feature network of the card, or none")
    publishing = commands.add_parser("publish")
    publishing.add_argument("name")
    publishing.add_argument("run", type=absolute)
    publishing.add_argument("--seconds", type=float, required=True, help="time of the training")
    publishing.add_argument("--clock", default="processor", help="whose time: processor or wall")
    publishing.add_argument("--features", default=FEATURES, help="feature network of the card, or none")
    checking = commands.add_parser("check")
    checking.add_argument("names", nargs="*")
    commands.add_parser("index")
    given = parser.parse_args()
    if given.command != "index":
        # Folders of images are named as in there, so that artifacts record no path of this machine.
        data = data_folder().resolve()
        if not data.is_dir():
            parser.error(f"no folder of data sets at {data}: set CONVAE_DATA")
        os.environ["CONVAE_DATA"] = str(data)
        os.chdir(data)
    if given.command == "train":
        for name in given.names:
            train(name, given.runs, given.features)
    elif given.command == "publish":
        publish(given.name, given.run, given.seconds, given.clock, given.features)
    elif given.command == "check":
        sys.exit(check(given.names or model_names()))
    write_index()


def absolute(text: str) -> Path:
    """A path of the command line."""
    return Path(text).absolute()


def model_names() -> list[str]:
    """The names of the models that are published."""
    return sorted(path.parent.relative_to(MODELS).as_posix() for path in MODELS.glob(f"*/*/{CARD}"))


def train(name: str, runs: Path, features: str) -> None:
    """Trains the recipe of a name, unless its run is complete, and publishes the model."""
    run, seconds = runs / name, 0.0
    start = MODELS / name / START
    if start.exists():
        seconds += trained_seconds(start, run.with_name(f"{run.name}-start"))
    seconds += trained_seconds(MODELS / name / RECIPE, run)
    publish(name, run, seconds, "processor", features)


def trained_seconds(recipe: Path, run: Path) -> float:
    """Trains a recipe, or continues its run; returns the processor time of all calls.

    A prior is fitted to `RUN-start`, if that exists, instead of the start in the recipe.
    """
    facts = run.with_suffix(".json")
    known = json.loads(facts.read_text()) if facts.exists() else {"seconds": 0.0, "stopped": True}
    seconds: float = known["seconds"]
    if not known["stopped"]:
        return seconds
    written, began = read_mapping(recipe), time.process_time()
    if run.exists():
        trained = convae.resume(run, quiet=True)
    elif "prior" in written:
        options = [f"training.{key}={json.dumps(value)}" for key, value in written.get("training", {}).items()]
        start = run.with_name(f"{run.name}-start")
        of = start if start.exists() else written["start"]
        trained = convae.fit_prior(of, written["prior"], overrides=options, out=run, quiet=True)
    else:
        # As a mapping, so that a folder of images is that in $CONVAE_DATA.
        trained = convae.train(written, out=run, quiet=True)
    seconds += time.process_time() - began
    write_json(facts, {"seconds": seconds, "stopped": trained.stopped})
    return seconds


def publish(name: str, run: Path, seconds: float, clock: str, features: str) -> None:
    """Writes the artifact, the card and the pictures of a trained model to its folder."""
    folder = MODELS / name
    model = convae.load(run)
    model.provenance = Provenance.model_validate(without_folders(model.provenance.as_dict()))
    halves = save_small(model, folder)
    session = opened(name)
    card = measure(session, name, None if features == "none" else features)
    write_cards([card], folder / MEASURED)
    facts = {**training_facts(name, folder), "seconds": round(seconds, 1), "clock": clock, **machine()}
    facts["storage"] = f"float16 of {halves:,} of {sum(each.numel() for each in model.state_dict().values()):,} values"
    write_json(folder / TRAINED, facts)
    shown = {"model": choose_error_maps(session.model, drawn_images(session))}
    save_picture(draw_comparison(shown, title=name), folder / PICTURE)
    if name not in WITHOUT_SAMPLES:
        save_picture(grid(samples(session.model), columns=16, scale=scale_of(session.model)), folder / SAMPLES)
    write_text(folder / CARD, describe(name, card, facts))
    print(f"{name}: {', '.join(f'{key} {card.metrics[key].texts()[0]}' for key in SHOWN if key in card.metrics)}")


def save_small(model: convae.VAE, folder: Path) -> int:
    """Saves an artifact beside the recipe, as many weights as possible in float16; returns how many.

    The large tensors come first; each is rounded unless a decoded value of 256 test images changes by more than
    `TOLERANCE` in all.
    """
    session = convae.Session(model, data=model.provenance.data["source"])
    images = next(iter(in_order(session.images, 256))).images
    labels = None if model.condition is None else torch.arange(len(images)) % model.condition.classes
    rounded = copy.deepcopy(model)
    storage: dict[str, StoragePrecision] = {}
    with torch.no_grad():
        exact = model.decode(model.encode(images, labels).mean, labels).mean
        tensors = {name: value for name, value in rounded.state_dict().items() if value.is_floating_point()}
        for name in sorted(tensors, key=lambda name: -tensors[name].numel()):
            before = tensors[name].clone()
            tensors[name].copy_(before.half())
            decoded = rounded.decode(rounded.encode(images, labels).mean, labels).mean
            if float((decoded - exact).abs().max()) <= TOLERANCE:
                storage[name] = "float16"
            else:
                tensors[name].copy_(before)
    with TemporaryDirectory() as temporary:
        small = convae.save(
            model, Path(temporary) / "model", storage="float16" if storage.keys() == tensors.keys() else storage
        )
        for file in (CONFIG, WEIGHTS):
            shutil.copyfile(small / file, folder / file)
    return sum(tensors[name].numel() for name in storage)


def opened(name: str) -> convae.Session:
    """A published model with the test images of its data set."""
    model = convae.load(MODELS / name)
    return convae.Session(model, data=model.provenance.data["source"])


def drawn_images(session: convae.Session) -> Split:
    """The images of the pictures."""
    source = DRAWN.get(str(session.model.provenance.data["source"]))
    return session.images if source is None else convae.Session(session.model, data=source, split="all").images


def scale_of(model: convae.VAE) -> int:
    """Enlargement of samples: images of 64 pixels and more are shown as they are."""
    return max(1, 64 // model.input_shape[-1])


def measure(session: convae.Session, name: str, features: str | None) -> Card:
    """The card of a model on the test images of its training data."""
    session.model.name = name
    return measure_card(session.model, session.images, features=features, metrics=["fd"] if features else [])


def samples(model: convae.VAE) -> torch.Tensor:
    """64 samples of the prior; of a conditional model or a prior with labels, of the classes in turn."""
    labels = torch.arange(64) % model.prior.classes if model.prior.classes else None
    return model.sample(64, torch_generator(0, "samples"), labels=labels)


def training_facts(name: str, folder: Path) -> dict[str, Any]:
    """How the model was trained."""
    written, trained = read_mapping(folder / RECIPE), read_config(folder).provenance
    facts = trained.prior or trained.training
    command = f"python -m benchmarks.pretrained train {name} --runs RUNS"
    return {
        "command": command if "prior" in written else f"convae train models/{name}/{RECIPE}",
        "seed": written.get("training", {}).get("seed", 0),
        "step": None if facts is None else facts.step,
    }


def machine() -> dict[str, Any]:
    """Processor, and versions of packages."""
    return {
        "processor": f"{processor()}, {torch.get_num_threads()} thread",
        "convae": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def describe(name: str, card: Card, facts: dict[str, Any]) -> str:
    """The card of the model as Markdown: what `convae card` writes, samples, and the training."""
    text = card_markdown([card], picture=PICTURE).replace('"path/of/this/folder"', f'"{name}"')
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    drawn = (
        ""
        if name in WITHOUT_SAMPLES
        else "\n## Samples\n\n64 samples of the prior, of the classes in turn if it has labels, seed 0.\n\n"
        f"![Samples]({SAMPLES})\n"
    )
    return (
        f"{text}{drawn}\n## Making it\n\n"
        f"The recipe is [{RECIPE}]({RECIPE}); seconds are the time of the training by this clock.\n\n"
        f"| | |\n|---|---|\n{rows}\n"
    )


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a PNG with few colors."""
    with TemporaryDirectory() as temporary:
        small = Path(temporary) / "picture.png"
        picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(small, optimize=True)
        write_bytes(path, small.read_bytes())


def check(names: Sequence[str]) -> int:
    """Measures cards again; 1 if a metric is not equal to the digits printed, else 0."""
    found = 0
    for name in names:
        began = time.process_time()
        (recorded,) = read_cards(MODELS / name / MEASURED)
        features = recorded.protocol.get("features") or {}
        again = measure(opened(name), name, features.get("name"))
        wrong = [
            f"{key}: recorded {recorded.metrics[key].texts()[0]}, measured {measured.texts()[0]}"
            for key, measured in again.metrics.items()
            if measured.texts()[0] != recorded.metrics[key].texts()[0]
        ]
        print(f"{name}: {'; '.join(wrong) or 'equal'} ({time.process_time() - began:.0f} s)", flush=True)
        found |= bool(wrong)
    return found


def write_index() -> None:
    """Writes the index that comes with convae from the folders of the models."""
    write_json(INDEX, {"format": FORMAT, "models": {name: entry(name) for name in model_names()}})


def entry(name: str) -> dict[str, Any]:
    """The entry of a model in the index."""
    folder = MODELS / name
    model, (card,) = convae.load(folder), read_cards(folder / MEASURED)
    source = str(model.provenance.data["source"])
    metrics = {key: card.metrics[key].value for key in SHOWN if key in card.metrics}
    for row in read_results(LIKELIHOODS):
        if row["model"] == name:
            metrics["nll"] = row["nll"]
    return {
        "description": (folder / RECIPE).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "),
        "data": source,
        "license": LICENSES[source],
        "input": list(model.input_shape),
        "latent": list(model.latent_shape),
        "parameters": sum(each.numel() for each in model.parameters()),
        "metrics": metrics,
        "files": {
            path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(folder.iterdir())
        },
    }


if __name__ == "__main__":
    main()
