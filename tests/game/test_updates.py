"""The order of the players' steps, and steps that are refused: against loops by hand, bit for bit."""

import copy
import itertools
import json
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode

from equipoise.errors import UserError
from equipoise.game import steps as shared_steps
from equipoise.game.losses import loss_named
from equipoise.game.updates import ROLES, STATS, Numbers, Players, Role, Terms, Update, make_update, samples_per_round
from equipoise.recipe import Correction, Game, OptimizerName, OptimizerSettings, UpdateName

OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
UPDATES: tuple[UpdateName, ...] = get_args(UpdateName)
BY_STEPS = tuple(rule for rule in UPDATES if rule != "competitive")  # which each optimizer takes; its own form: below
Place = tuple[Role, int]  # a role and a draw
CORRECTED: dict[str, dict[str, Any]] = {
    "consensus": {"update": "simultaneous", "correction": Correction(kind="consensus", weight=0.1)},
    "symplectic": {"update": "alternating", "correction": Correction(kind="symplectic", weight=0.1)},
    "extragradient, consensus": {"update": "extragradient", "correction": Correction(kind="consensus", weight=0.1)},
}
AHEAD: dict[str, dict[str, Any]] = {"lookahead": {"update": "alternating", "lookahead": 2}}
WAYS: dict[str, dict[str, Any]] = {**{rule: {"update": rule} for rule in UPDATES}, **CORRECTED, **AHEAD}


def make_players() -> Players:
    """Latents [N, 3] → points [N, 2] → logits [N], with buffers that a forward pass changes in both."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(3, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    layers = (spectral_norm(nn.Linear(2, 8)), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 1), nn.Flatten(0))
    return Players(generator, nn.Sequential(*layers))


def make_game(way: str = "alternating", optimizer: OptimizerName = "adam", **changes: Any) -> Game:
    both = OptimizerSettings(optimizer=optimizer, rate=0.01, beta1=0.5, beta2=0.9, weight_decay=0.01)
    return replace(Game(loss="non-saturating", generator=both, discriminator=both), **WAYS[way], **changes)


def made(*given: Any, **changes: Any) -> Update:
    return make_update(make_game(*given, **changes), make_players())


def terms_of(
    update: Update, round_: int, bad: Collection[Place] = (), how: str = "loss", seen: list[Place] | None = None
) -> Callable[[Role, int], Terms]:
    """Return the terms of a round: a function of its number, the role and the draw; some of them are not finite."""
    loss, players = loss_named("non-saturating"), update.players

    def terms(role: Role, draw: int) -> Terms:
        if seen is not None:
            seen.append((role, draw))
        draws = torch.Generator().manual_seed(100 * round_ + draw)
        real, latents = torch.randn(8, 2, generator=draws) + 1, torch.randn(8, 3, generator=draws)
        fake = players.generator(latents)
        if role == "discriminator":
            values = loss.discriminator(players.discriminator(real), players.discriminator(fake.detach()))
        else:
            values = loss.generator(torch.zeros(8), players.discriminator(fake))
        if (role, draw) in bad:
            if how == "loss":
                values = values * math.inf
            else:  # 0, with a gradient that is infinite
                values = values + (0 * next(players.of(role).parameters()).square().sum()).sqrt()
        return Terms({"adversarial": values}, {"fake_logit": fake.detach()[:, 0]})

    return terms


def play(update: Update, rounds: Collection[int]) -> None:
    for number in rounds:
        update.round(terms_of(update, number))


def snapshot(update: Update, *roles: Role) -> dict[str, Tensor]:
    """Return copies of weights, buffers and moments, of both players or one; a moment of zero counts as none."""
    roles = roles or ROLES
    found = {f"{role} {name}": value for role in roles for name, value in update.players.of(role).state_dict().items()}
    moments = {name: value for name, value in update.tensors().items() if value.any() and name.startswith(roles)}
    return {name: value.detach().clone() for name, value in (found | moments).items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    changed = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert not changed


# The order of the steps


@pytest.mark.parametrize(
    ("update", "more", "order"),
    [
        ("alternating", 0, [("discriminator", 0), ("discriminator", 1), ("generator", 2)]),
        ("alternating", 1, [("discriminator", 0), ("discriminator", 1), ("discriminator", 2), ("generator", 3)]),
        ("simultaneous", 3, [("generator", 0), ("discriminator", 0)]),
        ("extragradient", 3, [("generator", 0), ("discriminator", 0), ("generator", 1), ("discriminator", 1)]),
        ("past-extragradient", 3, [("generator", 0), ("discriminator", 0)]),
        ("optimistic", 3, [("generator", 0), ("discriminator", 0)]),
        ("competitive", 3, [("discriminator", 0), ("generator", 0)]),
    ],
)
def test_terms_are_asked_for_in_the_order_of_the_rule_each_at_a_draw_of_its_own(
    update: UpdateName, more: int, order: list[Place]
):
    asked, seen = made(update, discriminator_steps=2), list[Place]()
    numbers = asked.round(terms_of(asked, 1, seen=seen), more)
    assert seen == order
    final = [role for role, draw in order if update != "extragradient" or draw == 1]
    told = [role for found in numbers for role in ROLES if f"{role}_loss" in found]
    assert told == final if update == "alternating" else sorted(told) == sorted(final)
    most = max(draw for _, draw in order) if update == "alternating" else order[-1][1] + 1
    assert samples_per_round(replace(asked.game, batch=8), more) == 8 * most


def reference(players: Players, name: OptimizerName) -> dict[Role, torch.optim.Optimizer]:
    """Return torch's own optimizers, unfused, over both players."""
    classes: dict[OptimizerName, Any] = {
        "adam": lambda p: torch.optim.Adam(p, 0.01, betas=(0.5, 0.9), weight_decay=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, 0.01, betas=(0.5, 0.9), weight_decay=0.01),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, momentum=0.5, weight_decay=0.01),
        "adagrad": lambda p: torch.optim.Adagrad(p, 0.01, weight_decay=0.01),
        "sgd": lambda p: torch.optim.SGD(p, 0.01, momentum=0.5, weight_decay=0.01),
    }
    return {role: classes[name](list(players.of(role).parameters())) for role in ROLES}


def by_hand(players: Players, name: OptimizerName, rule: UpdateName, num: int) -> None:
    """Play rounds of two discriminator steps, or of one for both, with torch's own optimizers."""
    optimizers = reference(players, name)
    stand_in: Any = type("Stand", (), {"players": players})
    every = [parameter for role in ROLES for parameter in players.of(role).parameters()]
    last = [torch.zeros_like(parameter) for parameter in every]

    def differentiate(number: int, role: Role, draw: int) -> None:
        values = terms_of(stand_in, number)(role, draw).losses["adversarial"]
        parameters = list(players.of(role).parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(values.mean(), parameters), strict=True):
            parameter.grad = gradient

    for number in range(num):
        if rule == "alternating":
            order: tuple[Place, ...] = (("discriminator", 0), ("discriminator", 1), ("generator", 2))
            for role, draw in order:
                differentiate(number, role, draw)
                optimizers[role].step()
            continue
        before = [parameter.detach().clone() for role in ROLES for parameter in players.of(role).parameters()]
        if rule == "past-extragradient":
            move(players, last)
        for draw in range(2 if rule == "extragradient" else 1):
            for role in ROLES:
                differentiate(number, role, draw)
            if draw or rule == "past-extragradient":
                with torch.no_grad():
                    for parameter, value in zip(every, before, strict=True):
                        parameter.copy_(value)
            for role in ROLES:
                optimizers[role].step()
        steps = [parameter.detach() - value for parameter, value in zip(every, before, strict=True)]
        if rule == "optimistic" and number:
            move(players, [step - old for step, old in zip(steps, last, strict=True)])
        last = steps


@torch.no_grad()
def move(players: Players, steps: list[Tensor]) -> None:
    """Add a step to each parameter of both players."""
    every = [parameter for role in ROLES for parameter in players.of(role).parameters()]
    for parameter, step in zip(every, steps, strict=True):
        parameter.add_(step)


@pytest.mark.parametrize("rule", BY_STEPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_round_is_that_of_a_loop_by_hand(name: OptimizerName, rule: UpdateName):
    update, hand = made(rule, name, discriminator_steps=2 if rule == "alternating" else 1), make_players()
    play(update, range(4))
    by_hand(hand, name, rule, 4)
    for role in ROLES:
        expected = hand.of(role).state_dict()
        for key, value in update.players.of(role).state_dict().items():
            torch.testing.assert_close(value, expected[key], msg=f"{role} {key}")


class Pair(nn.Module):
    """Two weights, of which the second may come in later."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))


def test_a_weight_that_comes_in_later_takes_a_plain_step_first_under_optimistic_play():
    plain = OptimizerSettings(optimizer="sgd", rate=0.1, beta1=0.0)
    generator = Pair()
    update = make_update(Game(update="optimistic", generator=plain, discriminator=plain), Players(generator, Pair()))
    found = []
    for slope in (0.0, 0.0, 1.0, 3.0):

        def terms(role: Role, draw: int, slope: float = slope) -> Terms:
            own: Any = update.players.of(role)
            loss = own.first + own.second if role == "discriminator" else own.first
            return Terms({"adversarial": (loss + slope * own.second if slope else loss)[None]})

        update.round(terms)
        found.append((generator.first.item(), generator.second.item()))
    # a step of 0.1 · slope at first, then twice the present one less the one before
    assert found == [pytest.approx(pair) for pair in ((-0.1, 0), (-0.2, 0), (-0.3, -0.1), (-0.4, -0.6))]


@pytest.mark.parametrize("rule", BY_STEPS)
def test_a_players_terms_leave_no_gradient_in_the_other(rule: UpdateName):
    update = made(rule)

    def check(role: Role, draw: int) -> Terms:
        assert all(parameter.requires_grad for parameter in update.players.of(role).parameters())
        other: Role = "generator" if role == "discriminator" else "discriminator"
        assert not any(parameter.requires_grad for parameter in update.players.of(other).parameters())
        return terms_of(update, 1)(role, draw)

    update.round(check)


def test_numbers_are_means_of_the_terms_their_sum_the_gradients_norm_and_the_stats():
    update = made(generator=OptimizerSettings(optimizer="sgd", rate=1e-9))
    players = update.players

    def terms(role: Role, draw: int) -> Terms:
        first = next(players.of(role).parameters())
        of_both = {"a": torch.stack([first.sum(), 3 * first.sum()]), "b": torch.tensor([1.0, 2.0, 6.0])}
        return Terms(of_both, {"accuracy": torch.tensor([4.0, 6.0])})

    for numbers, role in zip(update.round(terms), ("discriminator", "generator"), strict=True):
        total = numbers[f"term/{role}/a"]
        assert numbers[f"term/{role}/b"].item() == pytest.approx(3.0)
        assert numbers[f"{role}_loss"].item() == pytest.approx(total.item() + 3.0)
        assert numbers["accuracy"].item() == 5.0
        num = next(players.of(role).parameters()).numel()
        assert numbers[f"{role}_gradient"].item() == pytest.approx(2 * math.sqrt(num))  # (1 + 3)/2 for each weight
        assert numbers[f"{role}_skipped"].item() == 0.0
        assert not any(value.requires_grad for value in numbers.values())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["generator_loss", "generator_rate", "skipped_steps", "term/generator/a", "acuracy"])
def test_a_stat_that_would_be_logged_nowhere_or_in_place_of_another_is_refused_by_the_method(role: Role, name: str):
    update = made()
    for stats in ({name: torch.tensor(1.0)}, {"accuracy": torch.tensor(1.0), name: torch.tensor(1.0)}):
        with pytest.raises(UserError) as refused:
            update.round(lambda player, draw, stats=stats: Terms({}, stats if player == role else {}))
        assert refused.value.subject == f"task.{role}_terms()"
        assert name in refused.value.problem
        assert all(allowed in refused.value.problem for allowed in STATS)


def test_gradients_are_clipped_player_by_player():
    sgd = OptimizerSettings(optimizer="sgd", rate=1.0)
    update = made(generator=replace(sgd, clip_norm=1e-3), discriminator=sgd)
    before = snapshot(update)
    found: Numbers = {name: value for numbers in update.round(terms_of(update, 1)) for name, value in numbers.items()}
    lengths: dict[Role, float] = {"generator": 1e-3, "discriminator": found["discriminator_gradient"].item()}
    for role, length in lengths.items():
        moved = [p - before[f"{role} {name}"] for name, p in update.players.of(role).named_parameters()]
        assert torch.cat([part.flatten() for part in moved]).norm().item() == pytest.approx(length, rel=1e-3)
    assert found["generator_gradient"] > 1e-3


@pytest.mark.parametrize("rule", WAYS)
def test_weights_of_the_discriminator_alone_are_clipped(rule: str):
    update = made(rule, weight_clip=0.05)
    play(update, [1])
    largest = {role: max(p.abs().max().item() for p in update.players.of(role).parameters()) for role in ROLES}
    assert largest["discriminator"] == pytest.approx(0.05)
    assert largest["generator"] > 0.05


def test_rates_are_set_player_by_player():
    update = made()
    update.set_rates(0.25, 0.5)
    assert [update.rate(role) for role in ROLES] == [0.25, 0.5]


# Steps that are refused

TOGETHER = ("simultaneous", "past-extragradient", "optimistic", "competitive", "consensus")
BAD: list[tuple[str, tuple[Place, ...]]] = [
    ("alternating", (("discriminator", 0), ("generator", 1))),
    *((rule, (place,)) for rule in TOGETHER for place in itertools.product(ROLES, (0,))),
    ("symplectic", (("discriminator", 0), ("generator", 1))),
    *(("extragradient", (place,)) for place in itertools.product(ROLES, (0, 1))),
]


@pytest.mark.parametrize("num_before", [0, 2])
@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize(("rule", "bad"), BAD)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_refused_round_changes_nothing_and_the_next_is_that_of_a_run_without_it(
    name: OptimizerName, rule: str, bad: tuple[Place, ...], how: str, num_before: int
):
    update, without = made(rule, name), made(rule, name)
    play(update, range(num_before))
    play(without, range(num_before))
    before = snapshot(update)
    for numbers in update.round(terms_of(update, 7, bad, how)):
        (flag,) = [name for name in numbers if name.endswith("_skipped")]
        assert numbers[flag].item() == 1.0
        assert all(value.isnan() for name, value in numbers.items() if name != flag)
    assert_same(snapshot(update), before)
    play(update, (8, 9))
    play(without, (8, 9))
    assert_same(snapshot(update), snapshot(without))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_where_players_alternate_the_other_steps_on(name: OptimizerName, role: Role):
    update = made("alternating", name)
    play(update, range(2))
    before = snapshot(update)
    numbers = update.round(terms_of(update, 7, [(role, 0 if role == "discriminator" else 1)]))
    other: Role = "generator" if role == "discriminator" else "discriminator"
    flags = {name: value.item() for found in numbers for name, value in found.items() if name.endswith("_skipped")}
    assert flags == {f"{role}_skipped": 1.0, f"{other}_skipped": 0.0}
    after, of_role = snapshot(update), [key for key, _ in update.players.of(role).named_parameters()]
    moments = [key for key in before if key.startswith(f"{role}.")]
    for key in (*(f"{role} {key}" for key in of_role), *moments):
        assert torch.equal(after[key], before[key]), key
    assert any(not torch.equal(after[key], before[key]) for key in before if key.startswith(f"{other} "))


def test_a_step_may_be_refused_in_the_middle_of_a_round():
    update, without = made(discriminator_steps=3), made(discriminator_steps=3)
    bad: Place = ("discriminator", 1)
    update.round(terms_of(update, 1, [bad]))

    def skipping(role: Role, draw: int) -> Terms:
        return Terms({}, {}) if (role, draw) == bad else terms_of(without, 1)(role, draw)

    without.round(skipping)
    assert_same(snapshot(update), snapshot(without))


@pytest.mark.parametrize("rule", WAYS)
def test_a_refused_first_step_clips_no_weight(rule: str):
    update = made(rule, weight_clip=0.01)
    before = snapshot(update)
    update.round(terms_of(update, 1, set(itertools.product(ROLES, (0, 1)))))
    assert_same(snapshot(update), before)


# A player that rests


@pytest.mark.parametrize("resting", ROLES)
@pytest.mark.parametrize("rule", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_player_without_loss_terms_rests(name: OptimizerName, rule: str, resting: Role):
    update = made(rule, name)
    for num_before in range(2):  # before its first step, and after one
        before = snapshot(update)

        def terms(role: Role, draw: int, number: int = num_before) -> Terms:
            return Terms({}, {}) if role == resting else terms_of(update, number)(role, draw)

        numbers = {name: value for found in update.round(terms) for name, value in found.items()}
        assert [numbers[f"{resting}_{name}"].item() for name in ("loss", "gradient", "skipped")] == [0.0, 0.0, 0.0]
        after = snapshot(update)
        moving: Role = "discriminator" if resting == "generator" else "generator"
        for key, _ in update.players.of(resting).named_parameters():
            assert torch.equal(after[f"{resting} {key}"], before[f"{resting} {key}"])
        assert_same(*({k: v for k, v in found.items() if k.startswith(f"{resting}.")} for found in (after, before)))
        assert any(not torch.equal(after[k], before[k]) for k in before if k.startswith(f"{moving} "))
        play(update, [10 + num_before])


# Nothing waits for the device


class NoReading(TorchDispatchMode):
    """Raises where a value goes from the device to the host, which on an accelerator would make it wait."""

    READING = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "allclose", "masked_select", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__.partition(".")[0] not in self.READING, func
        return func(*args, **(kwargs or {}))


def test_the_watch_for_reading_sees_what_reads():
    for read in (lambda value: value.item(), bool, float, torch.Tensor.nonzero):
        with pytest.raises(AssertionError), NoReading():
            read(torch.ones(()))


@pytest.mark.parametrize("bad", [(), tuple(itertools.product(ROLES, (0, 1)))], ids=["good", "refused"])
@pytest.mark.parametrize("rule", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_round_reads_no_value_from_the_device(name: OptimizerName, rule: str, bad: tuple[Place, ...]):
    clipped = replace(make_game(rule, name).generator, clip_norm=0.1)
    update = made(rule, name, generator=clipped, weight_clip=0.5)
    for number in range(2):  # moments are made in the first
        with NoReading():
            found = update.round(terms_of(update, number, bad))
        assert found


# A checkpoint


@pytest.mark.parametrize("rule", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_an_update_survives_safetensors_and_json_bit_for_bit(name: OptimizerName, rule: str):
    straight = made(rule, name)
    play(straight, range(3))
    straight.set_rates(0.02, 0.005)
    tensors, values = load(save(straight.tensors())), json.loads(json.dumps(straight.values(), allow_nan=False))
    resumed = made(rule, name)
    for role in ROLES:
        resumed.players.of(role).load_state_dict(straight.players.of(role).state_dict())
    resumed.load(tensors, values)
    assert resumed.values() == straight.values()
    assert_same(snapshot(resumed), snapshot(straight))
    play(straight, (4, 5))
    play(resumed, (4, 5))
    assert_same(snapshot(resumed), snapshot(straight))


@pytest.mark.parametrize("rule", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_before_the_first_round_survives_too(name: OptimizerName, rule: str):
    straight, resumed = made(rule, name), made(rule, name)
    resumed.load(load(save(straight.tensors())), json.loads(json.dumps(straight.values(), allow_nan=False)))
    play(straight, (4, 5))
    play(resumed, (4, 5))
    assert_same(snapshot(resumed), snapshot(straight))


def test_state_keeps_the_players_apart():
    different = {"generator": OptimizerSettings(optimizer="sgd", beta1=0.5), "discriminator": OptimizerSettings()}
    update = made(**different)
    play(update, range(2))
    tensors = update.tensors()
    assert {name.partition(".")[0] for name in tensors} == set(ROLES)
    with pytest.raises((KeyError, TypeError, ValueError)):
        made(generator=different["discriminator"], discriminator=different["generator"]).load(tensors, update.values())


@pytest.mark.parametrize("damage", ["role", "group", "betas"])
def test_state_of_another_update_is_refused(damage: str):
    update = made()
    play(update, [1])
    values = copy.deepcopy(update.values())
    if damage == "role":
        del values["generator"]
    elif damage == "group":
        values["generator"]["groups"] = []
    else:
        values["generator"]["groups"][0]["betas"] = 3
    with pytest.raises((KeyError, TypeError, ValueError)):
        made().load(update.tensors(), values)


# Several processes


def test_a_flag_is_the_largest_of_all_processes(monkeypatch: pytest.MonkeyPatch):
    class Elsewhere:
        """Another process that refuses its step."""

        ReduceOp = torch.distributed.ReduceOp
        is_available = is_initialized = staticmethod(lambda: True)

        @staticmethod
        def all_reduce(flag: Tensor, op: Any) -> None:
            assert op == torch.distributed.ReduceOp.MAX
            flag.clamp_(min=1.0)

    monkeypatch.setattr(shared_steps, "distributed", Elsewhere)
    update = made()
    before = snapshot(update)
    for numbers in update.round(terms_of(update, 1)):
        assert max(value.item() for name, value in numbers.items() if name.endswith("_skipped")) == 1.0
    assert_same(snapshot(update), before)


def one_of_two(rank: int, folder: str) -> None:
    """Play three rounds by each rule in one of two processes; the second of them is bad in one process alone."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for rule in UPDATES:
        update, flags = made(rule), []
        for number in range(3):
            bad: list[Place] = [("discriminator", 0)] if (rank, number) == (1, 1) else []
            for found in update.round(terms_of(update, number, bad)):
                flags += [(number, name) for name, value in found.items() if name.endswith("_skipped") and value]
        Path(folder, f"{rule} {rank}.json").write_text(json.dumps(flags))
        Path(folder, f"{rule} {rank}.safetensors").write_bytes(save(snapshot(update)))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_refuse_a_step_together_where_one_of_them_must(tmp_path: Path):
    spawned = spawn(one_of_two, (str(tmp_path),), nprocs=2, join=False)
    assert spawned is not None
    while not spawned.join(timeout=60):
        pass
    for rule in UPDATES:
        first, second = (json.loads((tmp_path / f"{rule} {rank}.json").read_text()) for rank in range(2))
        refused = ROLES[1:] if rule == "alternating" else ROLES
        assert first == second == [[1, f"{role}_skipped"] for role in refused]
        assert_same(*(load((tmp_path / f"{rule} {rank}.safetensors").read_bytes()) for rank in range(2)))
