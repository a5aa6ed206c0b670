"""`config/setting_table.py`: one row each, in one group, and nothing that a row alone could get wrong."""

from sidecar.config.setting_table import GROUPS, SETTINGS, Settings


def test_every_setting_is_a_field_and_every_flag_is_unique() -> None:
    fields = set(Settings._fields)
    assert {setting.field for setting in SETTINGS} == fields
    assert len({setting.flag for setting in SETTINGS}) == len(SETTINGS)
    assert {"--upstream", "--aws-cognito-pool-id", "--cerbos"} <= {setting.flag for setting in SETTINGS}


def test_every_setting_is_in_one_group() -> None:
    assert [setting for group in GROUPS.values() for setting in group] == list(SETTINGS)
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)


def test_every_default_can_be_read() -> None:
    assert [
        setting.variable for setting in SETTINGS if setting.default is not None and setting.problem(setting.default)
    ] == []


def test_a_problem_of_a_secret_does_not_show_it() -> None:
    for setting in SETTINGS:
        if setting.secret:
            told = setting.problem("no\tgood")
            assert "good" not in told, setting.variable
