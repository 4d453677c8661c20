"""The checksum of a training state, as text."""

from equipoise import formatting
from equipoise.errors import shortened
from equipoise.runs.digest import Digest

LONGEST = 50  # letters of a part's name: it is out of a file, and may be anything


def digest_text(found: Digest) -> str:
    """Return a digest as lines: the whole, then its parts, each shortened."""
    parts = [(formatting.printable(shortened(name, LONGEST)), part) for name, part in sorted(found.parts.items())]
    width = max(len(name) for name, _ in parts)
    lines = [f"{found.sha256}  after {found.samples:,} samples"]
    lines += [f"newer but damaged: checkpoint {name}" for name in found.passed_over]
    return "\n".join([*lines, "", *(f"  {name:<{width}}  {part[:16]}" for name, part in parts)])
