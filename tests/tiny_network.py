"""A network with a backbone that trains in a moment, for whole runs in the test's process."""

from __future__ import annotations

import flax.linen as nn


class Backbone(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), strides=2, name="block1_conv1")(x)
        return nn.relu(nn.BatchNorm(name="block1_norm1")(x, use_running_average=not train))


class Tiny(nn.Module):
    """A network with a backbone that trains in a moment."""

    classes: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, train):
        x = Backbone(name="backbone")(images, train)
        return nn.Dense(self.classes, name="head")(x.reshape(x.shape[0], -1))
