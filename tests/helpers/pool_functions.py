"""What a pool of processes is tested with: light to import, because every process does."""

import os


def square_unless_deadly(number: int) -> int:
    """Ends the process at 5."""
    if number == 5:
        os._exit(1)
    return number**2


def fail_at(number: int, bad: int) -> int:
    if number == bad:
        raise ValueError(f"{number} is bad")
    return number
