"""Where images come from: the embedded digits, a folder, a zip, an `.npz`, or a dataset of the hub."""

import contextlib
import gzip
import hashlib
import itertools
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from equipoise.data import archives, arrays, folders, hub, parquet, shards
from equipoise.data.decode import FORMATS, BrokenImage, format_of, num_frames
from equipoise.data.folders import MAX_DEPTH as MAX_DEPTH
from equipoise.data.folders import is_deep
from equipoise.data.label_tables import MOST_TABLES, is_table, text_of, with_tables
from equipoise.data.labels import DATASET, labels_of
from equipoise.data.listing import MAX_FILE_BYTES, SUFFIXES, Found, is_hidden, read_file_in, source_of
from equipoise.data.listing import Source as Source
from equipoise.data.listing import SourceImages as SourceImages
from equipoise.data.listing import subject_of as subject_of
from equipoise.errors import Near, Option, UserError, suggested
from equipoise.storage.safe_open import open_regular

OF_SHARDS = (".tar", ".parquet")
ARCHIVES = frozenset((".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"))
OF_ARRAYS = frozenset((".pt", ".pth", ".pkl", ".pickle", ".h5", ".hdf5", ".mat", ".safetensors", ".tfrecord"))
VIDEOS = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm"))
PICTURE_ARRAYS = frozenset((".npy", ".npz"))  # one picture a file, where no file is an image
PAGED = frozenset((".gif", ".tif", ".tiff", ".webp", ".png"))  # formats with frames or pages
LEAST = 22  # images with which anything can be trained
NUM_SNIFFED = 64  # files whose first bytes are looked at, to say what a folder without images holds
MAX_MEMBERS = 2_000_000  # files in a zip: zipfile takes about 700 bytes of memory for each, so 1.4 GB
FORMAT_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif"}
KINDS = (
    "mnist, a folder or zip of images, .tar or .parquet shards, an .npz or hub:NAME; "
    "for points, ring, grid, spiral or a .csv"
)
IMAGE_FORMATS = f"Allowed image formats: {', '.join(FORMATS)}"  # a remedy


def open_source(source: str) -> Source:
    """Find what a source names, without decoding anything; raises UserError.

    The word `mnist` is the embedded set even next to a folder of that name, which is written `./mnist`.
    """
    subject = subject_of(source)
    if source == "mnist":
        embedded = Path(__file__).with_name("mnist.npz")
        fingerprint = f"mnist {embedded.stat().st_size}"
        return source_of(source, fingerprint, lambda: replace(_load_npz(embedded, subject), notes=()))
    if source.startswith("hub:"):
        return hub.open_hub(source.removeprefix("hub:"))
    path = Path(source).expanduser()
    try:
        mode = path.stat().st_mode if source.strip() else None
    except PermissionError:
        raise UserError(subject, "permission denied", "Choose a folder that you can read") from None
    except (OSError, ValueError):
        mode = None
    if mode is None:
        problem = f"no such file or folder; allowed are {KINDS}"
        raise UserError(subject, problem, *(_remedies_of_words(source) or _neighbours(path, source)))
    if stat.S_ISDIR(mode):
        return _open_folder(path, subject)
    if not stat.S_ISREG(mode):
        raise UserError(subject, f"neither a file nor a folder; allowed are {KINDS}")
    match path.suffix.lower():
        case ".npz":
            fingerprint = f"{_file_fingerprint(path)} on one scale, parts joined"  # not as earlier versions read it
            return source_of(source, fingerprint, partial(_load_npz, path, subject))
        case ".zip":
            return source_of(source, _file_fingerprint(path), partial(_load_zip, path, subject))
        case ".tar":
            load = partial(shards.load_tars, path.parent, [path.name], subject, Counter())
            return source_of(source, _file_fingerprint(path), load)
        case ".parquet":
            load = partial(parquet.load_parquet, path.parent, [path.name], subject, Counter())
            return source_of(source, _file_fingerprint(path), load)
        case ".csv":
            raise UserError(subject, "a CSV file; images were expected", Option("task", "points"))
        case _:
            raise _single_file(path, subject)


def _single_file(path: Path, subject: str) -> UserError:
    """Return the error for one file that is no source, with what can be done with such a file."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return _single_image(path, subject)
    kind = f"a {suffix} file" if suffix else "a file without a suffix"
    problem = f"{kind}; images were expected"
    another = arrays.free_name(path.with_suffix(".npz"))
    if (images := _idx_images(path)) is not None:
        remedy = f'Write an .npz of it: np.savez("{another}", images={images})'
        return UserError(subject, "an IDX file, as MNIST has them; images were expected", remedy)
    if suffix == ".npy":
        remedy = f'Write an .npz of it: np.savez("{another}", images=np.load("{path}"))'
        return UserError(subject, problem, remedy)
    if suffix in ARCHIVES:
        return UserError(subject, problem, "Unpack it, then give the folder", f"Allowed are {KINDS}")
    if suffix in OF_ARRAYS:
        remedy = f'Write its images into a new file: np.savez("{another}", images=images)'
        return UserError(subject, problem, remedy, f"Allowed are {KINDS}")
    if suffix in VIDEOS:
        return UserError(subject, problem, "Save its frames as images, then give their folder")
    return UserError(subject, problem, f"Allowed are {KINDS}")


def _idx_images(path: Path) -> str | None:
    """Return what reads the images of an IDX file, as MNIST's are kept, also gzipped; None for another file."""
    try:
        with open_regular(path) as file:
            head = file.read(16)
        is_packed = head[:2] == b"\x1f\x8b"
        if is_packed:
            with gzip.open(path) as file:
                head = file.read(16)
    except (OSError, EOFError, zlib.error):
        return None
    if head[:4] != b"\0\0\x08\3" or len(head) < 16:
        return None
    height = int.from_bytes(head[8:12], "big")
    width = int.from_bytes(head[12:16], "big")
    content = f'gzip.open("{path}").read()' if is_packed else f'open("{path}", "rb").read()'
    return f"np.frombuffer({content}, np.uint8, offset=16).reshape(-1, {height}, {width})"


def _single_image(path: Path, subject: str) -> UserError:
    """Return the error for one image, with the folder around it where many lie there."""
    num_pages = 1
    with contextlib.suppress(BrokenImage):
        num_pages = num_frames(read_file_in(path.parent, path.name))
    if num_pages > 1:
        problem = f"a single file of {num_pages:,} pages or frames, of which only the first would be read"
        return UserError(subject, problem, "Save each as an image of its own, then give their folder")
    num = 0
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        num = sum(Path(entry.name).suffix.lower() in SUFFIXES for entry in itertools.islice(entries, 10_000))
    problem = "a single image; many are needed"
    if num < LEAST:
        return UserError(subject, problem, f"Put {LEAST} images or more into a folder, then give it")
    return UserError(subject, problem, f"Use its folder: {path.parent} ({num:,} images)")


def _remedies_of_words(source: str) -> list[str]:
    """Return what to give for an address or a pattern, which are no paths."""
    if "://" in source:
        return ["Download it, unpack it where it is packed, and give its path"]
    place, _, last = source.rpartition("/")
    if set("*?") & set(last) and (not place or Path(place).is_dir()):
        return [f"Give the folder without the pattern: {place or '.'}"]
    return []


def _neighbours(path: Path, source: str) -> tuple[Near, ...]:
    """Return what a mistyped source probably meant, as a path where it was one."""
    known = {}
    with contextlib.suppress(OSError, ValueError), os.scandir(path.parent) as entries:
        known = {entry.name: str(path.parent / entry.name) for entry in itertools.islice(entries, 10_000)}
    if os.sep not in source:
        known["mnist"] = "mnist"
    return tuple(Near(known[near.word]) for near in suggested(path.name, known))


def _file_fingerprint(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _load_npz(path: Path, subject: str) -> SourceImages:
    array, notes = arrays.read_images(path, subject)
    found = arrays.read_labels(path, subject, len(array))
    names = [f"image {index}" for index in range(len(array))]
    images = SourceImages(names, array.__getitem__, array=array, notes=(*notes, *found.notes))
    return replace(images, labels=found.labels, classes=found.classes, sets=found.sets)


# Choosing files by name


def _chosen(names: Sequence[str], head: Callable[[int], bytes]) -> tuple[list[int], Counter[str]]:
    """Return the indices of names that may be images, and counts of the others."""
    chosen: list[int] = []
    stored: list[int] = []  # arrays, which may be pictures
    skipped = Counter[str]()
    runs = _run_folders([name for name in names if not is_deep(name)])
    for index, name in enumerate(names):
        suffix = _suffix(name)
        if is_hidden(name):
            skipped["hidden"] += 1
        elif is_deep(name):
            skipped[f"more than {MAX_DEPTH} folders deep"] += 1
        elif runs and not runs.isdisjoint(_above(name)):
            skipped["of runs"] += 1
        elif name.endswith("/"):
            skipped["linked to a folder read already"] += 1
        elif suffix in SUFFIXES or (not suffix and format_of(head(index))):
            chosen.append(index)
        else:
            skipped[suffix or "without a suffix"] += 1
            if suffix in PICTURE_ARRAYS:
                stored.append(index)
    if not chosen and len(stored) >= LEAST:
        return stored, _besides(skipped, [names[index] for index in stored])
    return chosen, skipped


def _shards(names: Sequence[str], chosen: Sequence[int]) -> list[int]:
    """Return the indices of the shards that count in place of the images beside them: where these are too few."""
    if len(chosen) >= LEAST:
        return []
    for suffix in OF_SHARDS:
        if found := [index for index, name in enumerate(names) if _suffix(name) == suffix and not is_hidden(name)]:
            return found
    return []


def _without_images(
    subject: str, names: Sequence[str], skipped: Counter[str], head: Callable[[int], bytes], path: Path
) -> UserError:
    """Return the error that says what a folder or a zip holds instead of images, and what can be done with that."""
    num = len(names)
    if not num:
        return UserError(subject, "empty; images were expected", "Put images in it", f"Allowed are {KINDS}")
    files = "file" if num == 1 else "files"
    (first, _), *others = skipped.most_common(5)
    found = f"{num} {files} ({', '.join(f'{count} {kind}' for kind, count in skipped.most_common(5))})"
    if first.startswith(".") and not others:
        found = f"{num} {first} {files}"
    problem = f"{found}; images were expected"
    kinds = Counter(filter(None, (format_of(head(index)) for index in range(min(num, NUM_SNIFFED)))))
    if kinds:
        (kind, count), *_ = kinds.most_common(1)
        problem = f"{found}; by their content, {count} of the first {min(num, NUM_SNIFFED)} are {kind} images"
        suffix = FORMAT_SUFFIXES.get(kind, f".{kind.lower()}")
        return UserError(subject, problem, f"Let their names end in {suffix}, in no hidden folder", IMAGE_FORMATS)
    usable = [name for name in names if _suffix(name) in (".npz", ".zip") and "/" not in name]
    if usable and path.is_dir():
        return UserError(subject, problem, f"Give the file itself: {path / usable[0]}", IMAGE_FORMATS)
    return UserError(subject, problem, *_remedies_of_kind(first, path), IMAGE_FORMATS)


def _remedies_of_kind(suffix: str, path: Path) -> list[str]:
    """Return what can be done with a folder or a zip whose files are mostly of one kind that is not read."""
    if suffix == "hidden":
        return ["Move the images out of folders whose names begin with a dot"]
    if suffix in ARCHIVES or suffix == ".zip":
        return ["Unpack what is inside, then give the folder"]
    if suffix in OF_SHARDS:
        return [f"Unpack {path.name}, then give the folder: its shards are read as they are"]
    if suffix in VIDEOS:
        return ["Save their frames as images, then give their folder"]
    one_each = [f"Put {LEAST} or more there, one picture a file"] if suffix == ".npy" else []
    if suffix in OF_ARRAYS or suffix == ".npy":
        another = arrays.free_name(path.with_name(f"{path.stem}-images.npz"))
        return [f'Write their images into one new file: np.savez("{another}", images=images)', *one_each]
    return []


def _run_folders(names: Sequence[str]) -> set[str]:
    """Return the folders, as `path/`, that are runs: their pictures are not to be trained on."""
    folders = {name.removesuffix("recipe.json") for name in names if f"/{name}".endswith("/recipe.json")}
    if not folders:
        return set()
    inside = {above for name in names for above in _above(name) if above.endswith(("checkpoints/", "log/"))}
    return {folder for folder in folders if f"{folder}checkpoints/" in inside or f"{folder}log/" in inside}


def _above(name: str) -> Iterator[str]:
    """Yield the folders around a file, as `path/`, the source itself first as an empty string."""
    end = 0
    while True:
        yield name[:end]
        end = name.find("/", end) + 1
        if not end:
            return


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _besides(skipped: Counter[str], used: Sequence[str]) -> Counter[str]:
    """Return counts of what was ignored without these files, which are used after all."""
    return skipped - Counter(map(_suffix, used))


# Classes


def labelled(images: SourceImages) -> SourceImages:
    """Return the images without the few that have no class where the others do, and that are counted as left out."""
    if images.labels is None or not (without := np.flatnonzero(images.labels < 0).tolist()):
        return images
    left_out = set(without)
    chosen = [index for index in range(len(images.names)) if index not in left_out]
    skipped = Counter(images.skipped) + Counter({"without a class": len(left_out)})
    return replace(
        images,
        names=[images.names[index] for index in chosen],
        read=lambda index: images.read(chosen[index]),
        labels=images.labels[chosen],
        num_skipped=images.num_skipped + len(left_out),
        skipped=skipped,
    )


def _is_dataset(name: str) -> bool:
    return f"/{name}".endswith(f"/{DATASET}")


def _labelling(names: Sequence[str]) -> list[int]:
    """Return the places of the files that may say of which class the images are, those with short paths first."""
    found = [place for place, name in enumerate(names) if _is_dataset(name)]
    tables = [place for place, name in enumerate(names) if is_table(name) and not is_hidden(name)]
    tables = sorted(tables, key=lambda place: (names[place].count("/"), names[place]))
    return [*sorted(found, key=lambda place: len(names[place])), *tables[:MOST_TABLES]]


def _with_labels(
    images: SourceImages, names: Sequence[str], chosen: Sequence[int], read: Callable[[int], bytes]
) -> SourceImages:
    """Return images, which are the chosen ones of all names, with their classes; `read` gives a file by its place."""
    texts = {}
    for place in _labelling(names):
        with contextlib.suppress(BrokenImage):
            texts[names[place]] = text_of(read(place))
    kept = [names[index] for index in chosen]
    dataset = next((name for name in texts if _is_dataset(name)), None)
    if dataset is not None:
        prefix = dataset.removesuffix(DATASET)
        found = labels_of([name.removeprefix(prefix) for name in kept], texts[dataset])
    else:
        found = with_tables(labels_of(kept), kept, texts)
    skipped = _besides(Counter(images.skipped), found.used)
    return replace(
        images,
        labels=found.labels,
        classes=found.classes,
        sets=found.sets,
        notes=found.notes,
        skipped=skipped,
        num_skipped=skipped.total(),
    )


# Folders


def _open_folder(path: Path, subject: str) -> Source:
    try:
        stamp = folders.stamp_of(path)
    except OSError as error:
        raise _unlisted(error, subject) from None
    return Source(str(path), stamp, lambda: _look_into(path, subject))


def _look_into(path: Path, subject: str) -> Found:
    """List the files below a folder, and choose those that may be images; raises UserError."""
    names: list[str] = []
    states: list[str] = []
    seen = folders.Seen()
    try:
        for folder in folders.walk(path):
            seen.add(folder)
            names.extend(folder.place + name for name, _ in folder.files)
            states.extend(state for _, state in folder.files)
    except OSError as error:
        raise _unlisted(error, subject) from None
    order = sorted(range(len(names)), key=names.__getitem__)
    names = [names[place] for place in order]

    def head(index: int) -> bytes:
        return _head(path / names[index])

    chosen, skipped = _chosen(names, head)
    if packed := _shards(names, chosen):
        skipped += Counter(_suffix(names[index]) for index in chosen)
        chosen = packed
    elif not chosen:
        raise _without_images(subject, names, skipped, head, path)
    digest = hashlib.sha256()
    separator = ""
    for index in itertools.chain(chosen, _labelling(names)):
        digest.update(f"{separator}{names[index]}\t{states[order[index]]}".encode(errors="surrogateescape"))
        separator = "\n"
    kept = [names[index] for index in chosen]

    def load() -> SourceImages:
        if packed:
            load_shards = shards.load_tars if _suffix(kept[0]) == ".tar" else parquet.load_parquet
            return load_shards(path, kept, subject, _besides(skipped, kept))
        read = partial(read_file_in, path)

        def picture(index: int) -> bytes | np.ndarray:
            return _picture(kept[index], read(kept[index]))

        images = SourceImages(kept, picture, num_skipped=skipped.total(), skipped=skipped)
        return _with_labels(images, names, chosen, lambda index: read(names[index]))

    return Found(f"{path.resolve()} {digest.hexdigest()}", load, seen.stamp(path))


def _unlisted(error: OSError, subject: str) -> UserError:
    return UserError(subject, f"{error.filename} cannot be read ({error.strerror})")


def _picture(name: str, content: bytes) -> bytes | np.ndarray:
    """Return an encoded file as it is, and the picture of an `.npy` or `.npz` as an array [H, W, C]."""
    if _suffix(name) not in PICTURE_ARRAYS:
        return content
    try:
        return arrays.picture_in(content)
    except ValueError as error:
        raise BrokenImage(str(error)[:200]) from None


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(16)
    except OSError:
        return b""


# Zip files: read member by member, never unpacked to disk


def _load_zip(path: Path, subject: str) -> SourceImages:
    archive = archives.opened(path, subject, "a zip file", MAX_MEMBERS)
    members = [member for member in archive.infolist() if not member.filename.endswith("/")]
    safe = [member for member in members if archives.is_safe_name(member)]
    safe.sort(key=lambda member: member.filename)
    if members and not safe:
        raise UserError(subject, f'every file name in it is unsafe, such as "{members[0].filename[:80]}"')
    all_names = [member.filename for member in safe]

    def head(index: int) -> bytes:
        return _member_head(archive, safe[index])

    chosen, skipped = _chosen(all_names, head)
    if not chosen:
        raise _without_images(subject, all_names, skipped, head, path)
    skipped += Counter({"with an unsafe name": len(members) - len(safe)})
    kept = [safe[index] for index in chosen]
    names = [member.filename for member in kept]
    repeated = archives.shared(kept)

    def read(index: int) -> bytes | np.ndarray:
        if index in repeated:
            raise BrokenImage(repeated[index])
        return _picture(names[index], _read_member(archive, kept[index]))

    images = SourceImages(names, read, num_skipped=skipped.total(), skipped=skipped)
    return _with_labels(images, all_names, chosen, lambda index: _read_member(archive, safe[index]))


def _member_head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if archives.flaw(member, MAX_FILE_BYTES):
        return b""
    try:
        with archive.open(member) as file:
            return file.read(16)
    except Exception:  # whatever is wrong with it, it shows no image
        return b""


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if reason := archives.flaw(member, MAX_FILE_BYTES):
        raise BrokenImage(reason)
    try:
        with archive.open(member) as file:
            return file.read(member.file_size)  # without a number, all would be unpacked, whatever was promised
    except Exception:  # zipfile and its decompressors raise many types on damaged members
        raise BrokenImage("damaged in the zip file") from None
