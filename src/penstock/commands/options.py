"""The options that commands share."""

from typing import Annotated

from cyclopts import Parameter

from penstock.commands.installation import Installation

At = Annotated[Installation, Parameter(name="*")]
"""``--data`` and ``--config``."""
