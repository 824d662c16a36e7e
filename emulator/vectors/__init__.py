"""Single-instruction tests captured from hardware: one real-mode instruction from a given state, up to a HLT.

bench = VectorBench("x86-64")
outcome = bench.run(parse_vector(json.loads(line)))        # no outcome.differences: it passed
"""

from .bench import Outcome, VectorBench
from .exclusions import EXCLUSIONS, Excluder
from .format import Vector, VectorError, parse_vector

__all__ = ["EXCLUSIONS", "Excluder", "Outcome", "Vector", "VectorBench", "VectorError", "parse_vector"]
