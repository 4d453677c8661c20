"""The Vendi score: how many samples, all unlike each other, would be as diverse as these (arXiv:2210.02410)."""

import torch
from torch import Tensor

from equipoise.errors import UserError

TOLERANCE = 1e-4  # by which similarities may miss symmetry and 1, and eigenvalues of K/n may miss 0, as float32 rounds


@torch.no_grad()
def vendi(similarities: Tensor) -> float:
    """Return exp of the entropy of the eigenvalues of K/n, in [1, n], for similarities K [N, N] (arXiv:2210.02410).

    K is symmetric, positive semi-definite, and 1 on the diagonal; raises UserError where it is not.
    """
    _check(similarities)
    matrix = similarities.double()
    eigenvalues = torch.linalg.eigvalsh((matrix + matrix.T) / (2 * len(matrix)))
    if eigenvalues[0] < -TOLERANCE:  # no features have such similarities, and its entropy would mean nothing
        least = float(eigenvalues[0]) * len(matrix)
        problem = f"similarities have the eigenvalue {least:.3g}, and none may be negative"
        raise UserError("Vendi score", f"{problem}; give a positive semi-definite matrix, such as one of cosines")
    return _of_eigenvalues(eigenvalues)


@torch.no_grad()
def vendi_by_angle(features: Tensor) -> float:
    """Return the Vendi score of features [N, D], as similar as the cosine of the angle between them.

    K/n and its D×D counterpart share all eigenvalues but zeros, so the smaller one is taken.
    Raises UserError where there is no sample, one is 0, or one is not finite.
    """
    if features.ndim != 2 or not len(features):
        raise UserError("Vendi score", f"features of shape {tuple(features.shape)}; give [N, D] with N at least 1")
    rows = features.double()
    norms = rows.norm(dim=1, keepdim=True)
    if not bool((norms.isfinite() & (norms > 0)).all()):
        raise UserError("Vendi score", "a sample is 0 or not finite, and has no angle; give finite features beside 0")
    rows = rows / norms
    num, dimension = rows.shape
    products = rows @ rows.T if num <= dimension else rows.T @ rows
    return _of_eigenvalues(torch.linalg.eigvalsh(products / num))


def _of_eigenvalues(eigenvalues: Tensor) -> float:
    positive = eigenvalues[eigenvalues > 0]
    return torch.exp(-(positive * positive.log()).sum()).item()


def _check(similarities: Tensor) -> None:
    shape = tuple(similarities.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise UserError("Vendi score", f"similarities of shape {shape}; give a square, [N, N] with N at least 1")
    values = similarities.double()
    if not bool(values.isfinite().all()):
        raise UserError("Vendi score", "a similarity is not finite; give numbers")
    if (values - values.T).abs().max() > TOLERANCE:
        raise UserError("Vendi score", "similarities are not symmetric; give the same for (i, j) and (j, i)")
    if (values.diagonal() - 1).abs().max() > TOLERANCE:
        raise UserError("Vendi score", "a sample's similarity to itself is not 1; give 1 on the diagonal")
    if values.abs().max() > 1 + TOLERANCE:
        raise UserError("Vendi score", "a similarity is beyond -1 and 1; give 1 to equal samples, and less to others")
