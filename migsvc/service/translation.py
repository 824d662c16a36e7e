"""The state on its way out in the words of the destination, and the operator's word on what that may lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migsvc.errors import IncompatibleError
from migsvc.service.dialect import Dialect, RamView, to_dialect
from migsvc.service.records import SmmShadowLoss, Translation
from schemas.errors import Finding, Severity
from schemas.shadow import SMM_SHADOW_LOSSES
from schemas.versions.converters import Converted

HINT = (
    "wait for RSM (--on-smm-shadow-loss wait), agree to the loss (--on-smm-shadow-loss accept), "
    "or choose a host that keeps the shadow"
)


class Translator:
    """Speaks for one migration. `record` says what was said differently; it is part of the migration's figures."""

    def __init__(self, dialect: Dialect, policy: SmmShadowLoss, peer: str) -> None:
        """Speak `dialect` to `peer`; `policy` is what the operator wants where a shadow would be lost."""
        self.dialect = dialect
        self._policy = policy
        self._peer = peer
        carrier = None if dialect.carrier is None else str(dialect.carrier)
        self.record = Translation(schema_version=dialect.schema_version, smm_carrier=carrier)

    def say(self, saved: Mapping[str, Any], memory: RamView) -> Converted:
        """Return what a worker saved in the destination's words, and note what that took."""
        said = to_dialect(saved["vm"], saved["vcpus"], self.dialect, memory)
        self.record.losses = [finding.model_dump(mode="json") for finding in said.losses]
        self.record.notes = [finding.model_dump(mode="json") for finding in said.notes]
        return said

    def must_wait(self, said: Converted) -> bool:
        """Whether the guest is to run on to its RSM first."""
        return self._policy is SmmShadowLoss.WAIT and said.loses_smm_shadow

    def require(self, said: Converted, *, moving: bool) -> None:
        """Refuse what the operator has not agreed to lose.

        A VM that runs on will be in another state when it moves (`moving`): its shadow is judged then.

        Raises:
            IncompatibleError: with the findings.
        """
        refused = [finding for finding in said.losses if self._refused(finding, moving=moving)]
        if refused:
            raise IncompatibleError(
                f"{self._peer} cannot hold all of the state: {refused[0].message}",
                [finding.model_dump(mode="json") for finding in refused],
                hint=HINT if said.loses_smm_shadow else "nothing was moved; the findings give every reason",
            )

    def _refused(self, finding: Finding, *, moving: bool) -> bool:
        if finding.severity is not Severity.ERROR:
            return False
        if finding.rule not in SMM_SHADOW_LOSSES:
            return True
        return moving and self._policy is not SmmShadowLoss.ACCEPT
