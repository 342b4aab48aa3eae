"""What every table of the configuration is made of.

Rules of this file:
    * A section is frozen and takes no unknown key.
    * A number names its range in its type, so that no room checks it again.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Digits = Annotated[str, Field(pattern=r"^[0-9]{1,2}(-[0-9]{1,2})*$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Section(BaseModel):
    """A frozen table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")
