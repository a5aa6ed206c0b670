"""The settings as flags of a command, each under the name of its variable."""

from __future__ import annotations

import argparse

from sidecar.config.setting_table import SETTINGS


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting."""
    for setting in SETTINGS:
        said = setting.doc + (f" (default: {setting.default})" if setting.default else "")
        parser.add_argument(setting.flag, dest=setting.variable, metavar="VALUE", help=said.replace("%", "%%"))


def settings_given(options: argparse.Namespace) -> dict[str, str]:
    """Return the settings that were given as flags, by their variable."""
    given = {setting.variable: getattr(options, setting.variable) for setting in SETTINGS}
    return {name: value for name, value in given.items() if value is not None}
