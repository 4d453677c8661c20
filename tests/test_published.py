"""Published games: what is played is the paper's, what is killed goes on, and the page says what the record says."""

import importlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

ROOT = Path(__file__).parents[1]
RING = {"experiment": "pacgan", "shape": "ring", "packing": 2, "epochs": 1, "seed": 3}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module


class NoScore:
    """Stands for precision and recall that are not computed."""

    def __init__(self) -> None:
        self.precision = 0.5


class Killed(Exception):
    """Stands for the end of a process in the middle of a game."""


def short(bench: Any, num_rounds: int, killed_at: int = -1) -> Any:
    """Return what builds PacGAN's game with few rounds, and may be killed before one."""
    pacgan, resumable = bench("pacgan"), bench("resumable")

    def build(setting: dict[str, Any]) -> Any:
        play = pacgan.build(setting)

        def play_round(index: int) -> None:
            if index == killed_at:
                raise Killed
            play.play_round(index)

        return resumable.Play(num_rounds, play.update, play_round, play.score, play.glance)

    return build


def test_a_killed_game_goes_on_and_ends_as_if_it_had_not_been(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumable = bench("resumable")
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    resumable.run_all([RING], short(bench, 12), whole, 1)
    monkeypatch.setattr(resumable, "SAVE_EVERY", 0.0)
    with pytest.raises(Killed):
        resumable.run_all([RING], short(bench, 12, killed_at=7), killed, 1)
    assert resumable.finished(killed) == []
    assert resumable.state_of(killed, RING).exists()
    first: list[int] = []
    again = short(bench, 12)

    def counted(setting: dict[str, Any]) -> Any:
        play = again(setting)

        def play_round(index: int) -> None:
            first.append(index)
            play.play_round(index)

        return resumable.Play(12, play.update, play_round, play.score, play.glance)

    resumable.run_all([RING], counted, killed, 1)
    assert first == list(range(7, 12))
    assert not list(tmp_path.glob("*.safetensors"))
    found, expected = resumable.finished(killed)[0], resumable.finished(whole)[0]
    assert (found["score"], found["glances"]) == (expected["score"], expected["glances"])


def test_a_finished_game_is_not_played_again_and_a_torn_line_is_none(bench: Any, tmp_path: Path) -> None:
    resumable = bench("resumable")
    out = tmp_path / "out.jsonl"
    resumable.run_all([RING], short(bench, 2), out, 1)
    with out.open("a") as file:
        file.write('{"setting": {"experi')
    other = RING | {"seed": 4}
    resumable.run_all([RING, other], short(bench, 2), out, 1)
    assert [line["setting"] for line in resumable.finished(out)] == [RING, other]


@pytest.mark.parametrize("packing", [1, 4])
def test_the_networks_of_pacgan_have_the_published_sizes(bench: Any, packing: int) -> None:
    pacgan = bench("pacgan")
    torch.manual_seed(0)
    players = pacgan.players_of(packing)
    shapes = [tuple(layer.weight.shape) for layer in players.generator if isinstance(layer, nn.Linear)]
    assert shapes == [(400, 2), (400, 400), (400, 400), (400, 400), (2, 400)]
    weights = [weight for weight in players.discriminator.parameters() if weight.ndim == 2]
    assert [tuple(weight.shape) for weight in weights] == [
        (1000, 2 * packing),
        (1000, 200),
        (1000, 200),
        (1, 200),
    ]
    assert weights[1].std().item() == pytest.approx(0.02, rel=0.02)
    assert not any(value.any() for value in players.discriminator.parameters() if value.ndim == 1)
    assert players.discriminator(torch.zeros(12, 2)).shape == (12 // packing,)


def test_a_maxout_unit_is_the_largest_of_its_five_pieces(bench: Any) -> None:
    pacgan = bench("pacgan")
    layer = pacgan.Maxout(3)
    points = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    pieces = points @ layer.linear.weight.T + layer.linear.bias
    assert layer(points)[2, 7].item() == pytest.approx(pieces[2, 35:40].max().item())


def test_a_round_shows_each_point_place_once_an_epoch_and_both_players_the_same_samples(bench: Any) -> None:
    pacgan = bench("pacgan")
    torch.manual_seed(0)
    play = pacgan.build(RING)
    game = play.play_round.__closure__
    one = next(cell.cell_contents for cell in game if isinstance(cell.cell_contents, pacgan.PointGame))
    rows = torch.cat([one.real(index).view(-1, 4) for index in (0, 1, 999)])
    assert len(rows.unique(dim=0)) == 300
    assert not torch.equal(one.real(0), one.real(1000))
    seen: list[torch.Tensor] = []
    one.players.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    play.play_round(0)
    in_generator_step, real, in_discriminator_step = seen
    assert torch.equal(in_generator_step, in_discriminator_step)
    assert torch.equal(real, one.real(0))


def test_the_mode_of_a_stack_is_the_number_of_its_digits(bench: Any) -> None:
    stacked = bench("stacked_mnist")

    logits = nn.Linear(784, 10)
    with torch.no_grad():  # largest at the digit that the first pixel is next to
        logits.weight.zero_()
        logits.weight[:, 0] = 60 * torch.arange(10.0)
        logits.bias.copy_(-30 * torch.arange(10.0).square())
    fake = nn.Sequential(nn.Flatten(), logits)
    stacks = torch.zeros(2, 3, 28, 28)
    stacks[0, :, 0, 0] = torch.tensor([7.0, 0.0, 4.0])
    stacks[1, :, 0, 0] = torch.tensor([0.0, 1.5, 9.0])
    modes, is_sure = stacked.modes_of(fake, stacks)
    assert modes[0] == 704
    assert modes[1] in (19, 29)
    assert is_sure.tolist() == [True, False]


@pytest.mark.parametrize("loss", ["dcgan", "pacdcgan2", "minimax", "r1", "r1+r2-relativistic"])
def test_a_round_of_every_kind_of_stacked_game_moves_both_players(
    bench: Any, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    stacked = bench("stacked_mnist")

    class Digits:
        images = torch.randint(256, (50, 1, 28, 28), generator=torch.Generator().manual_seed(1)).byte().numpy()

    monkeypatch.setattr(stacked, "digits", Digits)
    monkeypatch.setattr(stacked, "trained_classifier", lambda pool: None)
    torch.manual_seed(0)
    setting = {"experiment": "stacked-mnist", "loss": loss, "width": 4, "rate": 1e-3, "rounds": 1, "seed": 0}
    play = stacked.build(setting | ({"gamma": 0.1} if stacked.VARIANTS[loss].penalty != "none" else {}))
    players = play.update.players
    before = {name: value.clone() for name, value in players.generator.named_parameters()}
    other = {name: value.clone() for name, value in players.discriminator.named_parameters()}
    play.play_round(0)
    assert any(not torch.equal(value, before[name]) for name, value in players.generator.named_parameters())
    assert any(not torch.equal(value, other[name]) for name, value in players.discriminator.named_parameters())
    steps = {
        role: {int(state["step"]) for state in optimizer.state.values()}
        for role, optimizer in play.update.optimizers.items()
    }
    assert steps["discriminator"] == {1}
    assert steps["generator"] == {2 if stacked.VARIANTS[loss].is_dcgan else 1}


# The page


def test_the_page_has_the_table_of_the_record(bench: Any) -> None:
    published = bench("published")
    record = json.loads((ROOT / "bench" / "records" / "published.json").read_text())
    text = (ROOT / "docs" / "published.md").read_text("utf-8")
    assert published.written(text, record) == text, "run: python bench/published.py table FILE …"
    assert record["rows"] == published.rows_of(record["runs"])


def test_a_row_is_the_mean_over_seeds_of_one_setting_with_its_standard_error(bench: Any) -> None:
    published = bench("published")
    runs = [
        {
            "setting": RING | {"seed": seed, "epochs": epochs},
            "score": {"modes": modes, "good": 0.5, "kl": 0.1},
            "milliseconds_a_round": 18.0,
        }
        for seed, epochs, modes in ((0, 6, 7.0), (1, 6, 8.0), (2, 6, 6.0), (0, 400, 8.0))
    ]
    first, second = published.rows_of(runs)
    assert first["seeds"] == [0, 1, 2]
    assert first["values"]["modes"] == {
        "mean": 7.0,
        "error": pytest.approx(1 / math.sqrt(3)),
        "values": [7.0, 8.0, 6.0],
    }
    assert second["values"]["modes"] == {"mean": 8.0, "error": None, "values": [8.0]}
    text = published.table({"rows": [first, second], "dates": ["2026-01-01"], "processors": ["one"]})
    lines = text.splitlines()
    assert "| 7.9 ± 0.1 | 7.0 ± 0.6 | 3 | −0.9 (−3.3 to +1.5) | 6 of 400 epochs | 2.0 h |" in lines[2]
    assert "| 7.9 ± 0.1 | 8 | 1 | +0.1 | 400 of 400 epochs | 2.0 h |" in lines[5]


def test_a_game_that_fails_in_the_paper_and_not_here_is_said_to_contradict_it(bench: Any) -> None:
    published = bench("published")
    fails = published.PUBLISHED["r1"]["modes"]
    rows = [{"values": {"modes": published.mean_of(modes)}} for modes in ([995.0, 1000.0], [995.0, 72.0])]
    assert [published.contradicts(row, fails) for row in rows] == [True, False]
    assert not published.contradicts(rows[0], published.Value(1000))
    page = (ROOT / "docs" / "published.md").read_text("utf-8")
    assert re.search(
        r"[|] stacked MNIST, relativistic, R1 [|] modes [|] fails [|] [^|]+ [|] [0-9] [|] contradicts [|]", page
    )


def test_the_interval_of_a_difference_is_as_wide_as_few_seeds_make_it(bench: Any) -> None:
    published = bench("published")
    one, other = [7.0, 8.0, 6.0], [6.0, 6.5, 7.5, 6.0, 5.5, 6.5, 7.0, 5.0, 6.0, 7.0]
    errors = [stats.sem(values) for values in (one, other)]
    reference = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    half = published.half_interval(errors[0], 3, errors[1], 10)
    assert 2 * half == pytest.approx(reference.high - reference.low)
    assert half > 2.2 * math.hypot(*errors), "two errors would be too narrow"


def test_a_game_that_two_files_have_is_one_seed(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = bench("published")
    file = ROOT / "bench" / "records" / "published-games.jsonl"
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(published, "write_record", lambda name, values: found.append(values))
    page = tmp_path / "page.md"
    page.write_text("".join(published.MARKS))
    monkeypatch.setattr(published, "DOCS", page)
    published.write_table([file])
    published.write_table([file, file])
    assert [row["seeds"] for row in found[0]["rows"]] == [row["seeds"] for row in found[1]["rows"]]


def test_two_processes_do_not_play_for_one_file(bench: Any, tmp_path: Path) -> None:
    resumable = bench("resumable")
    out = tmp_path / "out.jsonl"
    with resumable.alone(out), pytest.raises(SystemExit, match="another process plays for"):
        resumable.run_all([RING], short(bench, 2), out, 1)
    resumable.run_all([RING], short(bench, 2), out, 1)
    assert len(resumable.finished(out)) == 1


@pytest.mark.parametrize("folder", [None, "an empty one"])
@pytest.mark.parametrize("command", ["stacked-mnist", "golden"])
def test_without_digits_the_commands_that_need_them_end_in_a_sentence(
    bench: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    folder: str | None,
) -> None:
    published, resumable = bench("published"), bench("resumable")
    out = tmp_path / "out.jsonl"
    monkeypatch.setattr("sys.argv", ["published.py", command, "--out", str(out)])
    monkeypatch.setattr(published, "prdc", lambda real, fake: NoScore())  # takes seconds, and is not asked for here
    if folder is None:
        monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    else:
        monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    if command == "golden" and folder is None:
        published.main()
        assert "EQUIPOISE_DATA" in capsys.readouterr().out
        assert [line["setting"]["row"] for line in resumable.finished(out)] == ["prdc", "vendi"]
        return
    with pytest.raises(SystemExit) as ended:
        published.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "EQUIPOISE_DATA" in said if folder is None else "mnist.npz" in said


def test_a_generator_without_a_good_point_has_no_kl_of_good_points(bench: Any) -> None:
    pacgan, published = bench("pacgan"), bench("published")
    torch.manual_seed(0)
    play = pacgan.build(RING)
    score = play.score()
    assert score["good"] == 0, "all points of an untrained generator are at the centre"
    assert math.isnan(score["kl_of_good"])
    assert published.ours("kl_of_good", published.mean_of([None, 0.2])) == "– and 0.20"
    found = published.mean_of([None, 0.2, 0.3])  # a mean of the others would leave out the worst
    assert published.ours("kl_of_good", found) == "–"
    assert published.difference("kl_of_good", found, published.Value(0.45, 0.09)) == "–"


def test_every_published_value_has_a_row_and_every_loss_a_name(bench: Any) -> None:
    published, stacked = bench("published"), bench("stacked_mnist")
    assert set(published.PUBLISHED) <= set(published.ORDER)
    assert set(stacked.VARIANTS) <= set(published.ROWS)


def test_a_difference_of_percentages_is_in_points_and_a_count_has_no_decimals(bench: Any) -> None:
    published = bench("published")
    found = published.mean_of([0.6, 0.7, 0.8])
    assert published.difference("good", found, published.Value(0.9)) == "−20.0 points"
    with_interval = published.difference("good", found, published.Value(0.9, 0.0))
    assert re.fullmatch(r"−20[.]0 [(]−44[.]8 to [+]4[.]8[)] points", with_interval)
    assert published.ours("modes", published.mean_of([847.0, 72.0])) == "847 and 72"
    assert published.ours("modes", published.mean_of([8.0, 8.0, 7.0])) == "7.7 ± 0.3"


def test_what_is_said_of_stacks_is_so(bench: Any) -> None:
    page = (ROOT / "docs" / "published.md").read_text("utf-8")
    record = json.loads((ROOT / "bench" / "records" / "published.json").read_text())
    rows = {row["row"]: row["values"] for row in record["rows"]}
    kl = {name: f"{values['kl']['mean']:.2f}" for name, values in rows.items() if "kl" in values}
    order = ("r1+r2-relativistic", "r1+r2-non-saturating", "r1+r2-minimax")
    told = "pairs with R1 and R2 {}, non-saturating with R1 and R2 {}, minimax with R1 and R2 {}"
    assert told.format(*(kl[name] for name in order)) in page
    assert sorted(order, key=lambda name: float(kl[name])) == list(order)
    assert f"minimax ({kl['minimax']}) and non-saturating ({kl['non-saturating']})" in page
    modes = {name: values["modes"]["values"] for name, values in rows.items() if "modes" in values}
    lost = {name: [count for count in modes[name] if count < 500] for name in ("minimax", "non-saturating")}
    assert lost == {"minimax": [72.0], "non-saturating": [17.0, 12.0]}
    assert f"{modes['r1'][0]:.0f}, 1,000 and 1,000 modes, KL {kl['r1']}; nor does R2 alone ({kl['r2']})" in page
    assert modes["r1"][1:] == [1000.0, 1000.0]
    sure = {name: max(values["sure"]["values"]) for name, values in rows.items() if "sure" in values}
    with_penalty = max(sure[name] for name in ("r1", "r2", *order))
    assert f"No more than {math.ceil(100 * with_penalty)} % of the stacks" in page
    assert f"The most sure stacks of all games, {100 * sure['minimax']:.0f} %" in page


def test_what_is_said_of_packs_is_so() -> None:
    page = (ROOT / "docs" / "published.md").read_text("utf-8")
    record = json.loads((ROOT / "bench" / "records" / "published.json").read_text())
    rows = {(row["row"], row["setting"].get("epochs")): row["values"] for row in record["rows"]}
    one, two = (rows[f"ring, packing {num}", 6] for num in (1, 2))
    told = f"{two['modes']['mean']:.1f} modes instead of {one['modes']['mean']:.1f}"
    kl = f"KL of good points {two['kl_of_good']['mean']:.2f} instead of {one['kl_of_good']['mean']:.2f}"
    assert f"{told}, and more even ones ({kl})" in page
    good = [100 * rows[f"grid, packing {num}", 12]["good"]["mean"] for num in (4, 1)]
    assert "{:.1f} % of the points are good with packs of four, {:.1f} % without packs".format(*good) in page
    four, alone = (rows[f"grid, packing {num}", 40] for num in (4, 1))
    told = f"all {four['modes']['mean']:.0f} modes, evenly (KL of good points {four['kl_of_good']['mean']:.2f})"
    assert (
        f"{told}, and without packs there are {alone['modes']['mean']:.0f} ({alone['kl_of_good']['mean']:.2f})" in page
    )
    assert f"after 12 epochs with packs of four {100 - good[0]:.0f} of 100 points" in page
