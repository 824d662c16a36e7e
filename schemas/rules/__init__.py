"""The rules on state, by family; `schemas.invariants` lists and applies them."""
