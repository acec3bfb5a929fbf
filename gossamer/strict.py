"""The base of every declaration: frozen pydantic models that refuse what they do not know."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A declaration's part: unknown fields are errors, and a loaded one does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
