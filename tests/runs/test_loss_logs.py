"""Logs of GAN trainings as other tools write them, a few lines each, written by hand."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from equipoise.errors import UserError
from equipoise.runs import loss_logs
from equipoise.runs.loss_logs import MOST, kind_of, read_log

NUM = 12
DISCRIMINATORS = ("d_loss", "lossD", "errD", "Loss/D/loss", "train/disc_loss", "D loss", "critic_loss", "Dis_loss")
GENERATORS = (
    "g_loss",
    "lossG",
    "errG",
    "Loss/G/loss",
    "gen_loss",
    "generator loss",
    "run-1 - g_loss",
    "loss/generator",
)


def written(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(name, "discriminator_loss") for name in DISCRIMINATORS],
        *[(name, "generator_loss") for name in GENERATORS],
        *[(name, "accuracy") for name in ("d_acc", "accuracy", "discriminator/accuracy", "D acc", "acc")],
        ("D(x)", "real_probability"),
        ("D(G(z))", "fake_probability"),
        ("Loss/scores/real", "real_logit"),
        ("fake_logits", "fake_logit"),
        ("grad_norm/generator", "generator_gradient"),
        ("D_grad", "discriminator_gradient"),
        ("Loss/signs/real", "real_sign"),
        ("fid50k_full", "fid"),
        ("val/kid", "kid"),
        ("coverage", "coverage"),
        *[(name, None) for name in ("loss", "g_lr", "epoch", "Loss/D/reg", "time", "g_acc", "real", "d_loss__MIN")],
    ],
)
def test_a_column_is_known_by_the_words_in_its_name(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_lines_as_pytorch_s_tutorial_prints_them_have_steps_over_epochs(tmp_path: Path) -> None:
    lines = [
        f"[{epoch}/2][{batch}/100]\tLoss_D: 1.{batch}\tLoss_G: 2.5\tD(x): 0.6\tD(G(z)): 0.3 / 0.2"
        for epoch in range(2)
        for batch in range(0, 100, 10)
    ]
    log = read_log(written(tmp_path, "out.txt", ["Starting Training Loop...", *lines]))
    assert [line.samples for line in log.lines] == list(range(0, 200, 10))
    assert (log.lines[1].discriminator_loss, log.lines[1].fake_probability) == (1.10, 0.3)
    assert math.isnan(log.lines[1].accuracy)  # it cannot be told from D(x)


def test_stylegan_s_statistics_are_means_over_thousands_of_images(tmp_path: Path) -> None:
    def line(tick: int) -> str:
        means = {"Progress/kimg": 4.0 * tick, "Loss/D/loss": 0.6, "Loss/G/loss": 0.8, "Loss/scores/real": 1.5}
        means |= {"Loss/signs/real": 0.6, "Loss/signs/fake": -0.2}
        values: dict[str, Any] = {name: {"num": 3, "mean": mean, "std": 1.0} for name, mean in means.items()}
        return json.dumps(values | {"timestamp": 1.0})

    log = read_log(written(tmp_path, "stats.jsonl", [*map(line, range(NUM)), '{"Loss/D']))  # the tool still writes
    assert [line.samples for line in log.lines] == [4000 * tick for tick in range(NUM)]
    assert log.unit == "samples"
    assert log.lines[0].accuracy == pytest.approx((0.8 + 0.6) / 2)
    assert log.lines[0].real_logit == 1.5


def test_stylegan_s_metrics_are_scores_at_the_images_of_their_snapshots(tmp_path: Path) -> None:
    lines = [
        json.dumps({"results": {"fid50k_full": 20.0 - tick}, "snapshot_pkl": f"network-snapshot-{200 * tick:06d}.pkl"})
        for tick in range(NUM)
    ]
    log = read_log(written(tmp_path, "metric-fid50k_full.jsonl", lines))
    assert [(score.samples, score.loss) for score in log.scores][:3] == [(0, 20.0), (200_000, 19.0), (400_000, 18.0)]


def test_sparse_rows_of_one_step_are_one_line(tmp_path: Path) -> None:
    rows = [row for step in range(NUM) for row in (f"0,{step},0.5,", f"0,{step},,0.9")]
    log = read_log(written(tmp_path, "metrics.csv", ["epoch,step,d_loss,g_loss", *rows]))
    assert len(log.lines) == NUM
    assert (log.lines[3].discriminator_loss, log.lines[3].generator_loss) == (0.5, 0.9)


@pytest.mark.parametrize("name", ["d_loss.csv", "d_loss.csv.gz"])
def test_the_one_value_of_tensorboard_is_named_by_its_file(tmp_path: Path, name: str) -> None:
    text = "Wall time,Step,Value\n" + "".join(f"1.5,{step},0.25\n" for step in range(NUM))
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    log = read_log(path)
    assert log.lines[0].discriminator_loss == 0.25
    assert log.lines[0].generator_loss == 0.0  # never given, so no sign of anything


def test_percentages_and_empty_cells_and_a_head_written_again(tmp_path: Path) -> None:
    head = "epoch;d_acc;d_loss;g_loss"
    rows = [f"{epoch};{80 + epoch};0.5;{'' if epoch == 3 else 0.9}" for epoch in range(NUM)]
    log = read_log(written(tmp_path, "log.csv", [head, *rows[:6], head, *rows[6:]]))
    assert log.unit == "epochs"
    assert log.lines[5].accuracy == pytest.approx(0.85)
    assert len(log.lines) == NUM


def test_very_many_lines_become_means_in_which_a_number_that_is_not_finite_shows(tmp_path: Path) -> None:
    rows = [f"{step},{'nan' if step == 5_000 else step},1" for step in range(10_000)]
    log = read_log(written(tmp_path, "long.csv", ["step,d_loss,g_loss", *rows]))
    assert NUM < len(log.lines) <= MOST
    assert log.lines[0].discriminator_loss == pytest.approx(9.5)
    assert sum(math.isnan(line.discriminator_loss) for line in log.lines) == 1


def test_what_is_not_in_a_log_is_said(tmp_path: Path) -> None:
    log = read_log(written(tmp_path, "log.csv", ["step,d_loss,g_loss", *[f"{step},1,1" for step in range(NUM)]]))
    assert log.read == {"d_loss": "discriminator_loss", "g_loss": "generator_loss"}
    assert len(log.missing) == 8


COMMAS = [f"{step};{0.5 + 0.01 * step:.2f};{85.5 - step} %".replace(".", ",") for step in range(NUM)]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(["step;d_loss;d_acc", *COMMAS]),
        "\n".join(["step\td_loss\td_acc", *COMMAS]).replace(";", "\t"),
        "\n".join(f'"{line}"' for line in ("step;d_loss;d_acc", *COMMAS)).replace(";", '","'),
        "\n".join(["sep=;", "step;d_loss;d_acc", *COMMAS]),
    ],
    ids=["semicolons", "tabs", "quotes", "sep"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_decimal_commas_are_read_as_a_sheet_writes_them(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode(encoding))
    log = read_log(path)
    assert [line.samples for line in log.lines] == list(range(NUM))
    assert log.lines[3].discriminator_loss == pytest.approx(0.53)
    assert log.lines[3].accuracy == pytest.approx(0.825)


def test_points_between_the_thousands_of_steps_are_left_out_beside_decimal_commas_only(tmp_path: Path) -> None:
    rows = [f"{step}.000;0,5;1,{step}" for step in range(1, NUM)]
    log = read_log(written(tmp_path, "log.csv", ["step;d_loss;g_loss", *rows]))
    assert [line.samples for line in log.lines] == list(range(1_000, 1_000 * NUM, 1_000))
    kimg = [f"{step}.000;0.5;1.{step}" for step in range(1, NUM)]
    log = read_log(written(tmp_path, "log.csv", ["kimg;d_loss;g_loss", *kimg]))
    assert [line.samples for line in log.lines] == list(range(1_000, 1_000 * NUM, 1_000)), "thousands of images"


def test_a_column_of_steps_without_a_number_counts_the_lines(tmp_path: Path) -> None:
    rows = [f"1/{batch},0.{batch},1" for batch in range(NUM)]
    log = read_log(written(tmp_path, "log.csv", ["epoch,d_loss,g_loss", *rows]))
    assert [line.samples for line in log.lines] == list(range(NUM))


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ("7,abc,1", 'd_loss "abc"'),
        ("x,1,1", 'step "x"'),
        ("7,1,=A1", 'g_loss "=A1"'),
    ],
)
def test_a_word_in_place_of_a_number_is_named_with_its_line(tmp_path: Path, row: str, where: str) -> None:
    lines = ["# a comment", "step,d_loss,g_loss", *[f"{step},1,1" for step in range(NUM)], "", row]
    with pytest.raises(UserError) as caught:
        read_log(written(tmp_path, "log.csv", lines))
    assert f"line {NUM + 4}: {where}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "picture"),
        (b"\xff\xd8\xff\xe0" + bytes(range(256)), "picture"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "picture"),
        (b"PK\3\4" + bytes(30), "Excel"),
        (b"0,0.5,1.2\n1,0.6,1.1\n" * NUM, "no names"),
        (b"step,d_loss,g_loss\n" + b"5,1,1\n" * NUM, "of 1 different"),
        (b"d_loss,step,d_loss\n" + b"5,1,1\n" * NUM, "2 times"),
        (b"step;d_loss\n" + b"5;1,234\n" * NUM, "thousands"),
        (b'step,d_loss\n1,"' + b"1" * 200_000 + b'"\n2,1\n' * NUM, "line 2"),
    ],
)
def test_a_file_that_is_no_log_is_refused_by_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_log(path)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_log_that_would_take_gigabytes_is_refused_with_the_line_that_thins_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "my log.csv", ["step,d_loss,g_loss", *[f"{step},1,1" for step in range(100_000)]])
    path.with_name("log.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    read_log(path)
    monkeypatch.setattr(loss_logs, "MOST_BYTES", path.stat().st_size // 4)
    with pytest.raises(UserError) as caught:
        read_log(path)
    assert f"awk 'NR == 1 || NR % 5 == 0' '{path}'" in str(caught.value)
    with pytest.raises(UserError, match="NR % 5"):
        read_log(path.with_name("log.csv.gz"))


def test_a_line_without_end_is_read_in_time_proportional_to_its_length(tmp_path: Path) -> None:
    """A search that begins anew at each letter would take days."""
    for text in ("a" * 300_000 + ": 1", "a " * 150_000 + "= 1", "a(" * 150_000 + ": 1"):
        with pytest.raises(UserError):
            read_log(written(tmp_path, "long.txt", [text]))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["loss", *["1"] * NUM],
        ["roses are red", "violets are blue"] * NUM,
        ["step,d_loss,g_loss", *["1,abc,2"] * NUM],
        ["step,d_loss,g_loss", "1,1,1", "2,1,1", "3,1,1"],
        ["{not json", "{at all"],
        ["step,time,memory", *["1,2,3"] * NUM],
    ],
    ids=["empty", "one column", "no log", "words", "three rows", "no json", "no number of a game"],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_log(written(tmp_path, "log.csv", lines))
    assert "\n" not in str(caught.value)
    assert "log.csv" in str(caught.value)
