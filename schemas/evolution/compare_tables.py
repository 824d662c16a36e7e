"""How named numbers, rules and orders differ."""

from __future__ import annotations

from collections.abc import Mapping

from .difference import Differences, differs, gone, kept
from .document import EnumExport, OrderExport, RuleExport, SchemaExport

_PREFIX = {"value": "value", "flags": "flag", "interface": "interface-number"}

_SCOPES = {"machine": 0, "vcpu": 1}
"""How much a scope covers: a rule on a vCPU binds the vCPUs of a machine too."""

Numbers = Mapping[str, int | str]


def enum_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the named numbers differ."""
    for name, enum in gone(old.enums, new.enums).items():
        yield differs("enum-removed", f"enums.{name}", enum.role, "none")
    for name, enum in gone(new.enums, old.enums).items():
        yield differs("enum-added", f"enums.{name}", "none", enum.role)
    for name, before, after in kept(old.enums, new.enums):
        yield from _enum(f"enums.{name}", before, after)


def _enum(subject: str, before: EnumExport, after: EnumExport) -> Differences:
    if before.role != after.role:
        yield differs("enum-role-changed", subject, before.role, after.role)
        return
    yield from number_differences(subject, _PREFIX[before.role], before.members, after.members)


def number_differences(subject: str, prefix: str, before: Numbers, after: Numbers) -> Differences:
    """Yield how named numbers of one kind (`value`, `flag`, `interface-number`) differ."""
    lost, found = gone(before, after), gone(after, before)
    by_number = {value: name for name, value in found.items()}
    renamed = {name: by_number[value] for name, value in lost.items() if value in by_number}
    for name, other in renamed.items():
        yield differs(f"{prefix}-renamed", f"{subject}.{name}", name, other)
    for name, value in lost.items():
        if name not in renamed:
            yield differs(f"{prefix}-removed", f"{subject}.{name}", _number(value), "none")
    for name, value in found.items():
        if name not in renamed.values():
            yield differs(f"{prefix}-added", f"{subject}.{name}", "none", _number(value))
    changed = "changed" if prefix == "interface-number" else "renumbered"
    for name, was, is_ in kept(before, after):
        yield differs(f"{prefix}-{changed}", f"{subject}.{name}", _number(was), _number(is_))


def _number(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:#x}"


def rule_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the rules on state and the rules on hosts differ."""
    for part, prefix, before, after in (
        ("invariants", "", old.invariants, new.invariants),
        ("compat_rules", "compat-", old.compat_rules, new.compat_rules),
    ):
        for name, rule in gone(before, after).items():
            kind = "rule-removed" if _refuses(rule) else "advice-removed"
            yield differs(prefix + kind, f"{part}.{name}", _told(rule), "none")
        for name, rule in gone(after, before).items():
            kind = prefix + ("rule-added" if _refuses(rule) else "advice-added")
            section = rule.where.partition(".")[0]
            if kind == "rule-added" and section in new.sections and section not in old.sections:
                kind = "rule-added-on-new-section"
            yield differs(kind, f"{part}.{name}", "none", _told(rule))
        for name, was, is_ in kept(before, after):
            yield from _rule(f"{part}.{name}", prefix, was, is_)


def _told(rule: RuleExport) -> str:
    return f"{rule.severity}{f' on {rule.host_vendor}' if rule.host_vendor else ''}: {rule.text}"


def _refuses(rule: RuleExport) -> bool:
    """Return whether the rule refuses anything anywhere: one vendor's rule is an error on that vendor's hosts."""
    return rule.severity == "error" or rule.host_vendor is not None


def _rule(subject: str, prefix: str, was: RuleExport, is_: RuleExport) -> Differences:
    if _refuses(was) != _refuses(is_):
        kind = "rule-tightened-to-error" if _refuses(is_) else "rule-loosened-from-error"
        yield differs(prefix + kind, subject, was.severity, is_.severity)
    elif was.host_vendor != is_.host_vendor:
        yield differs(_vendor_kind(was, is_), subject, was.host_vendor, is_.host_vendor)
    elif was.severity != is_.severity:
        kind = "compat-severity-changed" if prefix else "advice-severity-changed"
        yield differs(kind, subject, was.severity, is_.severity)
    if was.scope != is_.scope:
        widened = _SCOPES.get(is_.scope or "", 2) > _SCOPES.get(was.scope or "", 2)
        yield differs("rule-scope-widened" if widened else "rule-scope-narrowed", subject, was.scope, is_.scope)
    if was.where != is_.where:
        yield differs("rule-place-changed", subject, was.where, is_.where)
    if (was.text, was.source) != (is_.text, is_.source):
        yield differs(prefix + "rule-reworded", subject, was.text, is_.text)


def _vendor_kind(was: RuleExport, is_: RuleExport) -> str:
    if was.host_vendor is None:
        return "rule-bound-to-vendor"
    return "rule-freed-of-vendor" if is_.host_vendor is None else "rule-vendor-changed"


def order_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the save and the restore order differ."""
    nothing = OrderExport(sequence=(), steps={})
    for name in sorted(old.order.keys() | new.order.keys()):
        yield from _order(f"order.{name}", old.order.get(name, nothing), new.order.get(name, nothing))


def _order(subject: str, before: OrderExport, after: OrderExport) -> Differences:
    for name in gone(before.steps, after.steps):
        yield differs("order-step-removed", f"{subject}.{name}")
    for name in gone(after.steps, before.steps):
        yield differs("order-step-added", f"{subject}.{name}")
    for name, was, is_ in kept(before.steps, after.steps):
        where = f"{subject}.{name}"
        if more := sorted(set(is_.after) - set(was.after)):
            yield differs("order-constraint-added", where, "", "after " + ", ".join(more))
        if fewer := sorted(set(was.after) - set(is_.after)):
            yield differs("order-constraint-removed", where, "after " + ", ".join(fewer), "")
        if (was.reason, was.source) != (is_.reason, is_.source):
            yield differs("order-reworded", where, was.reason, is_.reason)
    common = before.steps.keys() & after.steps.keys()
    were, are = ([name for name in order.sequence if name in common] for order in (before, after))
    if were != are:
        yield differs("order-sequence-changed", subject, ", ".join(were), ", ".join(are))
