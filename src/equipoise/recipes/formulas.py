"""The mathematics of games as lines of text, each once: what recipes say of themselves, and what a test evaluates.

x is a real image, z are latents, D(…) is a logit and σ the logistic function; E is an energy, E = −D.
"""

from equipoise.recipe import LossName, PenaltyName

LOSSES: dict[LossName, tuple[str, str]] = {
    "minimax": ("L_D = −log σ(D(x)) − log(1 − σ(D(G(z))))", "L_G = log(1 − σ(D(G(z))))"),
    "non-saturating": ("L_D = −log σ(D(x)) − log(1 − σ(D(G(z))))", "L_G = −log σ(D(G(z)))"),
    "least-squares": ("L_D = ½(D(x) − 1)² + ½D(G(z))²", "L_G = ½(D(G(z)) − 1)²"),
    "wasserstein": ("L_D = D(G(z)) − D(x)", "L_G = −D(G(z))"),
    "hinge": ("L_D = max(0, 1 − D(x)) + max(0, 1 + D(G(z)))", "L_G = −D(G(z))"),
    "relativistic": ("L_D = −log σ(D(x) − D(G(z)))", "L_G = −log σ(D(G(z)) − D(x))"),
    "energy": ("L_D = E(x) + max(0, m − E(G(z)))", "L_G = E(G(z))"),
}
PENALTIES: dict[PenaltyName, str] = {
    "r1": "D also: γ/2 · ‖∇D(x)‖²",
    "r2": "D also: γ/2 · ‖∇D(G(z))‖²",
    "r1+r2": "D also: γ/2 · (‖∇D(x)‖² + ‖∇D(G(z))‖²)",
    "wgan-gp": "D also: γ · (‖∇D(x̂)‖ − 1)², x̂ between x and G(z)",
}


def formulas_of(loss: LossName, penalty: PenaltyName = "none") -> tuple[str, ...]:
    """Return the lines of a loss, D's and G's, and that of a penalty."""
    return (*LOSSES[loss], *([] if penalty == "none" else [PENALTIES[penalty]]))
