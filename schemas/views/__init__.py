"""Decoded views of state, for people and for tools that want names: raw -> view -> raw is the identity on every bit.

A view holds each thing once, decoded, and next to it whatever has no name: reserved bits, gaps, junk. `sections` has
the table; `page` is what `migsvc state show` prints.
"""
