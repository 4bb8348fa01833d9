"""The table of methods of the literature, with what convae has of each: recipes and names are read from the code."""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from convae.objective.terms import TERMS
from convae.training.recipe.reading import packaged_recipes
from made.tables import found, table

PEER = "[pythae](https://github.com/clementchadebec/benchmark_VAE)"


@dataclass(frozen=True)
class Method:
    """A method of the literature.

    Attributes:
        name: of the method.
        paper: authors, year and identifier.
        use: what it is for.
        recipe: a packaged recipe; its terms are shown.
        terms: names of its terms, where there is no recipe of its own.
        pieces: other named pieces: place of the registry and names.
        equal: against what its loss and gradient were shown to be equal.
    """

    name: str
    paper: str
    use: str
    recipe: str | None = None
    terms: tuple[str, ...] = ()
    pieces: dict[str, tuple[str, ...]] = field(default_factory=dict)
    equal: str = "formula"


USUAL = {"reconstruction": 1, "kl": 1}
"""The objective of a recipe without one."""
_PRIORS, _QUANTIZERS = "convae.model.priors:PRIORS", "convae.model.quantizers:QUANTIZERS"
METHODS = (
    Method("VAE", "Kingma & Welling 2014, arXiv:1312.6114", "the ELBO", "fashion", equal=PEER),
    Method(
        "β-VAE",
        "Higgins et al. 2017",
        "disentangled latents, better samples",
        terms=("reconstruction", "kl"),
        equal=PEER,
    ),
    Method(
        "β-VAE with capacity",
        "Burgess et al. 2018, arXiv:1804.03599",
        "detail that grows during training",
        terms=("reconstruction", "capacity"),
        equal=PEER,
    ),
    Method(
        "Free bits",
        "Kingma et al. 2016, arXiv:1606.04934",
        "against posterior collapse",
        terms=("reconstruction", "free-bits"),
    ),
    Method("IWAE", "Burda et al. 2016, arXiv:1509.00519", "likelihood", "iwae", equal=f"{PEER} (gradient)"),
    Method(
        "MIWAE, PIWAE, CIWAE",
        "Rainforth et al. 2018, arXiv:1802.04537",
        "likelihood, with a better trained encoder",
        terms=("importance-weighted",),
        equal=f"{PEER} (gradient)",
    ),
    Method(
        "MIWAE for missing data",
        "Mattei & Frellsen 2019, arXiv:1812.02633",
        "incomplete images, imputation",
        "missing",
    ),
    Method(
        "DReG",
        "Tucker et al. 2019, arXiv:1810.04152",
        "less noise in the encoder's gradient",
        terms=("importance-weighted",),
    ),
    Method(
        "β-TCVAE", "Chen et al. 2018, arXiv:1802.04942", "disentangled latents", "beta-tc", equal=f"{PEER} (weighted)"
    ),
    Method("FactorVAE", "Kim & Mnih 2018, arXiv:1802.05983", "disentangled latents", "factor", equal=PEER),
    Method("DIP-VAE I, II", "Kumar et al. 2018, arXiv:1711.00848", "disentangled latents", "dip"),
    Method("InfoVAE", "Zhao et al. 2019, arXiv:1706.02262", "more informative latents", "info-vae", equal=PEER),
    Method("WAE-MMD", "Tolstikhin et al. 2018, arXiv:1711.01558", "an autoencoder to sample from", "wae", equal=PEER),
    Method(
        "Adversarial autoencoder",
        "Makhzani et al. 2016, arXiv:1511.05644",
        "an autoencoder to sample from",
        "aae",
        equal=PEER,
    ),
    Method(
        "RAE-L2, RAE-GP",
        "Ghosh et al. 2020, arXiv:1903.12436",
        "an autoencoder with a prior fitted afterwards",
        "rae",
        equal=f"{PEER} (L2)",
    ),
    Method(
        "RAE-SN",
        "Ghosh et al. 2020, arXiv:1903.12436",
        "the same, with a decoder of Lipschitz layers",
        terms=("squared-error", "latent-norm"),
        pieces={"convae.model.layers:LAYERS": ("spectral-norm",)},
        equal="torch",
    ),
    Method("σ-VAE", "Rybkin et al. 2021, arXiv:2006.13202", "no weight to tune", "sigma-vae"),
    Method(
        "Denoising VAE",
        "Vincent et al. 2008; Im et al. 2017, arXiv:1511.06406",
        "robust latents",
        terms=("reconstruction", "kl"),
        pieces={"convae.model.layers:LAYERS": ("gaussian-noise",)},
    ),
    Method(
        "Contractive autoencoder",
        "Rifai et al. 2011",
        "latents that change little with the image",
        terms=("reconstruction", "contractive"),
    ),
    Method(
        "VampPrior",
        "Tomczak & Welling 2018, arXiv:1705.07120",
        "likelihood, samples",
        pieces={_PRIORS: ("vamp",)},
        equal=PEER,
    ),
    Method(
        "Mixture prior, fitted GMM",
        "Tomczak & Welling 2018; Ghosh et al. 2020",
        "samples",
        pieces={_PRIORS: ("mixture", "gmm")},
    ),
    Method("Ladder VAE, NVAE", "Sønderby et al. 2016, arXiv:1602.02282; Vahdat & Kautz 2020", "likelihood", "ladder"),
    Method(
        "VQ-VAE, VQ-VAE-2",
        "van den Oord et al. 2017, arXiv:1711.00937; Razavi et al. 2019",
        "codes",
        "fashion-vq",
        equal="vector-quantize-pytorch",
    ),
    Method(
        "FSQ, LFQ, SimVQ",
        "Mentzer et al. 2023; Yu et al. 2023; Zhu et al. 2024",
        "large codebooks",
        pieces={_QUANTIZERS: ("fsq", "lfq", "simvq")},
        equal="vector-quantize-pytorch",
    ),
    Method(
        "Semi-amortized inference, after training",
        "Kim et al. 2018, arXiv:1802.02550; Cremer et al. 2018, arXiv:1801.03558",
        "tighter bounds, closer reconstructions",
        pieces={"convae.evaluation:METRICS": ("amortization-gap",)},
        equal="closed form",
    ),
    Method("IAF posterior", "Kingma et al. 2016, arXiv:1606.04934", "non-Gaussian posteriors", "fashion-iaf"),
    Method("Hyperspherical VAE", "Davidson et al. 2018, arXiv:1804.00891", "latents on a sphere", "fashion-sphere"),
    Method("Flow prior", "Dinh et al. 2017, arXiv:1605.08803", "samples, likelihood", "fashion-flow-prior"),
    Method(
        "Transformer over codes",
        "van den Oord et al. 2017; Esser et al. 2021",
        "samples of codes, of a class",
        pieces={_PRIORS: ("transformer",)},
    ),
    Method("Conditional VAE", "Sohn et al. 2015", "samples of a class", "conditional", equal=""),
    Method(
        "Semi-supervised classifier",
        "after Kingma et al. 2014, arXiv:1406.5298",
        "few labels",
        "semi-supervised",
        equal="",
    ),
    Method(
        "VAE/GAN",
        "Larsen et al. 2016, arXiv:1512.09300",
        "a learned similarity in place of pixel errors",
        "vae-gan",
        equal=f"formula; {PEER} (`fakes: samples`)",
    ),
    Method(
        "Feature matching",
        "Wang et al. 2018, arXiv:1711.11585; Kong et al. 2020, arXiv:2010.05646",
        "sharper reconstructions, without a trained network",
        terms=("adversarial", "feature-matching"),
    ),
    Method(
        "MS-SSIM VAE",
        "Snell et al. 2017, arXiv:1511.06409",
        "reconstructions by structural similarity",
        terms=("ms-ssim", "kl"),
        equal="torchmetrics",
    ),
    Method(
        "Perceptual loss",
        "Johnson et al. 2016, arXiv:1603.08155",
        "sharper reconstructions",
        "fashion-perceptual",
        equal="",
    ),
)


def literature() -> str:
    """One row for each method: paper, recipe, terms and pieces, purpose, and what it was shown to be equal to.

    Raises:
        KeyError: a recipe does not exist.
        ConfigError: a term or another piece does not exist.
    """
    rows = []
    for method in METHODS:
        terms = list(method.terms)
        if method.recipe is not None:
            text = packaged_recipes()[method.recipe].read_text(encoding="utf-8")
            terms = [name for name, weight in (yaml.safe_load(text).get("objective") or USUAL).items() if weight != 0]
        for name in terms:
            TERMS.get(name)
        pieces = [(registry, name) for registry, names in method.pieces.items() for name in names]
        for registry, name in pieces:
            found(registry).get(name)
        recipe = "" if method.recipe is None else f"`{method.recipe}`"
        shown = ", ".join([f"`{name}`" for name in terms] + [f"{found(place).kind} `{name}`" for place, name in pieces])
        rows.append([method.name, method.paper, recipe, shown, method.use, method.equal])
    return table(["method", "paper", "recipe", "terms and pieces", "for", "equal to"], rows)
