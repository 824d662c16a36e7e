"""`Model`: frozen, no unknown fields, completed at first use, described by the strings behind its attributes."""

import pytest
from pydantic import ValidationError

from schemas.model import Model, attribute_docs
from schemas.uapi.vcpu_events import InterruptShadow, KvmVcpuEventsNmi


class Plain(Model):
    """A model."""

    first: int
    """The first.

    In two paragraphs.
    """
    second: int = 2
    third: "int" = 3
    """The third."""


class Longer(Plain):
    fourth: int = 4
    """The fourth."""
    third: int = 5
    """The third anew."""


class Around:
    class Within(Model):
        inner: int
        """Within another class."""


def test_attributes_are_described_by_the_string_that_follows_them():
    assert attribute_docs(Plain) == {"first": "The first.\n\nIn two paragraphs.", "third": "The third."}
    assert attribute_docs(Around.Within) == {"inner": "Within another class."}


def test_inherited_attributes_keep_theirs_unless_they_are_written_anew():
    docs = attribute_docs(Longer)
    assert docs["first"].startswith("The first.")
    assert docs["third"] == "The third anew."


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_json_schemas_carry_the_descriptions(mode):
    properties = Longer.model_json_schema(mode=mode)["properties"]
    assert properties["fourth"]["description"] == "The fourth."
    assert "description" not in properties["second"]
    assert "A count" in KvmVcpuEventsNmi.model_json_schema(mode=mode)["properties"]["pending"]["description"]


def test_a_schema_of_two_forms_carries_them_too():
    structured = InterruptShadow.model_json_schema()["anyOf"][0]
    assert structured["properties"]["smm"]["description"].startswith("Bits 4-7")


def test_a_model_without_source_has_no_descriptions():
    made = type("Made", (Model,), {"__annotations__": {"x": int}, "__module__": "nowhere"})
    assert attribute_docs(made) == {}
    assert made.model_json_schema()["properties"]["x"] == {"title": "X", "type": "integer"}


def test_models_are_frozen_and_take_no_unknown_fields():
    with pytest.raises(ValidationError):
        Plain(first=1, other=2)
    with pytest.raises(ValidationError):
        Plain(first=1).first = 2  # type: ignore[misc]
