"""docs/carriers.md has the tables as they are."""

from pathlib import Path

import pytest

from schemas.shadow import CARRIERS, LOSSES

TEXT = (Path(__file__).parents[3] / "docs" / "carriers.md").read_text()


@pytest.mark.parametrize("row", LOSSES, ids=lambda row: row.id)
def test_every_loss_is_in_the_document(row):
    assert f"| {row.id} | {row.severity} | {row.text} | {row.hint or '-'} |" in TEXT


@pytest.mark.parametrize("row", CARRIERS, ids=lambda row: row.carrier)
def test_every_carrier_is_in_the_document(row):
    assert f"| `{row.carrier}` | {row.where} | {row.status} |" in TEXT


def test_the_document_names_no_other_loss():
    assert TEXT.count("| LOSS-") == len(LOSSES)
