"""The fast tier: a compiled interpreter for the common instructions, under the authority of the reference tier.

It executes an instruction only where nothing unusual can happen. Everything else (faults, devices, system instructions,
shadows, first writes to a page, pages with code) it hands back with the state before that instruction. It needs numba
(`pip install migsvc[fast]`); without it `available` is false and the reference tier does all the work.
"""

from importlib.util import find_spec


def available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None
