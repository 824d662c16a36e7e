"""Random bytes that are legal in size and count, for every section."""

import random

import pytest
from hypothesis import strategies as st

from schemas.state import VcpuState
from schemas.uapi import SECTIONS, VCPU_SECTIONS


def raw_section(row, rng):
    """Return random octets that unpack; a tail has a few elements and the right counter."""
    size = row.model.SIZE
    while rng.random() < 0.6 and size < row.max_bytes:
        size = next(n for n in range(size + 1, row.max_bytes + 1) if row.model.size_misfit(n) is None)
    raw = bytearray(rng.randbytes(size))
    counter = row.model.counter(size)
    if counter is not None:
        width = counter.place.stop - counter.place.start
        raw[counter.place] = counter.entries.to_bytes(width, "little")
    return bytes(raw)


def raw_sections(scope, seed):
    rng = random.Random(seed)
    rows = [row for row in SECTIONS if row.scope == scope]
    return {row.name: raw_section(row, rng) for row in rows if row.required or rng.random() < 0.7}


SEEDS = st.integers(0, 2**32)
ROWS = {row.name: row for row in SECTIONS}


@pytest.fixture(scope="session")
def sections():
    return raw_sections("vcpu", 1)


@pytest.fixture(scope="session")
def vcpu(sections):
    return VcpuState.from_sections(sections, index=3)


@pytest.fixture(scope="session")
def all_sections():
    """Every section of a vCPU, the optional ones too."""
    rng = random.Random(7)
    return {name: raw_section(row, rng) for name, row in VCPU_SECTIONS.items()}
