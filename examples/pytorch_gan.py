"""A DCGAN on digits in plain PyTorch, with a watch: python examples/pytorch_gan.py

The training loop is an ordinary one; the lines for the watch are marked with ◀.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import equipoise
from equipoise.datasets import load_images

LATENTS = 64


def digits() -> Tensor:
    """Return the embedded digits as float images [N, 1, 28, 28] in [-1, 1]."""
    return torch.as_tensor(load_images("mnist")).float() / 127.5 - 1


class Generator(nn.Module):
    """Latents [N, 64] to images [N, 1, 28, 28] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENTS, 128 * 7 * 7),
            nn.Unflatten(1, (128, 7, 7)),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, 2, 1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Draw one image for each latent."""
        return self.layers(latents)


def make_discriminator() -> nn.Module:
    """Return a network from images [N, 1, 28, 28] to logits [N]."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 7 * 7, 1),
        nn.Flatten(0),
    )


def train(options: argparse.Namespace) -> None:
    """Train until the watch says stop, or the steps are over."""
    torch.manual_seed(options.seed)
    images = digits()
    generator, discriminator = Generator(), make_discriminator()
    g_optimizer = torch.optim.Adam(generator.parameters(), 6e-4, betas=(0.5, 0.99))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), 6e-4, betas=(0.5, 0.99))

    with equipoise.Watch(  # ◀
        options.out,
        real=images,
        latents=LATENTS,
        loss="non-saturating",
        budget=options.budget,
        settings=options.set,
    ) as watch:
        train_images = images[watch.train_indices]  # ◀ scores are taken on the others
        for _ in range(options.steps):
            real = train_images[torch.randint(len(train_images), (64,))]
            fake = generator(torch.randn(64, LATENTS))

            real_logits, fake_logits = discriminator(real), discriminator(fake.detach())
            d_loss = (softplus(-real_logits) + softplus(fake_logits)).mean()
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            g_loss = softplus(-discriminator(fake)).mean()
            g_optimizer.zero_grad()
            g_loss.backward()
            g_optimizer.step()

            watch.step(  # ◀
                len(real),
                real_logits=real_logits,
                fake_logits=fake_logits,
                discriminator_loss=d_loss,
                generator_loss=g_loss,
            )
            if watch.is_evaluation_due:  # ◀
                watch.evaluate(generator)
            if watch.verdict:  # ◀
                break


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="runs/custom-pytorch")
    parser.add_argument("--budget", default="10m", help="a time (90s, 10m) or a number of samples (200k)")
    parser.add_argument("--steps", type=int, default=10**9, help="at most so many steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="a setting such as stopping.patience.evaluations=20")
    train(parser.parse_args())
