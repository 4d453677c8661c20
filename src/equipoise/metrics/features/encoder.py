"""A small encoder that learns what real images look like, without labels, and gives the judge's features.

Two tasks at once on random views of real images: to recognise two views of one image among those of others
(NT-Xent, arXiv:2002.05709), which makes the features tell shapes apart; and to say by how much a view was
corrupted, which keeps in them what a contrastive task alone unlearns and a judge must see: blur, noise,
holes.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.metrics.features import kept
from equipoise.metrics.features.corruptions import NUM_KINDS, corrupted, uniform, view
from equipoise.metrics.features.kept import MAX_BYTES, Kept, Lesson, RunEncoder, Start
from equipoise.storage.files import write_bytes
from equipoise.storage.records import EncoderRecord
from equipoise.storage.safe_open import read_bytes

_Module = TypeVar("_Module", bound=nn.Module)

SEED = 0  # whatever below decides the weights, a change of it is a new `kept.VERSION`
STEPS = 500
STARTED_SHARE = 0.4  # of the steps are enough for one that begins with what another has learned of most of these images
PAIRS = 128  # images a step, each seen in two views
RATE = 3e-3
WIDTH = 32
TEMPERATURE = 0.3
CORRUPTION_WEIGHT = 10.0  # of the squared error of strengths in 0..1, against the contrastive loss
KEEP_EVERY = 25  # steps; what an interrupted training has learned is kept so often
NUM_FOR_SCALE = 4000  # images that the features are standardised by


class Encoder(nn.Module):
    """Images [N, C, H, W] in [-1, 1] to features [N, 224]: three stages, each averaged over the image."""

    dimension = 7 * WIDTH
    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, height: int, width: int):
        super().__init__()
        self.size = (_inner(height), _inner(width))
        self.fold = min(self.size) > 32  # 2 × 2 pixels become channels: fine detail is kept and costs little
        if self.fold:
            channels *= 4
        self.stem = _stage(channels, WIDTH, 5, stride=2)
        self.middle = nn.Sequential(_stage(WIDTH, 2 * WIDTH, 3, stride=2), _stage(2 * WIDTH, 2 * WIDTH, 3))
        self.top = nn.Sequential(_stage(2 * WIDTH, 4 * WIDTH, 3, stride=2), _stage(4 * WIDTH, 4 * WIDTH, 1))
        self.register_buffer("mean", torch.zeros(self.dimension))
        self.register_buffer("deviation", torch.ones(self.dimension))

    def forward(self, images: Tensor) -> Tensor:
        """Return standardised features: over the training split mean 0 and a spread of about 1."""
        return (self.raw(fitted(images, self.size)) - self.mean) / self.deviation

    def raw(self, images: Tensor) -> Tensor:
        """Return the features before standardisation, of images that have the inner size."""
        if self.fold:
            images = F.pixel_unshuffle(images, 2)
        low = self.stem(images)
        middle = self.middle(low)
        return torch.cat([stage.mean((2, 3)) for stage in (low, middle, self.top(middle))], 1)


def _stage(num_in: int, num_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(num_out), nn.ReLU())


def _inner(side: int) -> int:
    """Return the side to which the encoder scales images: 16 to 32 as they are, else even and at most 64."""
    if 16 <= side <= 32:
        return side
    return min(max(side // 2 * 2, 16), 64)


def fitted(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [N, C, H, W], averaging where it gets smaller."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


class Loaded(NamedTuple):
    """An encoder, the SHA-256 of its weights, these as they are kept, and which images taught it."""

    network: Encoder
    digest: str
    data: bytes
    record: EncoderRecord


def load_or_train(
    train_images: np.ndarray,
    cache: Path,
    pool_digest: str,
    *,
    lesson: Lesson | None = None,
    run: RunEncoder | None = None,
    steps: int = STEPS,
    report: Callable[[float], None] | None = None,
) -> Loaded:
    """Return the encoder of a training split, uint8 [N, C, H, W].

    It is trained once on the CPU, deterministically, and kept in `cache` under `pool_digest`; `report` is called with
    the share of the training done. One that was interrupted is taken up where it was. Where the cache has one that
    nearly the same images have taught and none that the lesson holds out, that is returned; and before all else the
    very encoder of a `run`. One that knows most of these images is begun with. Raises UserError if there are no images.
    """
    if train_images.ndim != 4 or len(train_images) == 0 or train_images.dtype != np.uint8:
        problem = f"{train_images.dtype} {train_images.shape}; allowed is uint8 [N, C, H, W] with N at least 1"
        raise UserError("training images of the evaluation encoder", problem)
    with torch.device("meta"):  # no first weights are drawn: the caller's random stream stays as it is
        encoder = Encoder(*train_images.shape[1:])
    encoder = encoder.to_empty(device="cpu").eval().requires_grad_(False)
    stem = cache / kept.stem_of(pool_digest, steps)
    facts = {
        "what": "the evaluation encoder: trained on a training split, see equipoise.metrics.features.encoder",
        "version": kept.VERSION,
        "pool": pool_digest,
        "steps": steps,
        "dimension": encoder.dimension,
        "size": list(encoder.size),
        "channels": train_images.shape[1],
    }
    fits = partial(_fill, encoder)
    found: Kept | None = None
    if run is not None:
        found = kept.of_run(cache, run, steps, fits)
    if found is None:
        found = kept.under(stem, lesson, fits)
    if found is None and lesson is not None:
        found = kept.nearest(stem, lesson, facts, fits)
    if found is None:
        unfinished = stem.with_suffix(".unfinished.safetensors")
        start = None if lesson is None else _start_of(unfinished, kept.starts(stem, lesson, facts), encoder)
        if start is not None:
            facts["started_from"] = start.digest
        encoder = train_encoder(train_images, steps=steps, report=report, unfinished=unfinished, start=start)
        found = kept.write(stem, _packed(encoder), facts, lesson)
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return Loaded(_channels_last(encoder), found.record.digest, found.data, found.record)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: weights do not depend on their number, and beside other work two lose most of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_encoder(
    train_images: np.ndarray,
    *,
    steps: int = STEPS,
    report: Callable[[float], None] | None = None,
    unfinished: Path | None = None,
    start: Start | None = None,
) -> Encoder:
    """Train an encoder on uint8 images [N, C, H, W]; the global random stream stays untouched.

    What it has learned is kept in the file `unfinished` meanwhile; one that is there is taken up, to the same weights.
    With the weights of another one to `start` from, fewer steps are enough.
    """
    if start is not None:
        steps = max(1, round(STARTED_SHARE * steps))
    with _one_thread():
        return _trained(train_images, steps, report, unfinished, start)


def _trained(
    train_images: np.ndarray,
    steps: int,
    report: Callable[[float], None] | None,
    unfinished: Path | None,
    start: Start | None,
) -> Encoder:
    generator = torch.Generator().manual_seed(SEED)
    channels, height, width = train_images.shape[1:]
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        with torch.device("meta"):
            parts = nn.ModuleDict(
                {
                    "encoder": Encoder(channels, height, width),
                    "projection": nn.Sequential(nn.Linear(4 * WIDTH, 128), nn.ReLU(), nn.Linear(128, 64)),
                    "strengths": nn.Linear(Encoder.dimension, NUM_KINDS),
                }
            )
        parts = _channels_last(_initialised(parts, generator))
        encoder = parts["encoder"]
        assert isinstance(encoder, Encoder)
        begun = b""
        if start is not None:
            begun = bytes.fromhex(start.digest)
            _fill(encoder, start.data)
        optimizer = torch.optim.AdamW(parts.parameters(), lr=RATE, weight_decay=1e-4)
        begin = 0
        if unfinished is not None:
            begin = _take_up(unfinished, parts, optimizer, generator, begun)
        for step in range(begin, steps):
            for group in optimizer.param_groups:
                group["lr"] = _rate(step / steps)
            loss = _loss(parts, encoder, _drawn(train_images, PAIRS, encoder.size, generator), generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if unfinished is not None and (step + 1) % KEEP_EVERY == 0:
                _keep(unfinished, step + 1, parts, optimizer, generator, begun)
            if report is not None:
                report((step + 1) / steps)
    encoder.eval().requires_grad_(False)
    _standardise(encoder, train_images, generator)
    return encoder


def _start_of(unfinished: Path, starts: list[Start], encoder: Encoder) -> Start | None:
    """Return what a training is to begin with: what an interrupted one began with, else the first that is of use."""
    begun = None
    with contextlib.suppress(Exception):  # a cache
        begun = bytes(safetensors.torch.load(read_bytes(unfinished, MAX_BYTES))["begun"].tolist()).hex()
    if begun == "":
        return None
    starts = [start for start in starts if _fill(encoder, start.data)]
    same = [start for start in starts if start.digest == begun]
    return next(iter([*same, *starts]), None)


def _keep(
    path: Path,
    step: int,
    parts: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    begun: bytes,
) -> None:
    """Write what a training needs to be taken up; where it cannot be written, the training goes on without."""
    tensors = {f"parts.{name}": tensor.contiguous() for name, tensor in parts.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": tensor.contiguous() for name, tensor in state.items()}
    tensors |= {"generator": generator.get_state(), "step": torch.tensor(step), "begun": _as_tensor(begun)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, safetensors.torch.save(tensors))


def _as_tensor(data: bytes) -> Tensor:
    return torch.tensor(list(data), dtype=torch.uint8)


def _take_up(
    path: Path, parts: nn.ModuleDict, optimizer: torch.optim.Optimizer, generator: torch.Generator, begun: bytes
) -> int:
    """Put back what an interrupted training had learned and return its step; 0 where there is none that fits."""
    before = {name: tensor.clone() for name, tensor in parts.state_dict().items()}
    drawn = generator.get_state()
    try:
        tensors = safetensors.torch.load(read_bytes(path, MAX_BYTES))
        if not torch.equal(tensors["begun"], _as_tensor(begun)):
            raise ValueError("it began with other weights")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, place, part = name.split(".")
                state.setdefault(int(place), {})[part] = tensor
        for place, parameter in enumerate(parts.parameters()):
            if any(state[place][part].shape != parameter.shape for part in ("exp_avg", "exp_avg_sq")):
                raise ValueError("it is of other networks")
        parts.load_state_dict({name: tensors[f"parts.{name}"] for name in before})
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        generator.set_state(tensors["generator"])
        return int(tensors["step"])
    except Exception:  # a cache: what cannot be read, for whatever reason, is learned again
        parts.load_state_dict(before)
        optimizer.state.clear()
        generator.set_state(drawn)
        return 0


def _loss(parts: nn.ModuleDict, encoder: Encoder, images: Tensor, generator: torch.Generator) -> Tensor:
    """NT-Xent between two views of each image, plus the squared error of the corruption's strengths."""
    num = len(images)
    clean = uniform(num, 0, 1, generator) < 0.5
    kinds = torch.randint(NUM_KINDS, (num,), generator=generator)
    views = []
    targets = []
    for _ in range(2):  # one kind a pair: that a view is blurred must not be what tells it from the other
        strengths = torch.where(clean, 0.0, uniform(num, 0, 1, generator))
        views.append(corrupted(view(images, generator), kinds, strengths, generator))
        targets.append(F.one_hot(kinds, NUM_KINDS) * strengths[:, None])
    features = encoder.raw(torch.cat(views))
    embedded = F.normalize(parts["projection"](features[:, -4 * WIDTH :]))
    similarity = (embedded @ embedded.T / TEMPERATURE).fill_diagonal_(-1e9)
    contrastive = F.cross_entropy(similarity, torch.arange(2 * num).roll(num))
    return contrastive + CORRUPTION_WEIGHT * F.mse_loss(parts["strengths"](features), torch.cat(targets))


def _rate(progress: float) -> float:
    """A tenth of the steps up, then a cosine down."""
    cosine = 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))
    return RATE * min(progress / 0.1 + 0.02, 1.0, cosine + 1e-3)


def _initialised(parts: nn.ModuleDict, generator: torch.Generator) -> nn.ModuleDict:
    """Give modules on the meta device their first weights, from `generator` alone."""
    parts = parts.to_empty(device="cpu")
    for module in parts.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # ones and zeros: draws nothing
        elif isinstance(module, Encoder):
            module.mean.zero_()
            module.deviation.fill_(1)
    return parts


def _channels_last(module: _Module) -> _Module:
    """Lay out the weights so that convolutions on a CPU are a sixth faster."""
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: missing from the stubs


def _drawn(images: np.ndarray, num: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    rows = torch.randint(len(images), (num,), generator=generator).sort().values.numpy()
    return fitted(torch.from_numpy(np.ascontiguousarray(images[rows])).float() / 127.5 - 1, size)


@torch.no_grad()
def _standardise(encoder: Encoder, train_images: np.ndarray, generator: torch.Generator) -> None:
    """Store the mean of real features, and their spread over real and corrupted images.

    A feature that only corruption moves has next to no spread on real images; measured by that alone, the
    least blur would outweigh everything else by orders of magnitude.
    """
    clean = []
    either = []
    for _ in range(max(1, NUM_FOR_SCALE // 500)):
        images = _drawn(train_images, 500, encoder.size, generator)
        kinds = torch.randint(NUM_KINDS, (500,), generator=generator)
        damaged = corrupted(images, kinds, uniform(500, 0, 1, generator), generator)
        clean.append(encoder.raw(images))
        either += [clean[-1], encoder.raw(damaged)]
    deviation = torch.cat(either).std(0)
    encoder.mean.copy_(torch.cat(clean).mean(0))
    encoder.deviation.copy_(deviation.clamp(min=max(0.05 * deviation.median().item(), 1e-6)))


def read(path: Path, channels: int, height: int, width: int) -> Encoder | None:
    """Return the encoder whose weights are in a file, for images of this shape; None where they are not."""
    with torch.device("meta"):
        encoder = Encoder(channels, height, width)
    encoder = encoder.to_empty(device="cpu").eval().requires_grad_(False)
    try:
        data = read_bytes(path, MAX_BYTES)
    except OSError:
        return None
    return _channels_last(encoder) if _fill(encoder, data) else None


def _fill(encoder: Encoder, data: bytes) -> bool:
    """Fill an encoder with weights, and return whether they are those of such a one."""
    try:
        state = safetensors.torch.load(data)
        if _types(state) != _types(encoder.state_dict()):
            return False
        encoder.load_state_dict(state)
    except Exception:  # a cache: what cannot be read, for whatever reason, is made again
        return False
    return True


def _types(state: dict[str, Tensor]) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in state.items()}


def _packed(encoder: Encoder) -> bytes:
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()})
