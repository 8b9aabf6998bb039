"""The options that commands share."""

from typing import Annotated

from cyclopts import Parameter

from penstock.commands.installation import Place

At = Annotated[Place, Parameter(name="*")]
"""``--data`` and ``--config``."""
