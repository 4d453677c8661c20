import dataclasses
from functools import partial

import pytest
import torch
from trainings import task_of

from equipoise import loop
from equipoise.errors import UserError
from equipoise.recipe import Images, with_settings
from equipoise.recipes import Facts, build
from equipoise.state import start

SHORT = ["networks.width=4", "game.batch=8", "evaluation.num_samples=100", "networks.latent_size=24"]
N = "networks."
dc = [N + "family=dcgan", N + "generator_norm=batch"]
rn = [N + "family=resnet", N + "generator_norm=batch"]
mo = [N + "family=modern", N + "generator_norm=none"]
comp = [
    "game.update=competitive",
    "game.generator.optimizer=rmsprop",
    "game.discriminator.optimizer=rmsprop",
    "game.generator.beta1=0",
    "game.discriminator.beta1=0",
    "game.loss=minimax",
]
A = {
    "dcgan": dc,
    "attention-dcgan": [*dc, N + "attention=4"],
    "attention-resnet": [*rn, N + "attention=4"],
    "skips": [*rn, N + "latent_skips=true", N + "orthogonal=true", N + "generator_spectral_norm=true"],
    "sn": [*rn, N + "spectral_norm=true"],
    "growing-dcgan": [*dc, N + "growing=16"],
    "growing-resnet": [*rn, N + "growing=16"],
    "growing-modern": [*mo, N + "growing=16"],
    "stacked-dcgan": [*dc, N + "stacked=16"],
    "stacked-resnet": [*rn, N + "stacked=16"],
    "stacked-modern": [*mo, N + "stacked=16"],
    "style": [N + "family=style", N + "generator_norm=none", N + "minibatch_deviation=true"],
    "competitive": [*dc, *comp],
    "consensus": [*dc, "game.correction.kind=consensus"],
    "symplectic": [*dc, "game.correction.kind=symplectic", "game.update=simultaneous"],
    "symp-attention": [*rn, N + "attention=4", "game.correction.kind=symplectic"],
    "past": [*dc, "game.update=past-extragradient"],
    "optimistic": [*dc, "game.update=optimistic"],
    "lookahead": [*dc, "game.lookahead=2"],
    "frozen": [*dc, N + "frozen=1"],
    "dev": [*dc, N + "minibatch_deviation=true"],
    "r1r2": [*rn, "game.penalty.kind=r1+r2", "game.penalty.gamma=1"],
}
B = {
    "concat": [N + "conditional=true", N + "condition=concatenation"],
    "naming": [N + "conditional=true", N + "condition=naming", "game.auxiliary=1"],
    "labelscale": [N + "conditional=true", N + "label_scale=0.1"],
    "codes": [N + "categorical_codes=3", N + "continuous_codes=2", "game.information=1"],
    "several": [N + "discriminators=2"],
    "scales": [N + "scales=2"],
    "auto": [
        N + "autoencoder=true",
        "game.loss=energy",
        "game.margin=0.1",
        "game.pulling_away=0.1",
        "game.penalty.kind=none",
    ],
    "all": [
        N + "conditional=true",
        N + "condition=naming",
        "game.auxiliary=1",
        N + "categorical_codes=3",
        "game.information=1",
        N + "discriminators=2",
        N + "scales=2",
    ],
    "packs": ["game.packing=2", N + "discriminators=2"],
}


@pytest.mark.parametrize("b", B)
@pytest.mark.parametrize("a", A)
def test_c(small, shapes, a, b):
    recipe = dataclasses.replace(build("dcgan", Facts(size=16, num_train=192)), task=Images(size=16))
    out = open("/tmp/eq/mrg-combos.txt", "a")
    try:
        base = with_settings(recipe, [f"data.source={shapes}", *SHORT, N + "discriminator_norm=none"])
        extra = [] if a != "competitive" or b != "auto" else []
        recipe = with_settings(base, [*A[a], *B[b]])
        task = task_of(recipe)
        state = start(task, recipe)
    except UserError as e:
        out.write(f"{a:18s} {b:10s} REFUSED {e.subject} | {str(e)[:150]!r}\n")
        return
    before = {
        r: [(n, p.detach().clone()) for n, p in getattr(state.players, r).named_parameters()]
        for r in ("generator", "discriminator")
    }
    try:
        for _ in range(7):
            loop.set_rates(state, recipe, 0.1)
            for numbers in state.update.round(partial(loop.terms_of, task, state, recipe, 0.1)):
                assert all(bool(v.isfinite()) for k, v in numbers.items() if k.endswith(("loss", "gradient"))), numbers
                assert not any(bool(v) for k, v in numbers.items() if k.endswith("skipped")), numbers
            state.samples += loop.step_of(state, recipe)
    except Exception as e:
        out.write(f"{a:18s} {b:10s} BROKE {type(e).__name__} {str(e)[:200]!r}\n")
        raise
    still = {
        r: [n for (n, old), p in zip(before[r], getattr(state.players, r).parameters()) if torch.equal(old, p)]
        for r in before
    }
    out.write(
        f"{a:18s} {b:10s} ok still={ {r: len(v) for r, v in still.items()} } {still['generator'][:4]} {still['discriminator'][:4]}\n"
    )
