"""KVM x86 state as Pydantic models with exact binary layouts, and the rules on it. No I/O, no clock."""
