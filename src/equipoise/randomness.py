"""Positional randomness: every draw is a function of (seed, stream, samples), so a resume is a position."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def stream_seed(seed: int, stream: str, samples: int) -> int:
    """Return a 63-bit seed for one named stream at one position."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{samples}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Randomness:
    """The source of all draws at one position of a run: a seed and the samples seen so far."""

    seed: int
    samples: int = 0

    def generator(self, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a fresh generator for a named stream; the same arguments give the same draws."""
        return torch.Generator(device).manual_seed(stream_seed(self.seed, stream, self.samples))

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Draw a standard normal tensor on the CPU, so that its values do not depend on the device."""
        return torch.randn(*shape, generator=self.generator(stream))
