"""A DCGAN on digits in Lightning (manual optimization), with a watch: python examples/lightning_gan.py

Needs: pip install "equipoise[lightning]"
"""

import argparse

import lightning.pytorch as pl
import torch
from pytorch_gan import LATENTS, Generator, digits, make_discriminator
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset

import equipoise
from equipoise.integrations.lightning import WatchCallback


class Gan(pl.LightningModule):
    """Two players, stepped by hand; `training_step` returns what the watch is given."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = Generator()
        self.discriminator = make_discriminator()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the generator's optimizer and the discriminator's."""
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(network.parameters(), 6e-4, betas=(0.5, 0.99)) for network in networks]

    def training_step(self, batch: list[Tensor]) -> dict[str, Tensor]:
        """Step the discriminator, then the generator."""
        (real,) = batch
        g_optimizer, d_optimizer = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]: a list of two
        fake = self.generator(torch.randn(len(real), LATENTS, device=self.device))

        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake.detach())
        d_loss = (softplus(-real_logits) + softplus(fake_logits)).mean()
        d_optimizer.zero_grad()
        self.manual_backward(d_loss)
        d_optimizer.step()

        g_loss = softplus(-self.discriminator(fake)).mean()
        g_optimizer.zero_grad()
        self.manual_backward(g_loss)
        g_optimizer.step()
        self.log_dict({"d_loss": d_loss, "g_loss": g_loss}, prog_bar=True)
        return {"real_logits": real_logits, "fake_logits": fake_logits}  # the losses are taken from the log


def main(options: argparse.Namespace) -> None:
    """Train until the watch says stop, or the steps are over."""
    pl.seed_everything(options.seed, verbose=False)
    images = digits()
    watch = equipoise.Watch(
        options.out,
        real=images,
        latents=LATENTS,
        loss="non-saturating",
        budget=options.budget,
        settings=options.set,
    )
    loader = DataLoader(TensorDataset(images[watch.train_indices]), batch_size=64, shuffle=True, drop_last=True)
    trainer = pl.Trainer(
        max_steps=2 * options.steps if options.steps else -1,  # Lightning counts the steps of both optimizers
        max_epochs=-1,
        callbacks=[WatchCallback(watch, generator="generator")],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        accelerator="auto",
        devices=1,
    )
    trainer.fit(Gan(), loader)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="runs/custom-lightning")
    parser.add_argument("--budget", default="10m", help="a time (90s, 10m) or a number of samples (200k)")
    parser.add_argument("--steps", type=int, default=0, help="at most so many steps; 0: no limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="a setting such as stopping.patience.evaluations=20")
    main(parser.parse_args())
