"""A DCGAN on digits in Keras 3, with a watch: python examples/keras_gan.py

Needs: pip install "equipoise[keras]". Its `train_step` is written for the torch backend; the callback works with any.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from keras import layers
from torch.nn.functional import softplus

import equipoise
from equipoise.datasets import load_images
from equipoise.integrations.keras import WatchCallback

LATENTS = 64


def make_generator() -> keras.Model:
    """Return a network from latents [N, 64] to images [N, 28, 28, 1] in [-1, 1]."""
    return keras.Sequential(
        [
            layers.Input((LATENTS,)),
            layers.Dense(7 * 7 * 128),
            layers.Reshape((7, 7, 128)),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2DTranspose(64, 4, 2, "same"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2DTranspose(1, 4, 2, "same", activation="tanh"),
        ]
    )


def make_discriminator() -> keras.Model:
    """Return a network from images [N, 28, 28, 1] to logits [N, 1]."""
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 4, 2, "same"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(64, 4, 2, "same"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(1),
        ]
    )


class Gan(keras.Model):
    """Two players; `train_step` returns what the watch is given."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = make_generator(), make_discriminator()
        self.g_optimizer = keras.optimizers.Adam(6e-4, beta_1=0.5, beta_2=0.99)
        self.d_optimizer = keras.optimizers.Adam(6e-4, beta_1=0.5, beta_2=0.99)
        self.built = True

    def train_step(self, real: torch.Tensor) -> dict[str, torch.Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Step the discriminator, then the generator."""
        fake = self.generator(keras.random.normal((len(real), LATENTS)), training=True)
        real_logits = self.discriminator(real, training=True)
        fake_logits = self.discriminator(fake.detach(), training=True)
        d_loss = (softplus(-real_logits) + softplus(fake_logits)).mean()
        self.step(self.discriminator, self.d_optimizer, d_loss)
        g_loss = softplus(-self.discriminator(fake, training=True)).mean()
        self.step(self.generator, self.g_optimizer, g_loss)
        stats = {"d_loss": d_loss, "g_loss": g_loss, "real_logits": real_logits, "fake_logits": fake_logits}
        return {name: value.detach() for name, value in stats.items()}

    def step(self, player: keras.Model, optimizer: keras.optimizers.Optimizer, loss: torch.Tensor) -> None:
        """Take one step of one player."""
        self.zero_grad()
        loss.backward()
        variables = player.trainable_weights
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)


def main(options: argparse.Namespace) -> None:
    """Train until the watch says stop, or the epochs are over."""
    keras.utils.set_random_seed(options.seed)
    images = load_images("mnist")  # uint8 [N, 1, 28, 28]
    watch = equipoise.Watch(
        options.out,
        real=images,
        latents=LATENTS,
        loss="non-saturating",
        budget=options.budget,
        settings=options.set,
    )
    real = np.moveaxis(images[watch.train_indices], 1, -1).astype("float32") / 127.5 - 1
    gan = Gan()
    gan.compile()
    with watch:  # so that an error or Ctrl-C ends the run in order, too
        callback = WatchCallback(watch, batch=64)
        gan.fit(real, batch_size=64, epochs=options.epochs, verbose=options.verbose, callbacks=[callback])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="runs/custom-keras")
    parser.add_argument("--budget", default="10m", help="a time (90s, 10m) or a number of samples (200k)")
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--verbose", type=int, default=0, help="1: Keras shows its own progress, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="a setting such as stopping.patience.evaluations=20")
    main(parser.parse_args())
