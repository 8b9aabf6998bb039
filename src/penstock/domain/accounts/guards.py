"""How often something may be tried at the door before who tries is sent away, as the operator sets it.

What is not here is fixed: the tries and the life of a code, and the guesses and mails of one address (``codes.py``), because
what those figures promise together is worth more than a choice.
"""

import msgspec

from penstock.domain.accounts.attempt_limits import Limit
from penstock.settings import Settings

_QUARTER, _HOUR, _DAY = 900, 3600, 86_400


class Guards(msgspec.Struct, frozen=True):
    """The limits, each with the subject it is counted for."""

    sign_ins_by_pair: Limit
    """An address and a network together: others can still sign in to the address."""
    sign_ins_by_network: Limit
    sign_ups_by_network: Limit
    codes_by_network: Limit
    codes_by_all: Limit
    second_factors: tuple[Limit, Limit]
    """A user, in the quarter of an hour and in the day."""


def guards_of(settings: Settings) -> Guards:
    """What the settings say."""
    return Guards(
        sign_ins_by_pair=Limit("sign_in_pair", settings.sign_in_tries, _QUARTER),
        sign_ins_by_network=Limit("sign_in_network", settings.sign_in_tries_network, _QUARTER),
        sign_ups_by_network=Limit("sign_ups_network", settings.sign_ups_network, _HOUR),
        codes_by_network=Limit("code_sends_network", settings.codes_network, _HOUR),
        codes_by_all=Limit("code_sends_all", settings.codes_all, _HOUR),
        second_factors=(
            Limit("second_factor", settings.second_factor_tries, _QUARTER),
            Limit("second_factor_day", settings.second_factor_tries_day, _DAY),
        ),
    )
