"""Text out of logs and specs as a terminal may have it: it shows it, and does nothing else."""


def printable(text: str) -> str:
    """Return one line with what a terminal would obey, or show in another order, written as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
