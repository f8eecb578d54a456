"""The memory that a fit takes at the least, known before anything of it is tried."""

from cluster.memory import check_room
from train.config import Run
from train.data.encoded import Encoded

# Python, and the libraries that training and evaluation load.
LIBRARIES = 600 * 2**20
# Of an interaction: user, item and time in the data, and in two snapshots nearly as much; the order
# of the examples of an epoch, and which they are.
OF_INTERACTION = 16 + 2 * 12 + 16
# Towers: those before the validation, before the test, and those that are served.
FITS = 3


def least_memory(run: Run, data: Encoded) -> int:
    """Return the bytes that a fit takes at the least: interactions, and vectors of all towers."""
    rows = len(data.users) + len(data.items)
    # The vectors, and while they are trained the weights with one number an optimizer keeps.
    vectors = 4 * rows * run.tower.width * (FITS + 2)
    return LIBRARIES + OF_INTERACTION * len(data.interactions) + vectors


def check_memory(run: Run, data: Encoded) -> None:
    """Refuse a fit that cannot end for want of memory.

    Raises:
        ValueError: it needs more than this process may use.
    """
    sizes = len(data.interactions), len(data.users), len(data.items)
    what = "a fit of {:,} interactions of {:,} users and {:,} items".format(*sizes)
    advice = (
        f"read fewer rows, set tower.width below {run.tower.width}, or run it where there is more "
        "(docs/quality, Memory)"
    )
    check_room(least_memory(run, data), what, advice)
