"""Functions for tests of process pools: every process imports this module, so it imports nothing heavy."""

import os
import time


def square_unless_deadly(number: int) -> int:
    """`number` squared; ends the process for 5."""
    if number == 5:
        os._exit(1)
    return number**2


def fail_at(number: int, bad: int) -> int:
    if number == bad:
        raise ValueError(f"{number} is bad")
    return number


def sleep_long_for_3(number: int) -> int:
    """`number`; takes 100 s for 3."""
    if number == 3:
        time.sleep(100)
    return number
