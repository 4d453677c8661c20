"""Positional randomness: every draw is a function of (seed, stream, samples, attempt), so a resume is a position."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def stream_seed(seed: int, stream: str, samples: int, attempt: int = 0) -> int:
    """Return a 63-bit seed for one named stream at one position of one attempt."""
    place = f"{seed}/{stream}/{samples}"
    if attempt:  # a rewound run must not meet the draws with which it diverged
        place += f"/{attempt}"
    digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Randomness:
    """The source of all draws at one position of a run: a seed, the samples seen so far, the remedies so far."""

    seed: int
    samples: int = 0
    attempt: int = 0

    def stream_seed(self, stream: str) -> int:
        """Return the seed of a named stream here."""
        return stream_seed(self.seed, stream, self.samples, self.attempt)

    def generator(self, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a fresh generator for a named stream; the same arguments give the same draws."""
        return torch.Generator(device).manual_seed(self.stream_seed(stream))

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Draw a standard normal tensor on the CPU, so that its values do not depend on the device."""
        return torch.randn(*shape, generator=self.generator(stream))
