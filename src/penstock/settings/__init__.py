"""Settings: a table of what can be set, and what reads it from the command line, the environment and penstock.toml.

``load`` puts together what the command line, the environment (``PENSTOCK_NAME``), the file and the defaults say, in that
order of precedence, and reports every mistake at once, each with its place.
"""

from penstock.settings.describe import SettingRow, markdown, rows, shown_value
from penstock.settings.load import Loaded, SettingsError, environment, load
from penstock.settings.schema import Settings

__all__ = [
    "Loaded",
    "SettingRow",
    "Settings",
    "SettingsError",
    "environment",
    "load",
    "markdown",
    "rows",
    "shown_value",
]
