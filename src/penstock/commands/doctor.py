"""``penstock doctor``: checks whether the installation is sound."""

import asyncio
from typing import Annotated

from cyclopts import Parameter

from penstock.commands.installation import (
    HERE,
    answer,
    answer_json,
)
from penstock.commands.options import At
from penstock.operations import doctor
from penstock.settings import environment


def examine(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> int:
    """Check the installation: settings, files, database, secrets, providers, clock. Exit code 1 when something fails.

    Example: penstock doctor

    Parameters
    ----------
    json
        Print {"ok", "findings": [{"level", "subject", "text", "mend"}]}.
    """
    flags = {} if place.data is None else {"data": str(place.data)}
    report = asyncio.run(doctor.examine_installation(environment(), place.config, flags))
    if json:
        answer_json(report)
    else:
        for finding in report.findings:
            mend = f"\n{'':16}{finding.mend}" if finding.mend else ""
            answer(f"{finding.level:<5} {finding.subject:<10}{finding.text}{mend}")
    return 0 if report.ok else 1
