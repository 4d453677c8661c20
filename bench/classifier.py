"""An MNIST classifier that judges the demo from outside: it is not the judge and training never sees it."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from equipoise.data.cache import default_cache
from equipoise.data.pool import Pool, gather, to_float
from equipoise.metrics.fid import fid, moments

BATCH = 128
NUM_STEPS = 2_500


def network() -> nn.Sequential:
    """Return a small convolutional classifier whose penultimate layer has 128 features."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def trained_classifier(pool: Pool, folder: Path | None = None) -> nn.Sequential:
    """Train the classifier on the pool's training split (about a minute), or load it from an earlier time."""
    path = (folder or default_cache() / "bench") / f"classifier-{pool.digest[:12]}.safetensors"
    torch.manual_seed(0)
    model = network()
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=NUM_STEPS)
    generator = np.random.default_rng(0)
    assert pool.labels is not None
    for _ in range(NUM_STEPS):
        indices = generator.choice(pool.splits.train, BATCH)
        images = to_float(gather(pool, indices))
        labels = torch.from_numpy(pool.labels[indices])
        shift = generator.integers(-2, 3, 2)
        images = torch.roll(images, tuple(int(s) for s in shift), (2, 3))
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return model


@torch.no_grad()
def features_and_classes(model: nn.Sequential, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return penultimate features `[N, 128]` and predicted classes `[N]` of images in [-1, 1]."""
    features = torch.cat([model[:-1](chunk) for chunk in images.split(500)])
    return features, model[-1](features).argmax(1)


def accuracy(model: nn.Sequential, pool: Pool) -> float:
    """Return the share of the test split that the classifier names rightly."""
    assert pool.labels is not None
    _, classes = features_and_classes(model, to_float(gather(pool, pool.splits.test)))
    return float((classes.numpy() == pool.labels[pool.splits.test]).mean())


def frechet_distance(model: nn.Sequential, pool: Pool, images: Tensor) -> float:
    """Return the Fréchet distance of generated images to the test split in the classifier's features."""
    real, _ = features_and_classes(model, to_float(gather(pool, pool.splits.test)))
    fake, _ = features_and_classes(model, images)
    return fid(moments(real), moments(fake))
