"""Whether a host can hold a machine: asked before anything moves, answered with a reason per field.

report = check_compat(state, profile)          # or a MachineSummary, a VcpuState, another HostProfile
baseline([profile, …])                         # the largest set of features that all can hold
matrix([profile, …])                           # every pair
"""

from __future__ import annotations

from .baseline import Baseline, GivesUp, baseline
from .check import Subject, check_compat, check_pair, summary_of
from .matrix import Cell, Matrix, matrix
from .profile import HostProfile, LapicSupport, MemorySupport, NestedSupport
from .report import CompatFinding, CompatReport, Verdict
from .row import CompatRule
from .rules import COMPAT_RULES
from .summary import MachineSummary, VcpuSummary

__all__ = [
    "COMPAT_RULES",
    "Baseline",
    "Cell",
    "CompatFinding",
    "CompatReport",
    "CompatRule",
    "GivesUp",
    "HostProfile",
    "LapicSupport",
    "MachineSummary",
    "Matrix",
    "MemorySupport",
    "NestedSupport",
    "Subject",
    "VcpuSummary",
    "Verdict",
    "baseline",
    "check_compat",
    "check_pair",
    "matrix",
    "summary_of",
]
