"""What remedies have changed of a game; without torch, so that rules about runs can read it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Adjustments:
    """Factors of rates, momentum and γ, what is added to noise, augmentation and D's steps, and γ of a new penalty."""

    generator_rate: float = 1.0
    discriminator_rate: float = 1.0
    momentum: float = 1.0
    gamma: float = 1.0
    noise: float = 0.0
    augment: float = 0.0
    discriminator_steps: int = 0
    penalty: float = 0.0  # γ of R1 + R2, in a game whose recipe has no penalty
