"""FID's Inception and LPIPS, from files of weights, against transcriptions of the originals and torchmetrics.

The published weights are not at hand where tests run, so weights are random; the heads of LPIPS are the published ones,
which torchmetrics brings along.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.image import lpips as original

import convae
from convae.core.errors import ArtifactError, ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.data import Split
from convae.evaluation import evaluate
from convae.features import FeatureNetwork
from convae.features.networks import inception as module
from convae.features.networks.encoder import Encoder
from convae.features.networks.inception import Inception, build_inception
from convae.features.networks.lpips import LPIPS
from convae.model.provenance import Provenance
from convae.model.vae import VAE

HEADS = Path(original.__file__).parent / "lpips_models"
Rows = dict[str, Tensor]


def random_like(shapes: Rows, seed: int) -> Rows:
    generator = torch_generator(seed, "weights")
    tensors = {}
    for name, tensor in shapes.items():
        values = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            values *= (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            values = 1 + 0.1 * values.abs()
        else:
            values *= 0.1
        tensors[name] = values
    return tensors


@pytest.fixture(scope="module")
def weights() -> Rows:
    """As `pt_inception-2015-12-05-6726825d.pth` has them, the classifier and no counters of batches included."""
    shapes = {k: v for k, v in build_inception().state_dict().items() if not k.endswith("num_batches_tracked")}
    return random_like({**shapes, "fc.weight": torch.empty(1008, 2048), "fc.bias": torch.empty(1008)}, 0)


@pytest.fixture(scope="module")
def inception_file(weights: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(weights, path)
    return path


def fid_inception(s: Rows, x: Tensor) -> Tensor:
    """The network of pytorch-fid, written out call by call; `x` in [-1, 1]."""

    def conv(x: Tensor, name: str, **how: Any) -> Tensor:
        x = F.conv2d(x, s[f"{name}.conv.weight"], **how)
        mean, variance, weight, bias = (s[f"{name}.bn.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, mean, variance, weight, bias, eps=0.001))

    def average(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)

    def a(x: Tensor, m: str) -> Tensor:
        five = conv(conv(x, m + "branch5x5_1"), m + "branch5x5_2", padding=2)
        three = conv(conv(x, m + "branch3x3dbl_1"), m + "branch3x3dbl_2", padding=1)
        three = conv(three, m + "branch3x3dbl_3", padding=1)
        return torch.cat([conv(x, m + "branch1x1"), five, three, conv(average(x), m + "branch_pool")], 1)

    def c(x: Tensor, m: str) -> Tensor:
        seven = conv(conv(x, m + "branch7x7_1"), m + "branch7x7_2", padding=(0, 3))
        seven = conv(seven, m + "branch7x7_3", padding=(3, 0))
        double = conv(x, m + "branch7x7dbl_1")
        double = conv(double, m + "branch7x7dbl_2", padding=(3, 0))
        double = conv(double, m + "branch7x7dbl_3", padding=(0, 3))
        double = conv(double, m + "branch7x7dbl_4", padding=(3, 0))
        double = conv(double, m + "branch7x7dbl_5", padding=(0, 3))
        return torch.cat([conv(x, m + "branch1x1"), seven, double, conv(average(x), m + "branch_pool")], 1)

    def e(x: Tensor, m: str, pooled: Tensor) -> Tensor:
        three = conv(x, m + "branch3x3_1")
        three = torch.cat(
            [conv(three, m + "branch3x3_2a", padding=(0, 1)), conv(three, m + "branch3x3_2b", padding=(1, 0))], 1
        )
        double = conv(conv(x, m + "branch3x3dbl_1"), m + "branch3x3dbl_2", padding=1)
        double = torch.cat(
            [conv(double, m + "branch3x3dbl_3a", padding=(0, 1)), conv(double, m + "branch3x3dbl_3b", padding=(1, 0))],
            1,
        )
        return torch.cat([conv(x, m + "branch1x1"), three, double, conv(pooled, m + "branch_pool")], 1)

    x = conv(conv(x, "Conv2d_1a_3x3", stride=2), "Conv2d_2a_3x3")
    x = F.max_pool2d(conv(x, "Conv2d_2b_3x3", padding=1), kernel_size=3, stride=2)
    x = F.max_pool2d(conv(conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"), kernel_size=3, stride=2)
    x = a(a(a(x, "Mixed_5b."), "Mixed_5c."), "Mixed_5d.")
    m = "Mixed_6a."
    double = conv(conv(x, m + "branch3x3dbl_1"), m + "branch3x3dbl_2", padding=1)
    x = torch.cat(
        [conv(x, m + "branch3x3", stride=2), conv(double, m + "branch3x3dbl_3", stride=2), F.max_pool2d(x, 3, 2)], 1
    )
    x = c(c(c(c(x, "Mixed_6b."), "Mixed_6c."), "Mixed_6d."), "Mixed_6e.")
    m = "Mixed_7a."
    seven = conv(conv(x, m + "branch7x7x3_1"), m + "branch7x7x3_2", padding=(0, 3))
    seven = conv(conv(seven, m + "branch7x7x3_3", padding=(3, 0)), m + "branch7x7x3_4", stride=2)
    x = torch.cat([conv(conv(x, m + "branch3x3_1"), m + "branch3x3_2", stride=2), seven, F.max_pool2d(x, 3, 2)], 1)
    x = e(x, "Mixed_7b.", average(x))
    x = e(x, "Mixed_7c.", F.max_pool2d(x, kernel_size=3, stride=1, padding=1))
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def test_inception_has_the_published_networks_size() -> None:
    parameters = sum(tensor.numel() for tensor in build_inception().parameters())
    assert parameters == 21_785_568  # Inception v3 without auxiliary and final classifiers
    assert sum(name.endswith("conv.weight") for name in build_inception().state_dict()) == 94


def test_inception_features_are_those_of_the_original(inception_file: Path, weights: Rows) -> None:
    images = torch.rand(2, 1, 40, 50, generator=torch_generator(0, "images"))
    found = Inception(weights=inception_file)(images)
    assert found.shape == (2, 2048)
    assert found.std() > 0.01
    bytes_ = (images * 255).round().repeat(1, 3, 1, 1) / 255
    with torch.no_grad():
        resized = F.interpolate(bytes_, size=(299, 299), mode="bilinear", align_corners=False)
        wanted = fid_inception(weights, 2 * resized - 1)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_only_the_published_weights_make_it_fid(
    inception_file: Path, digits: Split, model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Few(FeatureNetwork):
        """The features of two values, under the names of the network's."""

        def __init__(self, like: Inception) -> None:
            super().__init__()
            self.name, self.sha256, self.metric_aliases = like.name, like.sha256, like.metric_aliases
            self.inner = Encoder(model=model)

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.inner(images)
            return found

        def maps(self, images: Tensor) -> list[Tensor]:
            return self.inner.maps(images)

    unknown = evaluate(model, digits, metrics=["fd", "kd"], features=Few(Inception(weights=inception_file)))
    assert set(unknown.metrics) == {"fd-random", "kd-random"}
    monkeypatch.setattr(module, "PUBLISHED", unknown.protocol["features"]["sha256"])
    known = evaluate(model, digits, metrics=["fd", "kd", "recall"], features=Few(Inception(weights=inception_file)))
    assert set(known.metrics) == {"fid", "kid", "recall-inception"}
    assert known.metrics["fid"] == unknown.metrics["fd-random"]


def test_files_that_are_not_inception_and_images_without_colors_are_refused(
    inception_file: Path, weights: Rows, tmp_path: Path
) -> None:
    features = Inception(weights=inception_file)
    for shape in ((1, 2, 8, 8), (1, 1, 8), (1, 1, 4, 4, 4)):
        with pytest.raises(ShapeError, match="1 or 3 channels"):
            features(torch.zeros(shape))
    part = {name: tensor for name, tensor in weights.items() if "branch_pool.bn" in name}
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(ArtifactError, match=r"part\.safetensors: .* tensor 'Conv2d_1a_3x3\.conv\.weight'"):
        Inception(weights=tmp_path / "part.safetensors")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(print))
    with pytest.raises(ArtifactError, match="code"):
        Inception(weights=tmp_path / "code.pth")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Inception(weights=tmp_path / "none.pth")


def alexnet() -> nn.Sequential:
    """`torchvision.models.alexnet().features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
    )


def vgg16() -> nn.Sequential:
    """`torchvision.models.vgg16().features`, configuration D."""
    layers: list[nn.Module] = []
    channels = 3
    steps: list[int | str] = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
    for step in steps:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            layers += [nn.Conv2d(channels, step, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            channels = step
    return nn.Sequential(*layers)


NETWORKS = {"alex": alexnet, "vgg": vgg16}


@pytest.fixture(scope="module", params=["alex", "vgg"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    with torch.device("meta"):
        shapes = NETWORKS[request.param]().state_dict()
    state = {f"features.{name}": tensor for name, tensor in random_like(shapes, 1).items()}
    path = tmp_path_factory.mktemp("backbones") / f"{request.param}.pth"
    torch.save({**state, "classifier.1.bias": torch.zeros(3)}, path)
    return request.param, path


def test_lpips_is_that_of_torchmetrics(backbone: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = backbone
    monkeypatch.setattr(original, "_get_tv_model_features", lambda *_, **__: NETWORKS[name]())
    theirs = vars(original)["_LPIPS"](net=name, pnet_rand=True)
    state = torch.load(path, weights_only=True)
    layers = dict(theirs.net.named_modules())
    with torch.no_grad():
        for key, layer in layers.items():
            if isinstance(layer, nn.Conv2d):
                place = key.rpartition(".")[2]
                layer.weight.copy_(state[f"features.{place}.weight"])
                assert layer.bias is not None
                layer.bias.copy_(state[f"features.{place}.bias"])
        x, y = torch.rand(2, 3, 3, 40, 48, generator=torch_generator(0, "pairs")).unbind()
        wanted = theirs(x, y, normalize=True).flatten()
    ours = LPIPS(backbone=path, heads=HEADS / f"{name}.pth")
    assert (ours.network, ours.name) == (name, "lpips-unverified")
    assert wanted.min() > 0.001
    torch.testing.assert_close(ours.distance(x, y), wanted, rtol=1e-5, atol=1e-6)
    assert ours.distance(x, x).tolist() == [0, 0, 0]


def test_evaluation_measures_lpips_and_says_whose_weights_they_are(
    backbone: tuple[str, Path], digits: Split, model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = backbone
    least = {"alex": 31, "vgg": 16}[name]
    given = {"backbone": str(path), "heads": str(HEADS / f"{name}.pth"), "size": least}
    report = evaluate(model, digits, metrics=["lpips"], options={"lpips": given}, batch_size=202)
    figure = report.metrics["lpips-unverified"]
    assert figure.interval is not None
    assert figure.interval[0] < figure.value < figure.interval[1]  # type: ignore[operator]
    facts = report.protocol["metrics"]["lpips-unverified"]
    assert facts["backbone"]["file"] == f"{name}.pth"
    assert len(facts["heads"]["sha256"]) == 64
    published = {name: (facts["backbone"]["sha256"][:8], facts["heads"]["sha256"])}
    monkeypatch.setattr("convae.features.networks.lpips.PUBLISHED", published)
    assert LPIPS(backbone=path, heads=HEADS / f"{name}.pth").name == "lpips"


def test_lpips_asks_for_what_it_needs(backbone: tuple[str, Path], digits: Split, model: VAE, tmp_path: Path) -> None:
    name, path = backbone
    other = HEADS / ("vgg.pth" if name == "alex" else "alex.pth")
    heads = HEADS / f"{name}.pth"
    for given, message in [
        ({}, r"lpips\.backbone=… lpips\.heads=…"),
        ({"backbone": path}, r"lpips\.backbone=… lpips\.heads=…"),
        ({"backbone": path, "heads": heads}, "pixels on each side"),
    ]:
        with pytest.raises((ConfigError, ShapeError), match=message):
            evaluate(model, digits, metrics=["lpips"], options={"lpips": given})
    with pytest.raises(ArtifactError, match="heads"):
        LPIPS(backbone=path, heads=other)
    with pytest.raises(ArtifactError, match="AlexNet or VGG-16"):
        LPIPS(backbone=heads, heads=heads)
    with pytest.raises(ArtifactError, match="cannot be read"):
        LPIPS(backbone=tmp_path / "none.pth", heads=heads)


def test_the_command_takes_a_file_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    tiny = {"input": [1, 8, 8], "encoder": ["flatten"], "bottleneck": {"gaussian": {"latent": 2}}}
    decoder = [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}]
    model = convae.build({**tiny, "decoder": decoder})
    model.provenance = Provenance(data={"source": "digits"})
    convae.save(model, tmp_path / "model")
    (tmp_path / "other.pth").write_bytes(b"no weights")
    run("evaluate", tmp_path / "model", "--features", tmp_path / "other.pth", "--metrics", "fd", code=2)
    assert "other.pth: " in capsys.readouterr().err


def test_a_distance_carries_the_name_of_its_network(digits: Split, model: VAE) -> None:
    options = {"feature-distance": {"network": {"features.pooled:Pooled": {"layers": "identity"}}}}
    report = evaluate(model, digits, metrics=["feature-distance"], options=options)
    assert list(report.metrics) == ["feature-distance-pooled"]
    assert report.protocol["metrics"]["feature-distance-pooled"]["sha256"] == "0" * 64
    digest = report.metrics["feature-distance-pooled"].value
    assert isinstance(digest, float)
    assert digest > 0
    with pytest.raises(ConfigError, match=r"feature-distance\.network"):
        evaluate(model, digits, metrics=["feature-distance"])
