"""Station 3: the three networks. Imports nothing from the rest of the package.

`layers` has the building blocks, `growth` the level of detail, `generator` and `trunk` the
networks, `tables` prints them as the paper's appendix does, `reference` holds them against the
reference implementation.
"""

from anowild.networks.generator import Generator
from anowild.networks.growth import seeded_init
from anowild.networks.trunk import Discriminator, Encoder

__all__ = ["Discriminator", "Encoder", "Generator", "seeded_init"]
