"""How the stream's records and the messages of a migration differ."""

from __future__ import annotations

from collections.abc import Mapping

from .compare_tables import number_differences
from .difference import Differences, bounds, differs, gone, kept, limits
from .document import MessageExport, RecordExport, SchemaExport, StreamExport


def stream_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the stream format differs."""
    if old.stream is None or new.stream is None:
        if old.stream is not new.stream:
            known = ("no", "yes")
            yield differs(
                "stream-tables-missing", "stream", known[old.stream is not None], known[new.stream is not None]
            )
        return
    yield from _versions(old.stream, new.stream)
    yield from limits("stream.limits", old.stream.limits, new.stream.limits)
    yield from number_differences("stream.flags", "flag", old.stream.flags, new.stream.flags)
    for name in sorted(old.stream.constants.keys() | new.stream.constants.keys()):
        was, is_ = old.stream.constants.get(name), new.stream.constants.get(name)
        if was != is_:
            yield differs("stream-constant-changed", f"stream.constants.{name}", was, is_)
    yield from _records(old.stream.records, new.stream.records)


def _versions(old: StreamExport, new: StreamExport) -> Differences:
    if old.version != new.version:
        forward, backward = old.version in new.versions_read, new.version in old.versions_read
        kind = {
            (True, True): "stream-version-within-reach",
            (True, False): "stream-version-raised",
            (False, True): "stream-version-lowered",
            (False, False): "stream-version-apart",
        }[forward, backward]
        yield differs(kind, "stream.version", old.version, new.version)
    if dropped := sorted(set(old.versions_read) - set(new.versions_read)):
        yield differs("stream-version-dropped", "stream.versions_read", dropped, "")
    if learnt := sorted(set(new.versions_read) - set(old.versions_read)):
        yield differs("stream-version-learnt", "stream.versions_read", "", learnt)


def _records(before: Mapping[str, RecordExport], after: Mapping[str, RecordExport]) -> Differences:
    lost, found = gone(before, after), gone(after, before)
    by_type = {row.type: name for name, row in found.items()}
    renamed = {name: by_type[row.type] for name, row in lost.items() if row.type in by_type}
    for name, other in renamed.items():
        yield differs("record-renamed", f"stream.records.{name}", name, other)
        yield from _record(f"stream.records.{other}", before[name], after[other])
    for name, row in lost.items():
        if name not in renamed:
            kind = "optional-record-removed" if row.optional else "mandatory-record-removed"
            yield differs(kind, f"stream.records.{name}", f"{row.type:#x}", "none")
    for name, row in found.items():
        if name not in renamed.values():
            kind = "optional-record-added" if row.optional else "mandatory-record-added"
            yield differs(kind, f"stream.records.{name}", "none", f"{row.type:#x}")
    for name, was, is_ in kept(before, after):
        yield from _record(f"stream.records.{name}", was, is_)


def _record(subject: str, was: RecordExport, is_: RecordExport) -> Differences:
    if was.type != is_.type:
        yield differs("record-renumbered", subject, f"{was.type:#x}", f"{is_.type:#x}")
    yield from bounds("record-limit", subject, was.max_body, is_.max_body)
    yield from bounds("record-minimum", subject, was.min_body, is_.min_body)
    if was.encoding != is_.encoding:
        yield differs("record-encoding-changed", subject, was.encoding, is_.encoding)
    if was.text != is_.text:
        yield differs("record-reworded", subject, was.text, is_.text)


def message_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the messages of a migration differ; nothing if one of the exports does not know any."""
    if not old.messages or not new.messages:
        return
    if old.protocol_versions != new.protocol_versions:
        common = set(old.protocol_versions) & set(new.protocol_versions)
        kind = "protocol-versions-changed" if common else "protocol-versions-apart"
        yield differs(kind, "protocol_versions", list(old.protocol_versions), list(new.protocol_versions))
    for name, message in gone(old.messages, new.messages).items():
        yield differs("message-removed", f"messages.{name}", message.type, "none")
    for name, message in gone(new.messages, old.messages).items():
        yield differs("message-added", f"messages.{name}", "none", message.type)
    for name, was, is_ in kept(old.messages, new.messages):
        yield from _message(f"messages.{name}", was, is_)


def _message(subject: str, was: MessageExport, is_: MessageExport) -> Differences:
    if was.type != is_.type:
        yield differs("message-renumbered", subject, was.type, is_.type)
    if was.sender != is_.sender:
        yield differs("message-sender-changed", subject, was.sender, is_.sender)
    for name, form in gone(was.fields, is_.fields).items():
        yield differs("message-field-removed", f"{subject}.{name}", form, "none")
    for name, form in gone(is_.fields, was.fields).items():
        yield differs("message-field-added", f"{subject}.{name}", "none", form)
    for name, before, after in kept(was.fields, is_.fields):
        yield differs("message-field-type-changed", f"{subject}.{name}", before, after)
