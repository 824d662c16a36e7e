"""The GDB remote protocol for one machine, without I/O.

session = GdbSession(machine)
reply = session.feed(octets_from_gdb)                         # while session.running: reply += session.run(steps)

Addresses are linear. Source: Debugging with GDB, appendix E (Remote Serial Protocol).
"""

from .session import GdbSession

__all__ = ["GdbSession"]
