import html.parser
import re
import runpy
from dataclasses import asdict

import pytest

from equipoise.errors import UserError
from equipoise.health.stats import comparable, score_from
from equipoise.recipe import Recipe
from equipoise.report import page
from equipoise.report.report import write_report
from equipoise.runs.folder import OWN_LOOP, RunFolder
from equipoise.storage.files import written_whole
from equipoise.storage.logs import records

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "img", "path", "rect", "circle", "polygon", "polyline"}
SECTIONS = [
    "Samples", "Nearest training images", "How the samples developed", "Scores", "The choice of the best generator",
    "Why it stopped", "The game", "The data", "The recipe", "The environment", "How to use the result",
]  # fmt: skip


class Checker(html.parser.HTMLParser):
    """Collects tags, attributes and text, and refuses tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs), attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(run: RunFolder) -> tuple[str, Checker]:
    text = write_report(run).read_text()
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return text, checker


def assert_stands_alone(text: str, checker: Checker) -> None:
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", text)
    assert not re.search(r"url\((?!#)|@import|<(?:script|link|iframe|object|base)\b", text)
    assert "default-src 'none'" in text


def rescored(run: RunFolder, candidates: list[tuple[float, float, float]], num_scores: int) -> None:
    """Write into the state what judging again found: (KID while training, again, difference); the first has won."""
    protocol = {"split": "validation, second half", "num_real": 3000, "num_generated": 5000}
    best = run.read_state()["best"]
    lines = [
        {
            "samples": 1000 + index,
            "found": {**best, "samples": 1000 + index, "kid": found, "kid_se": 0.001},
            "rescored": {**best, "samples": 1000 + index, "kid": again, "kid_se": 0.001, "protocol": protocol},
            "difference": difference,
            "difference_se": 0.0005,
        }
        for index, (found, again, difference) in enumerate(candidates)
    ]
    values = {"protocol": protocol, "num_scores": num_scores, "candidates": lines, "winner": 1000}
    run.write_state(run.read_state() | {"rescored": values})


def test_a_whole_report_stands_alone_with_every_section_in_order(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    text, checker = read(run)
    assert_stands_alone(text, checker)
    assert re.findall(r"<h2>(.*?)</h2>", text) == SECTIONS
    assert checker.tags.count("img") == 3 + 6
    assert checker.tags.count("svg") == 4 + 2 + 7 + 2
    assert "best generator was reached after 1.98M of 2.4M samples, with a KID of 0.0066 ± 0.0008" in text
    assert "2,000 generated against 5,000 real images of the validation split" in text
    assert "The budget of 10 min of training is spent." in text
    assert "truncated after 812 bytes" in text
    assert text.count("best 0.0066 ± 0.0008") == 2  # marked in the wide and the narrow chart
    assert "equipoise sample run/run" not in text
    assert "run.best.sample(64)" in text


def test_names_and_reasons_with_markup_are_inert(tmp_path, fake_run):
    run = fake_run(tmp_path / EVIL.replace("/", "_"), "data.source=" + EVIL, "name=" + EVIL)
    run.write_data(run.read_data() | {"source": EVIL, "digest": EVIL, "classes": [EVIL],
                                      "rejected": [{"name": EVIL, "reason": EVIL}]})  # fmt: skip
    run.write_environment({EVIL: EVIL})
    run.log_event(1, 1.0, EVIL, EVIL)
    state = run.read_state()
    state["best"]["protocol"] = {"features": EVIL, EVIL: EVIL}
    run.write_state(state | {"reason": EVIL, "policy": EVIL})
    text, checker = read(run)
    assert_stands_alone(text, checker)
    assert "script" not in checker.tags
    assert EVIL in "".join(checker.text)


def test_the_choice_is_a_table_of_the_candidates_with_the_winner_first(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    rescored(run, [(0.0210, 0.0262, 0.0), (0.0200, 0.0290, 0.0028)], num_scores=40)
    text, checker = read(run)
    assert_stands_alone(text, checker)
    rows = re.findall(r"<tr( class=winner)?><td>(.*?)</td></tr>", text)
    assert [bool(winner) for winner, _ in rows] == [True, False]
    assert rows[0][1].split("</td><td>")[1:] == ["0.0210 ± 0.0010", "0.0262 ± 0.0010", "–", "handed over"]
    assert rows[1][1].split("</td><td>")[1:] == ["0.0200 ± 0.0010", "0.0290 ± 0.0010", "0.0028 ± 0.0005", ""]
    assert "5,000 generated images against 3,000 real ones" in text
    assert "The lowest of 40 noisy scores flatters itself. Here, more than noise explains: KID 0.0210" in text
    assert "the choice is clear" in text
    assert "On the test split, which decides nothing: 0.0104" in text
    assert "<dt>KID, judged again</dt><dd>0.0262 <small>± 0.0010</small></dd>" in text


def test_a_run_that_was_not_judged_again_says_why(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    assert "The best generators are judged again when a training ends." in read(run)[0]
    run.write_state(run.read_state() | {"rescored": None, "not_rescored": f"Too few images. {EVIL}"})
    text, checker = read(run)
    assert "Too few images. &lt;script&gt;" in text
    assert "judged again</dt>" not in text
    assert_stands_alone(text, checker)


def test_markup_among_the_candidates_is_inert_and_a_damaged_choice_is_a_clear_error(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    rescored(run, [(0.021, 0.026, 0.0)], num_scores=1)
    state = run.read_state()
    state["rescored"]["protocol"] |= {"num_real": EVIL, EVIL: EVIL}
    run.write_state(state)
    assert_stands_alone(*read(run))
    for damage in ({"winner": 7}, {"winner": None}, {"candidates": EVIL}, {"protocol": 3}, {"candidates": []}):
        run.write_state(state | {"rescored": state["rescored"] | damage})
        with pytest.raises(UserError, match=r"state\.json: damaged") as error:
            write_report(run)
        assert "\n" not in str(error.value)


def test_generators_that_became_the_best_are_ringed_and_differences_drawn_with_their_bars(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5, num_scores=6)
    lines = records(run.scores)
    assert "Difference to the best so far" not in read(run)[0]
    run.scores.unlink()
    for index, line in enumerate(lines):
        compared = {"champion": 7, "difference": [None, -0.5, -0.02, 0.001, 0.002, -0.001][index]}
        run.log_score({**line, **compared, "difference_se": 0.004, "best": index in (0, 1, 2)})
    text, checker = read(run)
    assert_stands_alone(text, checker)
    assert text.count('<circle class="ring"') == 2 * 3  # in the wide and the narrow chart
    drawn = re.findall(r'<path class="bars accent" d="(.*?)"/>', text)
    assert [path.count("M") for path in drawn] == [5, 5]
    assert "2 early ones lie outside of the picture" in text


def test_points_below_the_best_one_come_with_why_they_are_not_the_best(tmp_path, fake_run):
    run, said = (
        fake_run(tmp_path / "run", num_steps=5, num_scores=6),
        "are not certified as better",
    )
    assert said not in read(run)[0]
    lines = records(run.scores)
    run.scores.unlink()
    for index, line in enumerate(lines):
        run.log_score({**line, "champion": 7, "difference": -0.0001 if index else None, "difference_se": 0.004})
    assert said not in read(run)[0], "the best one is the lowest"
    state = run.read_state()
    run.write_state(state | {"best": lines[2]})
    text, checker = read(run)
    assert_stands_alone(text, checker)
    assert text.count(said) == 1
    run.write_state(state | {"best": {**lines[2], "samples": 1000}})
    rescored(run, [(0.5, 0.02, 0.0), (0.02, 0.03, 0.001)], num_scores=6)
    text, _ = read(run)
    assert said not in text
    assert "Points lie lower; the best one is the lowest of the 2 that were judged again." in text


FAILED = "RuntimeError: <b>the size</b> of tensor a must match"


def head(run: RunFolder) -> str:
    text, checker = read(run)
    assert_stands_alone(text, checker)
    return " ".join(re.sub(r"<[^>]+>", " ", text.split("<header>")[1].split('<dl class="numbers">')[0]).split())


def test_a_failed_training_is_told_first_with_its_reason_and_how_to_go_on(tmp_path, fake_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fake_run(tmp_path / "a run", status="failed", num_steps=5)
    state = {"status": "failed", "reason": FAILED, "has_saved": True}
    run.write_state(state)
    told = head(run)
    assert "This training failed after 2.4M samples. RuntimeError: &lt;b&gt;the size&lt;/b&gt; of tensor a" in told
    assert "No good checkpoint of it is left. Put one back from a copy, then go on with: equipoise resume" in told
    assert "was reached after" not in told, "it does not read like a result"
    assert "It has not been tested" in told
    with written_whole(run.checkpoints / f"{2_000_000:012d}") as folder:
        for name in ("tensors.safetensors", "state.json"):
            (folder / name).write_text("{}")
    told = head(run)
    assert "Its checkpoint of 2,000,000 samples is intact. Once the cause is put right, go on from there with: " in told
    assert "equipoise resume &#x27;a run&#x27;" in told
    run.write_state({**state, "reason": "x" * 5000})
    assert "x … (in full below)" in head(run)
    assert "x" * 5000 in read(run)[0]


def test_a_training_that_failed_at_once_and_one_in_a_loop_of_its_own_say_how_to_begin_again(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=0, num_scores=0)
    run.write_state({"status": "failed"})
    told = head(run)
    assert "This training failed. What ended it was not written down." in told
    assert "It had saved no checkpoint yet." in told
    assert "No generator has been scored yet." in told
    run.write_recipe({**run.read_recipe(), "name": OWN_LOOP})
    assert "start its script again with: Watch(&#x27;" in head(run)


def test_a_training_that_diverged_is_not_called_finished_only(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    run.write_state(run.read_state() | {"policy": "diverged"})
    assert "Ended early, as it diverged: the best generator" in head(run)


def test_the_whole_reason_is_given_however_many_sentences_it_has(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    reason = "No gain is certified at α = 0.05 within δ = 0.001. The forecast is 0.0004. Spent: 3:20 & more."
    run.write_state(run.read_state() | {"reason": reason, "policy": "evidence"})
    text, _ = read(run)
    assert f'<p class="quote">{reason.replace("&", "&amp;")}</p>' in text.replace("&nbsp;", " ")


def test_forecasts_are_drawn_against_their_price_under_the_evidence_policy_only(tmp_path, fake_run):
    title = "What more training was forecast to bring"
    text, _ = read(fake_run(tmp_path / "run", "stopping.price=0.035"))
    ending = text.split("<h2>Why it stopped</h2>")[1].split("<h2>")[0]
    assert title in ending
    assert ">price 3.5 %</text>" in ending
    assert ">forecast</text>" in ending
    for name, settings, num in (("few", [], 4), ("other", ["stopping.policy=patience"], 40)):
        text, _ = read(fake_run(tmp_path / name, *settings, num_scores=num))
        assert title not in text


def test_only_what_differs_from_the_default_is_emphasised(tmp_path, fake_run):
    text, _ = read(fake_run(tmp_path / "run", "game.penalty.kind=r1", "game.penalty.gamma=0.5"))
    changed = re.findall(r'<tr class="?changed"?><th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', text)
    assert changed == [
        ("networks.width", "32", "default 64"),
        ("game.penalty.kind", "r1", "default none"),
        ("game.penalty.gamma", "0.5", "default 0"),
        ("augment.kinds", "translation", "default none"),
        ("augment.strength", "0.5", "default 0"),
    ]
    assert "of which 5 differ from the default" in text


def test_a_run_of_which_nothing_is_known_yet_says_so(tmp_path):
    text, checker = read(RunFolder.create(tmp_path / "run", Recipe()))
    assert_stands_alone(text, checker)
    assert re.findall(r"<h2>(.*?)</h2>", text) == SECTIONS
    assert "no generator has been scored yet" in text
    assert "equipoise resume" in text
    assert "svg" not in checker.tags


@pytest.mark.parametrize(("num_steps", "num_scores"), [(0, 0), (1, 1), (2, 2), (0, 3), (3, 0)])
def test_few_numbers_are_shown_as_far_as_they_go(tmp_path, fake_run, num_steps, num_scores):
    text, checker = read(fake_run(tmp_path / "run", num_steps=num_steps, num_scores=num_scores))
    assert_stands_alone(text, checker)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_numbers_that_are_not_finite_and_damaged_pictures_break_nothing(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    run.log_step({"samples": 5_000_000, "skipped_steps": 4})
    run.log_score({"samples": 5_000_000})
    (run.samples / "best.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (run.samples / "real.png").write_text(EVIL)
    text, checker = read(run)
    assert_stands_alone(text, checker)
    assert "There is no sample grid yet" in text
    assert "4 steps were not finite and therefore never applied." in text


def test_logits_are_drawn_where_the_loss_speaks_of_no_probability(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    assert "What the discriminator believes" in read(run)[0]
    lines = records(run.steps)
    run.steps.unlink()
    for line in lines:
        run.log_step({**line, "real_probability": None, "fake_probability": None})
    text, _ = read(run)
    assert "What the discriminator believes" not in text
    assert "What the discriminator answers" in text


def test_scores_of_another_protocol_are_not_drawn_beside_the_last_one(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5, num_scores=3)
    lines = records(run.scores)
    run.log_score({**lines[-1], "samples": 9_000_000, "kid": 77.7, "protocol": {"features": "another"}})
    run.log_score({**lines[-1], "samples": 9_100_000, "kid": 78.7, "protocol": {"features": "another"}})
    shown = [line.kid for line in comparable([score_from(line) for line in records(run.scores)])]
    assert shown == [77.7, 78.7]


def test_the_report_is_the_same_whenever_it_is_written(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_the_metric_that_decides_is_drawn_first(tmp_path, fake_run):
    text, _ = read(fake_run(tmp_path / "run", "judging.metric=fid"))
    assert text.index("<h3>FID</h3>") < text.index("<h3>KID</h3>")
    assert "with a FID of 2.74" in text


def test_the_python_shown_names_the_run_as_a_valid_string(tmp_path, fake_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fake_run(tmp_path / 'a "quoted" näme')
    _, checker = read(run)
    shown = "".join(checker.text)
    found = re.search(r"eq\.load\((.*)\)", shown)
    assert found is not None
    (tmp_path / "line.py").write_text(f"path = {found[1]}")
    assert runpy.run_path(str(tmp_path / "line.py"))["path"] == 'a "quoted" näme'
    assert "equipoise sample 'a \"quoted\" näme' -n 64" in shown


def test_large_snapshots_are_left_out(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    for _, path in run.snapshots()[1:]:
        path.write_bytes(path.read_bytes()[:-12] + b"\0" * 3_000_000)
    assert "too few snapshots" in read(run)[0]
    assert asdict(run)["path"] == run.path


def test_the_size_of_a_picture_is_read_from_its_header():
    assert page.png_size(b"") is None
    assert page.png_size(b"GIF89a" + b"\0" * 60) is None


def test_a_record_that_does_not_say_after_how_many_samples_is_no_score(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    before = write_report(run).read_text()
    for record in ({}, {"kid": 0.001}, {"samples": None, "kid": 0.001}):
        run.log_score(record)
    assert write_report(run).read_text() == before
