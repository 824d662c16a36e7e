"""One vCPU's state: bytes, and the time to unpack it into models and pack it again."""

from __future__ import annotations

import msgpack

from benchmarks.machines import paused_ticker
from benchmarks.rows import Row, median_ns
from emulator.bridge import save_state
from schemas.state import VcpuState


def measure() -> list[Row]:
    """Take the state of a guest that has run for a while, in the raw and in the model form."""
    vcpu = save_state(paused_ticker(200_000)).vcpus[0]
    sections = vcpu.to_sections()
    packed = msgpack.packb(sections)
    text = vcpu.model_dump_json()
    raw_out = median_ns(lambda: msgpack.packb(sections), repeat=50, inner=50)
    raw_in = median_ns(lambda: msgpack.unpackb(packed), repeat=50, inner=50)
    models_in = median_ns(lambda: VcpuState.from_sections(sections), repeat=30, inner=5)
    models_out = median_ns(vcpu.to_sections, repeat=30, inner=5)
    json_in = median_ns(lambda: VcpuState.model_validate_json(text), repeat=30)
    json_out = median_ns(vcpu.model_dump_json, repeat=30)
    return [
        Row("one vCPU on the wire", len(packed), "bytes", f"{len(sections)} raw structs in MessagePack"),
        Row("raw structs to the wire and back", (raw_out + raw_in) / 1000, "us", "what a migration does"),
        Row("models from raw structs", models_in / 1000, "us", "when somebody looks or checks"),
        Row("raw structs from models", models_out / 1000, "us", "pack + unpack: the two lines together"),
        Row("JSON out", json_out / 1000, "us", f"{len(text)} bytes"),
        Row("JSON in", json_in / 1000, "us", "validated"),
    ]
