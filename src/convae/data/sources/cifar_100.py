"""CIFAR-100: 50,000 + 10,000 photographs in a hundred classes, 32×32 RGB."""

from __future__ import annotations

from typing import ClassVar

from convae.data.io.download import Remote
from convae.data.sources.base.cifar import CifarSource

_COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2
"""
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Cifar100(CifarSource):
    """Photographs in 100 classes of 20 kinds, 32×32 RGB, with an official test split (A. Krizhevsky, 2009).

    The label is the class (`fine`); the superclass is the column `coarse`.
    """

    train: ClassVar = {"train": 50_000}
    test: ClassVar = {"test": 10_000}
    labels: ClassVar = ("coarse", "fine")
    label: ClassVar = "fine"
    classes: ClassVar = {
        "coarse": tuple(name.replace("_", " ") for name in _COARSE.split()),
        "fine": tuple(name.replace("_", " ") for name in _FINE.split()),
    }
    folder: ClassVar = "cifar-100-binary"
    remotes: ClassVar = (
        Remote(
            "cifar-100-binary.tar.gz",
            (
                "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                "https://cave.cs.toronto.edu/kriz/cifar-100-binary.tar.gz",
            ),
            "03b5dce01913d631647c71ecec9e9cb8",
            "md5",
            168_513_733,
        ),
    )
