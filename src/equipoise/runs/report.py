"""The report of a run: one self-contained page, from its headline to the lines that use the result."""

import json
import math
import shlex
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from equipoise.recipe import Recipe, to_dict
from equipoise.runs import format, page
from equipoise.runs.charts import Line, Point, line_chart, line_of, wants_log
from equipoise.runs.choice import choice_section, rescoring_from
from equipoise.runs.compare import flattened
from equipoise.runs.files import write_bytes
from equipoise.runs.folder import RunFolder
from equipoise.runs.log import records
from equipoise.runs.outlook import forecasts
from equipoise.runs.own import OWN_SETTINGS, own_scores_note, own_subject, own_use
from equipoise.runs.status import Status, read_status, shown_path
from equipoise.watch.diagnoses import failure
from equipoise.watch.signals import ScoreLine, StepStats, comparable, metric_value, score_from, stats_from, whole_of

BROAD, NARROW, SMALL = (960, 320), (400, 260), (460, 230)
NUM_SNAPSHOTS = 6
MOST_BYTES = 12_000_000  # of all snapshots together
MOST_REJECTED = 100
FEW_REAL = 500  # real images below which a score says little

_COLOURS = {1: "grey", 3: "colour"}
STATE_WORDS = {
    "new": "Not started",
    "running": "Still training",
    "interrupted": "Interrupted",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}


def write_missing_report(run: RunFolder) -> None:
    """Write the report of a finished run that was killed just before it; raises RunBusyError, UserError or OSError."""
    if run.read_state()["status"] == "finished" and not run.report.exists():
        with run.lock():
            run.tidy()
            write_report(run)


def write_report(run: RunFolder) -> Path:
    """Write `report.html` into the run's folder, in one step, and return its path; raises UserError or OSError."""
    now = read_status(run)
    steps = [stats_from(record) for record in records(run.steps)]
    taken = records(run.scores)
    scores = comparable([score_from(record) for record in taken])
    promoted = {whole_of(record.get("samples")) for record in taken if record.get("best") is True}
    state, data = run.read_state(), run.read_data()
    body = "\n".join(
        [
            _headline(now, state, data),
            _samples(run, now),
            _nearest(run),
            _development(run),
            _scores(now, scores, promoted, data),
            choice_section(state, now.metric, now.test),
            _ending(run, now),
            _signals(steps),
            _data(data),
            _recipe(now),
            _environment(run.read_environment()),
            own_use(run, now) if now.is_own_loop else _use(run, now),
            "<footer>Written by Equipoise from the files of this run alone.</footer>",
        ]
    )
    write_bytes(run.report, page.page(f"{now.name} · Equipoise", body).encode())
    return run.report


def _headline(now: Status, state: dict[str, Any], data: dict[str, Any]) -> str:
    what = f"{_article(now.recipe.name)} {now.recipe.name} GAN trained on {now.recipe.data.source}"
    what = own_subject(data) if now.is_own_loop else what
    if data.get("size"):
        size, channels = data["size"], _COLOURS.get(whole_of(data.get("channels")), "")
        what += f": {size} × {size} {channels} images, {whole_of(data.get('num_train')):,} of them to learn from"
    numbers = _key_numbers(now, state)
    best = now.best
    protocol = _protocol(best.protocol) if best and best.protocol else ""
    return (
        f'<header><p class="eyebrow">Equipoise · training report</p><h1>{page.escape(now.name)}</h1>'
        f'<p class="what">{page.escape(what)}.</p>'
        f'<p class="verdict">{page.escape(_verdict(now, state))}</p>'
        + (f'<p class="game">{page.escape(now.diagnosis)}</p>' if now.samples else "")
        + (f'<p class="game">{page.escape(failed)}</p>' if best and (failed := failure(best)) else "")
        + '<dl class="numbers">'
        + "".join(f"<div><dt>{page.escape(name)}</dt><dd>{_split_error(text)}</dd></div>" for name, text in numbers)
        + "</dl>"
        + (f'<p class="protocol">{page.escape(protocol)}</p>' if protocol else "")
        + "</header>"
    )


def _split_error(text: str) -> str:
    number, sign, error = page.escape(text).partition(" ± ")
    return f"{number} <small>± {error}</small>" if sign else number


def _article(word: str) -> str:
    return "An" if word[:1].lower() in "aeiou" else "A"


def _verdict(now: Status, state: dict[str, Any]) -> str:
    word = STATE_WORDS[now.state]
    if not now.best:
        return f"{word}; no generator has been scored yet."
    score = f"{now.metric.upper()} of {format.score(now.best, now.metric)}"
    if rescoring := rescoring_from(state):
        score += f" while training and {format.score(rescoring.best.rescored, now.metric)} judged again"
    return (
        f"{word}: the best generator was reached after {format.count(now.best.samples)} of "
        f"{format.count(now.samples)} samples, with a {score} (lower is better)."
    )


def _key_numbers(now: Status, state: dict[str, Any]) -> list[tuple[str, str]]:
    numbers = []
    if now.best:
        numbers.append((f"Best {now.metric.upper()}, validation", format.score(now.best, now.metric)))
    if rescoring := rescoring_from(state):
        numbers.append((f"{now.metric.upper()}, judged again", format.score(rescoring.best.rescored, now.metric)))
    if now.test:
        numbers.append((f"{now.metric.upper()}, test", format.score(now.test, now.metric)))
    if now.best and math.isfinite(now.best.fid) and now.metric == "kid":
        numbers.append(("FID, validation", format.value(now.best.fid)))
    if now.best and math.isfinite(now.best.coverage):
        numbers.append(("Coverage, validation", f"{now.best.coverage:.2f}"))
    numbers += [("Samples shown", format.count(now.samples)), ("Training time", format.duration(now.seconds))]
    if now.seconds > 0:
        numbers.append(("Samples a second", f"{now.samples / now.seconds:,.0f}"))
    return numbers


def _protocol(protocol: dict[str, Any]) -> str:
    """Say in words under which protocol a score was taken; the rest is in the table."""
    words = []
    if "features" in protocol:
        words.append(f"{protocol['features']} features")
    if "num_generated" in protocol and "num_real" in protocol:
        split = f" of the {protocol['split']} split" if "split" in protocol else ""
        num_generated, num_real = whole_of(protocol["num_generated"]), whole_of(protocol["num_real"])
        words.append(f"{num_generated:,} generated against {num_real:,} real images{split}")
    how = ", ".join(words) or ", ".join(f"{key} {value}" for key, value in flattened(protocol).items())
    few = whole_of(protocol.get("num_real", FEW_REAL)) < FEW_REAL
    warning = " So few real images make every one of these numbers rough, and flatter the shares." if few else ""
    return f"Scored with {how}. Only scores of the same protocol can be compared.{warning}"


def _samples(run: RunFolder, now: Status) -> str:
    best = page.picture(run.samples / "best.png", "Grid of generated images")
    real = page.picture(run.samples / "real.png", "Grid of real images")
    if not best and not real:
        return page.section("Samples", "There is no sample grid yet: the first score writes one.")
    grids = [page.figure(best, "Generated by the best generator, not picked by hand.")] if best else []
    grids += [page.figure(real, "Real, drawn at random from the data.")] if real else []
    missing = "" if best else page.note("The best generator has no grid yet: the first score writes one.")
    kind = "pair" if len(grids) == 2 else "only"
    return page.section("Samples", "", f'<div class="{kind}">{"".join(grids)}</div>', missing)


def _nearest(run: RunFolder) -> str:
    title = "Nearest training images"
    image = page.picture(run.samples / "nearest.png", "Generated images beside the training images nearest to them")
    if not image:
        return page.section(title, "The search for copies has not been made: it runs when a training ends.")
    return page.section(
        title,
        "Generated images beside the training images that are nearest to them. A good generator is near in kind and "
        "different in detail; the same image twice would mean that it copies what it was shown.",
        page.figure(image, "Above, generated images; below each, the training image nearest to it.", "only"),
    )


def _development(run: RunFolder) -> str:
    title = "How the samples developed"
    chosen = _spread(_affordable(run.snapshots()), NUM_SNAPSHOTS)
    frames = [(samples, page.picture(path, f"Samples after {samples}")) for samples, path in chosen]
    frames = [(samples, image) for samples, image in frames if image]
    if len(frames) < 2:
        return page.section(title, "There are too few snapshots yet to show a development.")
    strip = "".join(
        f'<figure><div class="crop">{image}</div><figcaption>{format.count(samples)}</figcaption></figure>'
        for samples, image in frames
    )
    return page.section(
        title,
        "The same latents in every frame, so each place follows one image as it forms; below each, the samples "
        "shown until then.",
        f'<div class="strip">{strip}</div>',
    )


def _affordable(snapshots: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """Leave out snapshots so large that a page of them could hardly be opened."""
    return [(samples, path) for samples, path in snapshots if path.stat().st_size * NUM_SNAPSHOTS <= MOST_BYTES]


def _spread(items: Sequence[Any], num: int) -> list[Any]:
    """Return the first, the last and evenly spaced ones between."""
    if len(items) <= num:
        return list(items)
    return [items[round(index * (len(items) - 1) / (num - 1))] for index in range(num)]


def _scores(now: Status, scores: Sequence[ScoreLine], promoted: Container[Any], data: dict[str, Any]) -> str:
    title = "Scores"
    note = (
        "Taken on validation images that training never sees. The lowest of many noisy scores looks a little better "
        "than it is; a score on the test split, taken once at the end, does not."
    )
    finite = [line for line in scores if math.isfinite(metric_value(line, now.metric))]
    if not finite:
        return page.section(title, "No score has been taken yet.")
    if len(finite) == 1:
        return page.section(title, "There is one score so far; the curves begin with the second.", _protocol_table(now))
    xs = [line.samples for line in finite]
    charts = [
        _chart(
            "Precision and recall",
            "How many samples look real, and how much of the real variety they reach.",
            xs,
            [("precision", [line.precision for line in finite]), ("recall", [line.recall for line in finite])],
            bounds=(0.0, 1.02),
        ),
        _chart(
            "Coverage and density",
            "Real images with a sample near them, and how closely samples lie to real ones.",
            xs,
            [("coverage", [line.coverage for line in finite]), ("density", [line.density for line in finite])],
        ),
    ]
    return page.section(
        title,
        own_scores_note(data) if now.is_own_loop else note,
        f'<div class="wide">{_distances(now, finite, promoted)}{_differences(finite)}</div>',
        f'<div class="charts">{"".join(charts)}</div>',
        _protocol_table(now),
    )


def _distances(now: Status, finite: Sequence[ScoreLine], promoted: Container[Any]) -> str:
    """Return the charts of what decides, KID or FID, and of the other of the two."""
    xs = [line.samples for line in finite]
    kid = line_of("KID", xs, [line.kid for line in finite], [line.kid_se for line in finite])
    fid = line_of("FID", xs, [line.fid for line in finite])
    captions = {
        "kid": "Kernel distance to the real images, with a band of ± one standard error; lower is better.",
        "fid": "Fréchet distance to the real images; lower is better.",
    }
    order = [("kid", kid), ("fid", fid)] if now.metric == "kid" else [("fid", fid), ("kid", kid)]
    mark = None
    if now.best:
        value = metric_value(now.best, now.metric)
        mark = (float(now.best.samples), value, f"best {format.score(now.best, now.metric)}")
    rings = [(float(line.samples), metric_value(line, now.metric)) for line in finite if line.samples in promoted]
    parts = []
    for index, (name, line) in enumerate(order):
        log = wants_log([point.y for point in line.points])
        charts = [
            line_chart(
                [line],
                title=name.upper(),
                width=width,
                height=height,
                log=log,
                mark=mark if index == 0 else None,
                rings=rings if index == 0 else (),
            )
            for width, height in ((BROAD, NARROW) if index == 0 else ((960, 220), NARROW))
        ]
        if charts[0]:
            caption = captions[name] + (" Rings: generators that became the best one." if rings and index == 0 else "")
            scale = " Logarithmic scale." if log else ""
            parts.append(page.chart_figure(name.upper(), caption + scale, charts))
    return "".join(parts)


def _differences(finite: Sequence[ScoreLine]) -> str:
    """Return the chart of each score's paired difference to the best generator until then."""
    taken = [line for line in finite if math.isfinite(line.difference + line.difference_se)]
    if len(taken) < 2:
        return ""
    points = [
        Point(line.samples, line.difference, line.difference - 2 * error, line.difference + 2 * error)
        for line in taken
        for error in [line.difference_se]
    ]
    reach = 1.1 * max(max(abs(point.low), abs(point.high)) for point in points[len(points) // 2 :]) or 1.0
    beyond = sum(abs(point.y) > reach for point in points)
    caption = (
        "Each generator's KID minus that of the best one until then, with the same latents and the same real images; "
        "bars of ± two standard errors. Wholly below zero: better than noise explains."
    )
    if beyond:
        caption += f" {beyond} early {'one lies' if beyond == 1 else 'ones lie'} outside of the picture."
    charts = [
        line_chart(
            [Line("", tuple(points), bars=True)],
            title="Difference to the best so far",
            width=width,
            height=height,
            bounds=(-reach, reach),
            reference=0.0,
        )
        for width, height in ((960, 220), NARROW)
    ]
    return page.chart_figure("Difference to the best so far", caption, charts)


def _chart(
    title: str,
    caption: str,
    xs: Sequence[float],
    lines: Sequence[tuple[str, Sequence[float]]],
    *,
    bounds: tuple[float, float] | None = None,
    reference: float | None = None,
    log: bool = False,
) -> str:
    """Return a small chart of one or two lines, an empty string where there is nothing to draw."""
    tones = ("accent", "ink")
    drawn = [line_of(label, xs, ys, tone=tone) for (label, ys), tone in zip(lines, tones, strict=False)]
    width, height = SMALL
    log = log and wants_log([point.y for line in drawn for point in line.points])
    chart = line_chart(drawn, title=title, width=width, height=height, log=log, bounds=bounds, reference=reference)
    return page.chart_figure(title, caption + (" Logarithmic scale." if log else ""), [chart]) if chart else ""


def _protocol_table(now: Status) -> str:
    rows = [
        (key.replace("_", " "), _shown(value))
        for key, value in flattened(now.best.protocol if now.best else {}).items()
        if key
    ]
    return page.folded("The protocol of these scores", page.rows(rows)) if rows else ""


def _signals(steps: Sequence[StepStats]) -> str:
    title = "The game"
    if len(steps) < 2:
        return page.section(title, "There are too few signals yet to draw.")
    skipped = sum(stats.skipped_steps for stats in steps)
    many = "One step was" if skipped == 1 else f"{skipped:,} steps were"
    return page.section(
        title,
        "Signals of the two players: means over each logging interval, with a band over the range of what was "
        "averaged. They show how the fight stands; only the scores above show how good the images are.",
        f'<div class="charts">{"".join(_signal_charts(steps))}</div>',
        page.note(f"{many} not finite and therefore never applied.") if skipped else "",
    )


def _belief(xs: Sequence[float], steps: Sequence[StepStats]) -> str:
    """Return the discriminator's probabilities, or its logits where its loss speaks of no probability."""
    if any(math.isfinite(stats.fake_probability) for stats in steps):
        return _chart(
            "What the discriminator believes",
            "Its probability of being real, for real and for generated images. "
            "The closer the lines, the harder it is to tell them apart.",
            xs,
            [
                ("generated", [stats.fake_probability for stats in steps]),
                ("real", [stats.real_probability for stats in steps]),
            ],
            bounds=(0.0, 1.02),
        )
    return _chart(
        "What the discriminator answers",
        "Its mean output for real and for generated images. Under this loss only the distance between the lines has a "
        "meaning, not their height.",
        xs,
        [
            ("generated", [stats.fake_logit for stats in steps]),
            ("real", [stats.real_logit for stats in steps]),
        ],
    )


def _signal_charts(steps: Sequence[StepStats]) -> list[str]:
    """Return a chart of every signal with one line on how to read it."""
    xs = [stats.samples for stats in steps]
    speeds = [stats.samples_per_second for stats in steps]
    top = 1.15 * max((speed for speed in speeds if math.isfinite(speed)), default=1.0)
    return [
        _chart(
            "Discriminator accuracy",
            "How often it tells real from fake. 50 % is a coin; 55 to 85 % a fair fight; "
            "near 100 % for long, the generator may stop learning.",
            xs,
            [("accuracy", [stats.accuracy for stats in steps])],
            bounds=(0.0, 1.02),
            reference=0.5,
        ),
        _belief(xs, steps),
        _chart(
            "Losses",
            "In a game they do not fall as in ordinary training: level is normal, and neither says "
            "how good the images are.",
            xs,
            [
                ("generator", [stats.generator_loss for stats in steps]),
                ("discrim.", [stats.discriminator_loss for stats in steps]),
            ],
        ),
        _chart(
            "Gradient norms",
            "A generator's gradient that sinks towards nothing, against its own past, has nothing left to learn from.",
            xs,
            [
                ("generator", [stats.generator_gradient for stats in steps]),
                ("discrim.", [stats.discriminator_gradient for stats in steps]),
            ],
            log=True,
        ),
        _varying(
            "Penalty",
            "What the discriminator pays for steep gradients. A jump means that it is being torn.",
            xs,
            "penalty",
            [stats.penalty for stats in steps],
        ),
        _varying(
            "Learning rate",
            "The generator's, as its schedule sets it.",
            xs,
            "rate",
            [stats.generator_rate for stats in steps],
        ),
        _chart(
            "Speed",
            "Real samples shown a second. Dips are other work of the machine.",
            xs,
            [("samples/s", speeds)],
            bounds=(0.0, top),
        ),
    ]


def _varying(title: str, caption: str, xs: Sequence[float], label: str, ys: Sequence[float]) -> str:
    """Return a chart unless the values never change."""
    finite = {value for value in ys if math.isfinite(value)}
    return _chart(title, caption, xs, [(label, ys)]) if len(finite) > 1 else ""


def _ending(run: RunFolder, now: Status) -> str:
    events = records(run.events)
    rows = [
        (
            f"{format.count(whole_of(event.get('samples')))} samples",
            f"{event.get('kind', '')}: {event.get('message', '')}",
        )
        for event in events[-30:]
    ]
    left = f"The last 30 of {len(events)} events" if len(events) > 30 else "All events of the run"
    log = page.folded(left, page.rows(rows)) if rows else ""
    if now.state in ("running", "new"):
        on_the_way = "It has not stopped: this report was written on the way."
        return page.section("Why it stopped", on_the_way, _forecasts(run, now), log)
    reason = now.reason or "No reason was written down; it may have been killed."
    policy = f"Decided by the policy “{now.policy}”." if now.policy and now.policy != "interrupted" else ""
    together = page.escape(reason).replace(" %", "&nbsp;%").replace(" = ", "&nbsp;=&nbsp;")
    quote = f'<p class="quote">{together}</p>'
    return page.section("Why it stopped", policy, quote, _forecasts(run, now), log)


def _forecasts(run: RunFolder, now: Status) -> str:
    """Return the chart of what more training was forecast to bring, against its price; empty where none is drawn."""
    found = forecasts(run, now.recipe)
    if len(found) < 2:
        return ""
    title, price = "What more training was forecast to bring", 100 * now.recipe.stopping.price
    xs = [point.samples for point in found]
    gain = line_of("forecast", xs, [100 * point.gain for point in found])
    level = Line(f"price {price:g} %", tuple(Point(x, price, price, price) for x in (0, xs[-1])), "ink")
    top = 1.1 * max(price, *(point.y for point in gain.points))
    charts = [
        line_chart([gain, level], title=title, width=width, height=height, bounds=(0.0, top))
        for width, height in ((960, 220), NARROW)
    ]
    caption = (
        f"The expected gain of a quarter more training, in per cent of the best {now.metric.upper()}, as forecast "
        "after each score. Below the price, more training is not expected to pay; the run stops there once its best "
        "generator has also stood long enough, with a certificate that none since is better."
    )
    return f'<div class="wide">{page.chart_figure(title, caption, charts)}</div>'


def _data(data: dict[str, Any]) -> str:
    title = "The data"
    if not data:
        return page.section(title, "What the images are has not been written down yet.")
    classes = [str(name) for name in _listed(data.get("classes"))]
    rejected = [item for item in _listed(data.get("rejected")) if isinstance(item, dict)]
    duplicates = whole_of(data.get("num_duplicates"))
    rows = [
        ("source", str(data.get("source", "–"))),
        (
            "images",
            f"{data.get('size', '–')} × {data.get('size', '–')} pixels, "
            f"{_COLOURS.get(whole_of(data.get('channels')), '–')}",
        ),
        ("for training", f"{whole_of(data.get('num_train')):,}"),
        ("for validation", f"{whole_of(data.get('num_validation')):,}"),
        ("for the final test", f"{whole_of(data.get('num_test')):,}"),
        ("exact duplicates", f"{duplicates:,}, each kept on one side of the split" if duplicates else "none"),
        ("files left out", f"{len(rejected):,}" if rejected else "none"),
    ]
    rows += (
        [("classes", f"{len(classes)}: {', '.join(classes[:40])}{' …' if len(classes) > 40 else ''}")]
        if classes
        else []
    )
    rows += [("content digest", str(data["digest"]))] if data.get("digest") else []
    reasons = [(str(item.get("name", "")), str(item.get("reason", ""))) for item in rejected[:MOST_REJECTED]]
    more = page.note(f"and {len(rejected) - MOST_REJECTED:,} more") if len(rejected) > MOST_REJECTED else ""
    listed = page.folded("Files left out, and why", page.rows(reasons) + more) if reasons else ""
    return page.section(title, "", page.rows(rows), listed)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _recipe(now: Status) -> str:
    values, defaults = flattened(now.settings), flattened(to_dict(Recipe()))
    lines, num_changed = [], 0
    for field, value in values.items():
        changed = value != defaults.get(field)
        num_changed += changed
        default = f"default {_shown(defaults.get(field))}" if changed else ""
        lines.append(
            f'<tr{" class=changed" if changed else ""}><th scope="row">{page.escape(field)}</th>'
            f"<td>{page.escape(_shown(value))}</td><td>{page.escape(default)}</td></tr>"
        )
    table = f"<table><tbody>{''.join(lines)}</tbody></table>"
    about = "Everything that determines the run; with the same data, it can be trained again from this alone."
    return page.section(
        "The settings of the watch" if now.is_own_loop else "The recipe",
        OWN_SETTINGS if now.is_own_loop else about,
        page.folded(f"All {len(values)} fields, of which {num_changed} differ from the default (in bold)", table),
    )


def _environment(environment: dict[str, Any]) -> str:
    if not environment:
        return page.section("The environment", "Versions and device have not been written down yet.")
    rows = [(key.replace("_", " "), _shown(value)) for key, value in flattened(environment).items()]
    return page.section("The environment", "", page.rows(rows))


def _use(run: RunFolder, now: Status) -> str:
    path = shown_path(run.path)
    quoted = shlex.quote(path)
    if now.best is None:
        return page.section(
            "How to use the result", f"There is no generator yet. Go on with: equipoise resume {quoted}"
        )
    commands = (
        f"equipoise sample {quoted} -n 64 -o grid.png     # one picture of 64 samples\n"
        f"equipoise sample {quoted} -n 1000 -o samples/   # a folder, one PNG each\n"
        f"equipoise evaluate {quoted} --against {shlex.quote(now.recipe.data.source)}"
    )
    python = (
        "import equipoise as eq\n\n"
        f"run = eq.load({json.dumps(path, ensure_ascii=False)})\n"
        "images = run.best.sample(64)      # a tensor of images in [-1, 1]\n"
        "generator = run.best.generator    # an ordinary torch.nn.Module"
    )
    return page.section(
        "How to use the result",
        "The best generator lies in the run's folder as safetensors and JSON: nothing in it can carry code.",
        f'<div class="howto"><div><h3>In a shell</h3>{page.code(commands)}</div>'
        f"<div><h3>In Python</h3>{page.code(python)}</div></div>",
    )


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
