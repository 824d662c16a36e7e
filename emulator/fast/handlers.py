"""All handlers of the fast tier."""

from .control import branches, strings
from .integer import arithmetic, bits, multiplying, shifting
from .moves import moves
from .rare import rare

HANDLERS = (*arithmetic(), *branches(), *moves(), *shifting(), *multiplying(), *bits(), *strings(), *rare())
"""Every handler; its number is its place, counted from 1 (0 is "the reference tier does it")."""

NUMBERS = {handler.name: number for number, handler in enumerate(HANDLERS, 1)}
"""Name of a handler -> its number."""
