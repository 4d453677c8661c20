"""What can be typed after the options of `study`, read or refused in one line."""

from equipoise.errors import Command, Option, UserError, shortened


def study_of(text: str) -> str:
    """Return what is studied; raises UserError for what cannot be."""
    if text == "optimizers":
        return text
    raise UserError(f'study "{shortened(text)}"', 'the only one is "optimizers"', Command("study", "optimizers"))


def names_of(text: str) -> list[str]:
    """Read names with commas between."""
    return [part.strip() for part in text.split(",") if part.strip()]


def rates_of(text: str) -> list[float]:
    """Read numbers with commas between."""
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found:
        problem = "give one or more numbers with commas between"
        raise UserError(Option("rates", shortened(text)), problem, Option("rates", "0.001,0.01"))
    return found
