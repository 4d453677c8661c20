"""Directions of the latents along which a generator's pictures change most: by weights, and by activations."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from equipoise.explore.layer import activations_of, first_activations, first_layer
from equipoise.explore.space import Space, centre_of, codes_of, images_of_codes
from equipoise.randomness import Randomness

NUM_LATENTS = 4_000  # whose activations are looked at
MOST_NUMBERS = 2**26  # activations held at once
NUM_ALIKE = 100  # latents in a row that are told the same label, whose mean is then taken away
SPARE = 10  # components beyond those wanted, which make these exact

Method = Literal["weights", "activations"]


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions [K, W] of length 1, those of the largest effect first.

    `shares` [K] say which part of all change each eigenvector or component has, and `explained` [K] how much of that
    moving along the direction explains (R²; by weights, all of it). `deviations` [K] say how far codes spread along
    each, and `layers` where they were found.
    """

    method: Method
    vectors: Tensor
    shares: Tensor
    explained: Tensor
    deviations: Tensor
    layers: tuple[str, ...]


def directions_of_weights(space: Space, num: int, seed: int = 0) -> Directions:
    """Return the eigenvectors of AᵀA of the layer that takes the latents (SeFa, arXiv:2007.06600, Eq. 6).

    Shares are eigenvalues of their sum. Raises UserError where no such layer is found.
    """
    layer = first_layer(space)
    values, vectors = eigenvectors(layer.matrix)
    num = _fewer_than(num, vectors.shape[1])
    chosen = _signed(vectors[:num])
    shares = values[:num] / values.sum()
    return Directions("weights", chosen, shares, torch.ones(num), _deviations(space, chosen, seed), layer.names)


def directions_of_activations(space: Space, num: int, seed: int = 0) -> Directions:
    """Return the latents' directions of the largest variance of activations (GANSpace, arXiv:2004.02546, section 2.2).

    The activations are the first that are not an affine function of the latents: of affine ones, the answer would be
    that of the weights. The directions are found by regression of latents on the components; of a mapping network's
    codes, these are the activations, as in the paper. Shares are of the activations' variance within classes: that
    between them, often the larger one, no latents explain.
    """
    randomness = Randomness(seed)
    name = space.mapping_name
    if space.mapping is None:
        name = first_activations(space, first_layer(space).names[0])
        width = next(iter(_activations(space, name, randomness, 2))).shape[1]
        seen = min(NUM_LATENTS, max(4 * space.latent_size, MOST_NUMBERS // width))
    else:
        seen = NUM_LATENTS
    latents = space.latents(randomness, seen, "activations")
    labels = _told_in_rows(space, randomness, seen)
    codes = codes_of(space, latents, labels)
    activations = codes
    if space.mapping is None:
        activations = torch.cat(list(activations_of(space, name, latents, labels)))
    if labels is not None:
        codes, activations = within_classes(codes), within_classes(activations)
    components, shares = principal_components(activations, _fewer_than(num, codes.shape[1]))
    vectors = _signed(regressed(codes, components))
    explained = determination(codes, components, vectors)
    return Directions("activations", vectors, shares, explained, _deviations(space, vectors, seed), (name,))


def eigenvectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues [W] of AᵀA of a matrix A [M, W], the largest first, and its eigenvectors [W, W] as rows.

    They are the squared singular values and the right singular vectors of A.
    """
    wide = matrix.double()
    values, vectors = torch.linalg.eigh(wide.T @ wide)
    return values.flip(0).clamp(min=0).float(), vectors.T.flip(0).float()


def principal_components(samples: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Return the scores [N, K] of samples [N, D] on their first K components, and the shares [K] of the variance."""
    centred = samples - samples.mean(0)
    num = min(num, *centred.shape)
    rank = min(num + SPARE, *centred.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # it begins with random directions, and forgets them
        _, values, vectors = torch.pca_lowrank(centred, q=rank, center=False, niter=8)
    shares = values[:num].square() / centred.square().sum().clamp(min=1e-30)
    return centred @ vectors[:, :num], shares


def regressed(codes: Tensor, components: Tensor) -> Tensor:
    """Return the directions [K, W] of length 1 in which codes [N, W] change with uncorrelated components [N, K].

    It is argmin Σ‖U x − z‖² over U (arXiv:2004.02546, Eq. 2), each column scaled.
    """
    slopes = components.T @ (codes - codes.mean(0)) / components.square().sum(0)[:, None].clamp(min=1e-30)
    return slopes / slopes.norm(dim=1, keepdim=True).clamp(min=1e-12)


def determination(codes: Tensor, components: Tensor, vectors: Tensor) -> Tensor:
    """Return the share [K] of each component [N, K] that codes [N, W] along its direction [K, W] explain: R².

    It is the adjusted one, as a direction of W numbers that were fitted to N samples finds some by chance.
    """
    along_each = (codes - codes.mean(0)) @ vectors.T
    products = (along_each * components).sum(0).square()
    found = products / (along_each.square().sum(0) * components.square().sum(0)).clamp(min=1e-30)
    num, width = codes.shape
    return (1 - (1 - found) * (num - 1) / max(1, num - 1 - width)).clamp(0, 1)


def within_classes(samples: Tensor) -> Tensor:
    """Return samples [N, D] without the mean of those told the same label, which stand in rows of `NUM_ALIKE`."""
    return torch.cat([part - part.mean(0) for part in samples.split(NUM_ALIKE)])


def resting(codes: Tensor, centre: Tensor, vectors: Tensor, *, keeps_length: bool) -> Tensor:
    """Return codes [N, W] without what they have along directions [K, W], so that steps along these start at 0.

    Normal latents keep their length, as the generator knows no other.
    """
    basis, _ = torch.linalg.qr(vectors.T)
    away = codes - centre
    rest = away - away @ basis @ basis.T
    if keeps_length and vectors.shape[0] < vectors.shape[1]:
        rest = rest * (away.norm(dim=1, keepdim=True) / rest.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return centre + rest


def along(
    space: Space, directions: Directions, latents: Tensor, labels: Tensor | None, steps: Tensor, seed: int = 0
) -> Tensor:
    """Return images [K · S, C, H, W] of one latent [1, Z] moved by steps [S], in deviations, along K directions.

    What the latent has along them already is taken away first, so that the step 0 is one picture in all rows.
    """
    codes = codes_of(space, latents, labels)
    codes = resting(codes, centre_of(space, seed), directions.vectors, keeps_length=space.mapping is None)
    lengths = steps[None, :, None] * directions.deviations[:, None, None]
    moved = (codes + lengths * directions.vectors[:, None]).flatten(0, 1)
    told = labels if labels is None else labels.expand(len(moved), *labels.shape[1:])
    return images_of_codes(space, moved, told)


def _activations(space: Space, name: str, randomness: Randomness, num: int) -> list[Tensor]:
    latents = space.latents(randomness, num, "activations")
    return list(activations_of(space, name, latents, space.told(randomness, num)))


def _told_in_rows(space: Space, randomness: Randomness, num: int) -> Tensor | None:
    """Return labels as often as in the data, each for `NUM_ALIKE` latents in a row: even the rarest has its mean."""
    labels = space.told(randomness, -(-num // NUM_ALIKE))
    return labels if labels is None else labels.repeat_interleave(NUM_ALIKE, 0)[:num]


def _fewer_than(num: int, width: int) -> int:
    """Return how many directions of codes [N, W] are taken: with all of them, nothing of a code would rest."""
    return max(1, min(num, width - 1))


def _deviations(space: Space, vectors: Tensor, seed: int) -> Tensor:
    """Return how far codes of one class spread along directions: by 1 where they are normal."""
    if space.mapping is None:
        return torch.ones(len(vectors))
    randomness = Randomness(seed)
    latents = space.latents(randomness, NUM_LATENTS, "deviations")
    labels = _told_in_rows(space, randomness, NUM_LATENTS)
    codes = codes_of(space, latents, labels)
    return ((codes if labels is None else within_classes(codes)) @ vectors.T).std(0)


def _signed(vectors: Tensor) -> Tensor:
    """Return vectors [K, W] of which the number of the largest size is positive: of the two signs always the same."""
    places = vectors.abs().argmax(1, keepdim=True)
    return vectors * vectors.gather(1, places).sign()
