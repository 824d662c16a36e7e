"""One vCPU's state: bytes and microseconds of every form, beside plain msgpack of the same octets and typed msgspec."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgpack
import msgspec

from benchmarks.imports import start_times
from benchmarks.rows import Row, best_ns
from benchmarks.typed import vcpu_type
from benchmarks.vcpu import realistic_vcpu
from schemas.codec.documents import pack_vcpu, unpack_vcpu, vcpu_from_json
from schemas.codec.sections import decode_sections, encode_sections
from schemas.invariants import check_state
from schemas.state import VcpuState

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def measure() -> list[Row]:
    """Measure all forms of one realistic vCPU."""
    vcpu = realistic_vcpu()
    return [*_hot_path(vcpu), *_models(vcpu), *_documents(vcpu), *_msgspec(vcpu), *_sizes(vcpu), *_imports(vcpu)]


def _us(call: Callable[[], object], repeat: int = 60, inner: int = 20) -> float:
    return best_ns(call, repeat=repeat, inner=inner) / 1000


def _hot_path(vcpu: VcpuState) -> list[Row]:
    """Raw structs in MessagePack: what a migration and a snapshot do, beside the same without any check."""
    sections = vcpu.to_sections()
    body = encode_sections(sections, "vcpu")
    ways = {
        "plain out": lambda: msgpack.packb(sections),
        "plain in": lambda: msgpack.unpackb(body),
        "hot out": lambda: encode_sections(sections, "vcpu"),
        "hot in": lambda: decode_sections(body, "vcpu"),
    }
    # Round by round, so that a change of the processor's clock meets all four alike.
    rounds = [{name: best_ns(call, repeat=3, inner=300) / 1000 for name, call in ways.items()} for _ in range(41)]
    ratio = statistics.median((us["hot out"] + us["hot in"]) / (us["plain out"] + us["plain in"]) for us in rounds)
    best = {name: min(us[name] for us in rounds) for name in ways}
    plain_out, plain_in, hot_out, hot_in = best.values()
    return [
        Row(
            "plain msgpack of the raw structs, out + in",
            plain_out + plain_in,
            "us",
            f"{plain_out:.2f} + {plain_in:.2f}",
        ),
        Row("hot path, checked, out + in", hot_out + hot_in, "us", f"{hot_out:.2f} + {hot_in:.2f}"),
        Row("… as a multiple of plain msgpack", ratio, "x", "goal 3"),
    ]


def _models(vcpu: VcpuState) -> list[Row]:
    """Every section as a Pydantic model, and all rules on them."""
    sections = vcpu.to_sections()
    build = _us(lambda: VcpuState.from_sections(sections), inner=5)
    pack = _us(vcpu.to_sections, inner=5)
    rules = _us(lambda: check_state(vcpu), inner=5)
    findings = check_state(vcpu)
    return [
        Row("models from raw structs", build, "us", "every field of every section"),
        Row("raw structs from models", pack, "us"),
        Row("all rules", rules, "us", f"{len(findings)} findings"),
        Row("decode + all rules", build + rules, "us", "goal 1,000 us"),
    ]


def _documents(vcpu: VcpuState) -> list[Row]:
    """Whole documents: strict decoding and validation of every field."""
    packed, text = pack_vcpu(vcpu), vcpu.model_dump_json()
    return [
        Row("MessagePack document out", _us(lambda: pack_vcpu(vcpu), inner=5), "us"),
        Row("MessagePack document in, models", _us(lambda: unpack_vcpu(packed), inner=5), "us"),
        Row("JSON document out", _us(vcpu.model_dump_json, inner=5), "us", f"{len(text)} bytes"),
        Row("JSON document in, strict, validated", _us(lambda: vcpu_from_json(text), inner=3), "us"),
        Row(
            "… the same by Pydantic alone",
            _us(lambda: VcpuState.model_validate_json(text), inner=3),
            "us",
            "not strict",
        ),
    ]


def _msgspec(vcpu: VcpuState) -> list[Row]:
    """The decoded form by msgspec: names and numbers instead of structs."""
    plain = vcpu.model_dump(exclude_none=True, exclude={"index"})
    body = msgspec.msgpack.encode(plain)
    decoder = msgspec.msgpack.Decoder(vcpu_type(vcpu))
    value, encoder = decoder.decode(body), msgspec.msgpack.Encoder()
    return [
        Row(
            "msgspec typed, decoded form, out", _us(lambda: encoder.encode(value), inner=10), "us", f"{len(body)} bytes"
        ),
        Row(
            "msgspec typed, decoded form, in", _us(lambda: decoder.decode(body), inner=10), "us", "no rules, no layout"
        ),
    ]


def _sizes(vcpu: VcpuState) -> list[Row]:
    body = encode_sections(vcpu.to_sections(), "vcpu")
    small = zstd.compress(body, 3)
    return [
        Row("one vCPU on the wire", len(body), "bytes", f"{len(vcpu.to_sections())} raw structs in MessagePack"),
        Row("… with zstd -3", len(small), "bytes", "goal 8,192"),
    ]


def _imports(vcpu: VcpuState) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder, "vcpu.json")
        document.write_text(vcpu.model_dump_json())
        times = start_times(str(document))
    goal = {"import schemas": "; goal 150 ms"}
    return [
        Row(f"start: {name}", time.wall_ms, "ms", f"{time.cpu_ms:.0f} ms of CPU{goal.get(name, '')}")
        for name, time in times.items()
    ]
