"""Devices of the machine. Each keeps its state in the fields of the KVM (or migsvc_*) struct it is saved as.

Every device offers `snapshot()`, its state by the struct's field names, and `load(fields)`, which takes exactly
that back. Nothing else survives a migration, so a device holds nothing that cannot be computed from it.
"""
