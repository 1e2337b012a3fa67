"""The three networks of the paper: generator G, discriminator D, encoder E; and two more.

`residual` has R, the network of the view `transforms`, and `efficientnet` one that comes trained, EfficientNet-Lite0.

`generator` and `trunk` have the networks, `layers` their layers, `growth` the level of detail, `inputs` the
images as they take them. `operators` has the layers' arithmetic for ``train()``, with derivatives of its
own, `inference` that for ``eval()``, which can be exported to ONNX.
"""

from anowild.networks.generator import Generator
from anowild.networks.growth import seeded_init
from anowild.networks.trunk import Discriminator, Encoder

__all__ = ["Discriminator", "Encoder", "Generator", "seeded_init"]
