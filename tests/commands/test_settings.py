"""Each setting is a flag under the name of its variable, and only those that are given count."""

import argparse

from sidecar.commands.settings import add_settings, settings_given
from sidecar.config.setting_table import SETTINGS


def parsed(*arguments: str) -> dict[str, str]:
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return settings_given(parser.parse_args(arguments))


def test_each_setting_has_its_flag() -> None:
    for setting in SETTINGS:
        assert parsed(setting.flag, "x") == {setting.variable: "x"}


def test_what_is_not_given_is_left_to_the_environment() -> None:
    assert parsed() == {}
