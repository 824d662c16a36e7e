"""Codecs: untrusted octets to checked state and back, strictly, in bounded time and memory.

`sections`: the hot path, raw structs in MessagePack. `documents`: a vCPU or a machine as one JSON or MessagePack
document. `text` and `packing`: strict JSON and MessagePack of any model or value.
Every refusal is a `SchemaError` whose problems name the path.
"""
