"""A run's best generator, explored: what is looked at, what is written, and the page that shows it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import Tensor

from equipoise import tasks
from equipoise.api import SILENT, Best, Run
from equipoise.data.arrays import picture_in
from equipoise.data.cache import default_cache
from equipoise.data.channels import in_colour
from equipoise.data.decode import BrokenImage, Target, decode
from equipoise.data.pool import to_float
from equipoise.data.several import NO_LABEL
from equipoise.data.sources import PICTURE_ARRAYS
from equipoise.errors import Option, UserError, shortened
from equipoise.explore.codes import Seeing, coded
from equipoise.explore.groups import row_of
from equipoise.explore.sections import (
    NUM_JUDGED,
    Asked,
    Found,
    Progress,
    by_activations,
    by_weights,
    classes,
    grouped,
    projections,
    truncations,
    walks,
)
from equipoise.explore.space import Space
from equipoise.loop import Observer
from equipoise.metrics.features import encoder
from equipoise.metrics.features.load import in_batches
from equipoise.nets.efficientnet import LITE0, LITE0_WEIGHTS, efficientnet_features, published
from equipoise.recipe import Recipe
from equipoise.report.exhibits import Group, Shown, content_of
from equipoise.report.report import rendered
from equipoise.runs.quality import quality_of
from equipoise.runs.status import read_status, shown_path
from equipoise.setup import loss_of
from equipoise.storage.files import MAX_JSON_BYTES, write_bytes, write_json
from equipoise.storage.safe_open import read_bytes
from equipoise.tasks.base import Exhibit
from equipoise.tasks.exhibits import file_of
from equipoise.tasks.image_model import ImageModel, target_of

MAX_FILE_BYTES = 2**28  # of a picture that is given
LEAST = 2  # directions and pictures of a grid
MOST = 16
NUM_SEEN = 2_000  # random pictures that are parted into groups, or whose codes are read
NUM_SEEN_SLOWLY = 800  # where the network that sees them is a large one
PAGE = "index.html"
NUMBERS = "explore.json"
LATENTS = "latents.safetensors"
Section = Callable[[Asked, Progress], Found]
ALWAYS: dict[str, Section] = {
    "walking through the latents": walks,
    "looking for directions in the weights": by_weights,
    "looking for directions in the activations": by_activations,
    "truncating": truncations,
}
OWN = re.compile(  # files of pictures and tables
    r"(walk(-grid)?|directions-(weights|activations)|trunca(tion(-scores)?|ted-normal)|projection|between|sum"
    r"|codes(-numbers)?|classes(-[0-9]+)?|groups(-moved)?)[.](png|webp|gif|json)"
)


@dataclass(frozen=True, eq=False)
class Explored:
    """What was found of a generator: pictures with their sentences, numbers, latents, and what was left out and why."""

    exhibits: tuple[Exhibit, ...]
    numbers: dict[str, Any]
    latents: dict[str, Tensor]
    left_out: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, Exhibit]:
        """The pictures by the names of their files."""
        return {file_name(exhibit): exhibit for exhibit in self.exhibits}


def space_of(best: Best) -> Space:
    """Return the latent space of a run's best generator of images."""
    model = _model_of(best)
    return Space(best.generator, model.networks.latent_size, model.labels)


def explored(
    run: Run,
    *,
    seed: int = 0,
    num: int = 8,
    images: Sequence[str | Path] = (),
    labels: Sequence[str] = (),
    observer: Observer = SILENT,
    in_shell: bool = False,
) -> Explored:
    """Look into the best generator of a run of images.

    Args:
        run: what `equipoise.load` returns.
        seed: of all random draws.
        num: how many directions and pictures each grid shows, 2 to 16.
        images: picture files that are looked for among what the generator can draw.
        labels: ways between classes of a conditional generator, such as "3,8", or "3;8" where names have commas.
        observer: is shown the stages.
        in_shell: whether remedies are told for the command line, of what is left out.

    Raises:
        UserError: for a run of anything else or without a best generator, a picture that cannot be read, and a label
            that is not known.

    Example:
        >>> import equipoise as eq
        >>> from equipoise.explore import explored, write
        >>> write(explored(eq.load(RUN)), FOLDER)
    """
    tasks.refuse_without_pictures(run.recipe.task, run.path)
    if not LEAST <= num <= MOST:
        raise UserError(Option("num", num), f"allowed are {LEAST} to {MOST}", Option("num", 8))
    best = run.best
    model = _model_of(best)
    names, pictures = read_pictures(images, target_of(run.recipe, model))
    ways = [_way(text, model, labels) for text in labels]
    asked = Asked(space_of(best), model, seed, num, _judge_of(run, observer))
    exhibits: list[Exhibit] = []
    latents: dict[str, Tensor] = {}
    left_out: list[str] = []
    quality = quality_of(read_status(run.folder))
    numbers: dict[str, Any] = {
        "run": str(run.path),
        "samples": best.score.samples,
        "quality": None if quality is None else quality.sentence,
        "family": model.networks.family,
        "latent_size": model.networks.latent_size,
        "seed": seed,
        "num": num,
    }
    for doing, section in sections_of(asked, names, pictures, ways, cache(partial(_seeing, run, model))).items():
        observer.stage(doing, 0.0)
        found = attempted(section, asked, partial(observer.stage, doing), in_shell=in_shell)
        if isinstance(found, str):
            left_out.append(found)
            continue
        exhibits += found.exhibits
        numbers |= found.numbers
        latents |= found.latents
    return Explored(tuple(exhibits), {**numbers, "left_out": left_out}, latents, tuple(left_out))


def attempted(section: Section, asked: Asked, progress: Progress, *, in_shell: bool) -> Found | str:
    """Return what a section finds, or why it cannot be shown of this generator, for the command line or for Python."""
    try:
        return section(asked, progress)
    except UserError as error:
        return error.told(in_shell=in_shell)


def sections_of(
    asked: Asked, names: list[str], pictures: Tensor, ways: list[list[str]], seeing: Callable[[], Seeing]
) -> dict[str, Section]:
    """Return by what is done the sections of a generator, in their order.

    `seeing` is called where something has to see pictures; it may raise UserError.
    """
    found = dict(ALWAYS)
    if names:
        found["fitting your pictures"] = lambda asked, progress: projections(asked, names, pictures, progress)
    networks = asked.model.networks
    if networks.categorical_codes + networks.continuous_codes:
        found["drawing every code"] = lambda asked, progress: coded(asked, seeing, progress)
    if asked.model.classes:
        found["drawing every class"] = lambda asked, progress: classes(asked, ways, progress)
    else:
        found["looking for groups"] = lambda asked, progress: grouped(asked, *seeing(), progress)
    return found


def write(found: Explored, folder: str | Path, title: str = "", *, force: bool = False) -> None:
    """Write what was found into a folder: pictures, `explore.json`, latents and a page; raises OSError.

    What an earlier exploration has left there, by its own list, is replaced. Raises UserError where there are other
    files, unless these may be overwritten by `force`; those of other names stay.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = _files_of_earlier(folder)
    taken = {path.name for path in folder.iterdir()}
    if earlier:  # of what else is there, only a name that is written now is in the way
        taken = (taken & found.files.keys()) - earlier
    if taken and not force:
        problem = f"has files that no exploration has left there, such as {shortened(min(taken))}"
        ways = ("Give a new folder, or overwrite what has the same names", Option("force", True))
        raise UserError(Option("folder", folder), problem, *ways)
    for name in earlier - {NUMBERS, LATENTS, PAGE}:
        (folder / name).unlink(missing_ok=True)
    for name, exhibit in found.files.items():
        write_bytes(folder / name, exhibit.content)
    latents = {name: tensor.contiguous() for name, tensor in found.latents.items()}
    write_bytes(folder / LATENTS, safetensors.torch.save(latents))
    pictures = [{"file": name, "says": exhibit.caption} for name, exhibit in found.files.items()]
    write_json(folder / NUMBERS, {**found.numbers, "pictures": pictures})
    write_bytes(folder / PAGE, page_of(found, title).encode(errors="replace"))


def _files_of_earlier(folder: Path) -> set[str]:
    """Return the names of what an earlier exploration has written into a folder; none where there was no such."""
    try:
        values = msgspec.json.decode(read_bytes(folder / NUMBERS, MAX_JSON_BYTES))
        names = {picture["file"] for picture in values["pictures"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # there is none, or one of somebody else's
        return set()
    own = {name for name in names if isinstance(name, str) and OWN.fullmatch(name) and (folder / name).is_file()}
    return own | {NUMBERS, LATENTS, PAGE}


def page_of(found: Explored, title: str = "") -> str:
    """Return the page with all pictures, which needs no other file."""
    groups: dict[str, Group] = {}
    for exhibit in found.exhibits:
        group = groups.setdefault(exhibit.title, Group(exhibit.title, exhibit.intro, [], []))
        content = content_of(exhibit.kind, exhibit.title, exhibit.content)
        if content:
            group.shown.append(Shown(exhibit.kind, exhibit.caption, content))
    values = {
        "title": title or shown_path(Path(str(found.numbers["run"]))),
        "groups": list(groups.values()),
        "numbers": found.numbers,
        "left_out": found.left_out,
    }
    return rendered(values, "explore.html.j2")


def title_of(run: Run) -> str:
    """Return what a run's page is headed with."""
    now = read_status(run.folder)
    return f"{now.recipe.name} on {run.recipe.data.source}"


def file_name(exhibit: Exhibit) -> str:
    """Return the name of the file of a picture or an animation."""
    name = file_of(exhibit)
    if exhibit.kind == "animation" and exhibit.content[:4] == b"RIFF":
        return Path(name).with_suffix(".webp").name
    return name


def read_pictures(paths: Sequence[str | Path], target: Target) -> tuple[list[str], Tensor]:
    """Return the names of picture files, and the pictures [N, C, H, W] in [-1, 1] as a run's images were read.

    Raises UserError for one that cannot be read.
    """
    pictures = [_read_picture(Path(path), target) for path in paths]
    empty = torch.zeros(0, target.channels, target.size.height, target.size.width)
    return [Path(path).stem for path in paths], torch.stack(pictures) if pictures else empty


def _read_picture(path: Path, target: Target) -> Tensor:
    subject = Option("image", path)
    try:
        content = read_bytes(path, MAX_FILE_BYTES)
        raw = picture_in(content) if path.suffix.lower() in PICTURE_ARRAYS else content
        return to_float(torch.from_numpy(decode(raw, target).copy()))
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise UserError(subject, problem, "Give the file of one picture, such as a .png or .jpg") from None
    except (BrokenImage, ValueError) as error:
        raise UserError(subject, f"cannot be used: {error}", "Give the file of one picture") from None


def _way(text: str, model: ImageModel, beside: Sequence[str]) -> list[str]:
    """Return the labels of a way between classes, parted by `;` where there is one, else by commas.

    Raises UserError where one is not known, or there are too few or too many: the other one may stand `beside`, where
    a space was typed in place of the comma.
    """
    between = ";" if ";" in text else ","
    names = [text] if text in model.classes else [name for part in text.split(between) if (name := part.strip())]
    have_commas = any("," in name for name in model.classes)
    for name in names or [text] * (not model.classes):
        try:
            row_of(model, name)
        except UserError as error:
            if between == ";" or not have_commas:
                raise
            put = "Put ; between names with commas"
            raise UserError(error.subject, error.problem, *error.remedies, put) from None
    if LEAST <= len(names) <= MOST:
        return names
    problem = f"a way needs two classes or more, and {MOST} at most, with a comma between (or ;)"
    known = (*model.classes, *[NO_LABEL] * bool(model.sets))
    typed = [name for name in beside if name in known]
    others = [name for name in (*typed, *known) if name not in names]
    example = [*names, *others][:LEAST]
    if len(example) < LEAST:
        raise UserError(Option("labels", text), problem, "This generator knows one class, so leave it out")
    raise UserError(Option("labels", text), problem, Option("labels", (";" if have_commas else ",").join(example)))


def _model_of(best: Best) -> ImageModel:
    if not isinstance(best.model, ImageModel):
        raise UserError("explore", "this generator draws no pictures from latents")
    return best.model


def _judge_of(run: Run, observer: Observer) -> Callable[[Tensor], dict[str, float]] | None:
    """Return what finds the judge's metrics of images; None where the data are not at hand, or it takes long.

    It is quick where the run has an evaluation encoder of its own. Nothing is downloaded.
    """
    recipe, folder = run.recipe, run.folder
    if not folder.encoder.is_file() or recipe.data.source.startswith("hub:"):
        return None
    try:
        data = folder.data()
        opened = tasks.opened(recipe, torch.device("cpu"), observer.stage)
        if opened.digest != data.digest:
            return None
        known = opened.judged_like(data, folder.encoder).grouped_like(data, folder.groups)
        made = known.task(recipe, loss_of(Recipe(), None), torch.float32, observer.stage)
        judge = made.judge("validation")
        if judge is None:
            return None
        judge = judge.sized(NUM_JUDGED)
    except (UserError, OSError):  # the rest needs no data
        return None
    return lambda images: judge.measure([images]).values


def _seeing(run: Run, model: ImageModel) -> Seeing:
    """Return the run's evaluation encoder, or else EfficientNet, which is slower; raises UserError without either."""
    seeing = encoder.read(run.folder.encoder, model.channels, model.size.height, model.size.width)
    if seeing is not None:
        return in_batches(seeing, 500, "cpu"), "the run's evaluation encoder", NUM_SEEN
    network, _ = published(LITE0_WEIGHTS, LITE0, default_cache())
    extract = in_batches(partial(efficientnet_features, network), 50, "cpu")
    return lambda images: extract(in_colour(images)), "EfficientNet-Lite0", NUM_SEEN_SLOWLY
