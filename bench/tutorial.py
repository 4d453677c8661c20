"""The training loop of a tutorial: the DCGAN as published, in plain PyTorch, for comparison at equal time.

    python bench/tutorial.py SOURCE --size 64 --minutes 60 --out FOLDER [--threads 2] [--workers 0] [--seed 0]

Networks, initialisation and settings are those of arXiv:1511.06434, as tutorials of DCGAN on 64×64 images have them:
width 64, 100 latents, batch norm in both players, Adam 2e-4 with β₁ 0.5, binary cross-entropy, batches of 128, float32.
Image files are read and decoded again in each epoch by a Dataset and a DataLoader. The generator of the last step is
what such a loop hands over. Every few minutes, outside the time that counts, images of fixed latents are kept, so that
its best moment can be told as well: FOLDER/<seconds>.npz, uint8 [1000, 3, H, W].
"""

import argparse
import json
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from common import hardware
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from equipoise.data.pool import names_of, prepare
from equipoise.recipe import Data, Images

LATENTS = 100
WIDTH = 64
BATCH = 128
RATE = 2e-4
BETA1 = 0.5
NUM_KEPT = 1_000  # images of fixed latents
KEEP_AT = (1, 2, 4, 6, 10, 15, 20, 30, 40, 50, 60)  # minutes


class Photographs(Dataset):
    """The training images of a zip or a folder, read and decoded whenever they are asked for."""

    def __init__(self, source: Path, names: list[str], size: int):
        self.source = source
        self.names = names
        self.size = size
        self.archive = zipfile.ZipFile(source) if source.suffix == ".zip" else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        name = self.names[index]
        data = self.archive.read(name) if self.archive is not None else (self.source / name).read_bytes()
        image = Image.open(BytesIO(data)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        side = min(image.size)
        left = (image.width - side) // 2
        top = (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def generator(size: int) -> nn.Sequential:
    """Return the published generator: 4×4 with 512 channels, doubled to 64×64."""
    layers: list[nn.Module] = []
    channels = WIDTH * size // 8
    layers += [nn.ConvTranspose2d(LATENTS, channels, 4, 1, 0, bias=False), nn.BatchNorm2d(channels), nn.ReLU(True)]
    side = 4
    while side < size // 2:
        layers += [
            nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(True),
        ]
        channels //= 2
        side *= 2
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())


def discriminator(size: int) -> nn.Sequential:
    """Return the published discriminator: the same sides, downwards."""
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    channels = WIDTH
    side = size // 2
    while side > 4:
        layers += [
            nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.LeakyReLU(0.2, True),
        ]
        channels *= 2
        side //= 2
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 0, bias=False), nn.Flatten(0))


def initialise(module: nn.Module) -> None:
    """Draw the weights as the paper does."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def endless(loader: DataLoader) -> Iterator[Tensor]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def main() -> None:
    """Train, and keep images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    pool = prepare(Data(source=str(asked.source)), Images(size=asked.size, channels=3))
    every = names_of(Data(source=str(asked.source)), pool)
    names = [every[index] for index in pool.splits.train]  # as Equipoise splits them: what is held out is never seen
    loader = DataLoader(
        Photographs(asked.source, names, asked.size), BATCH, shuffle=True, drop_last=True, num_workers=asked.workers
    )
    players = [generator(asked.size).apply(initialise), discriminator(asked.size).apply(initialise)]
    optimizers = [torch.optim.Adam(player.parameters(), RATE, (BETA1, 0.999)) for player in players]
    criterion = nn.BCEWithLogitsLoss()
    ones = torch.ones(BATCH)
    zeros = torch.zeros(BATCH)
    fixed = torch.randn(NUM_KEPT, LATENTS, 1, 1, generator=torch.Generator().manual_seed(7))
    batches = endless(loader)
    spent = 0.0
    samples = 0
    due = [minutes for minutes in KEEP_AT if minutes <= asked.minutes]
    while spent < asked.minutes * 60:
        begin = time.perf_counter()
        real = next(batches)
        # Maximise log D(x) + log(1 − D(G(z)))
        optimizers[1].zero_grad()
        fake = players[0](torch.randn(BATCH, LATENTS, 1, 1))
        (criterion(players[1](real), ones) + criterion(players[1](fake.detach()), zeros)).backward()
        optimizers[1].step()
        # Maximise log D(G(z))
        optimizers[0].zero_grad()
        criterion(players[1](fake), ones).backward()
        optimizers[0].step()
        samples += BATCH
        spent += time.perf_counter() - begin
        if due and spent >= due[0] * 60:
            keep(asked.out / f"{round(spent)}.npz", players[0], fixed)
            print(f"{spent:.0f} s, {samples:,} samples", flush=True)
            due.pop(0)
    keep(asked.out / f"{round(spent)}.npz", players[0], fixed)
    facts = {**hardware(), "seconds": spent, "samples": samples, "seed": asked.seed, "size": asked.size}
    (asked.out / "facts.json").write_text(json.dumps(facts, indent=1))


@torch.no_grad()
def keep(path: Path, player: nn.Module, latents: Tensor) -> None:
    """Write images of fixed latents, drawn as a person who uses the generator draws them."""
    player.eval()
    images = torch.cat([player(part) for part in latents.split(100)])
    player.train()
    np.savez(path, x=((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy())


if __name__ == "__main__":
    main()
