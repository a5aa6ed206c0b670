"""A seal holds for a drafted file as it is, and for no other."""

import pytest

from sidecar.adoption.seal import MARK, is_as_drafted, is_drafted, sealed

TEXT = f'{MARK} from 1 recorded request.\nresourcePolicy:\n  resource: "é"\n'


def test_a_seal_is_a_comment_in_the_head_and_holds() -> None:
    head, seal, rest = sealed(TEXT).split("\n", 2)
    assert f"{head}\n{rest}" == TEXT
    assert seal.startswith("# Checksum ")
    assert is_as_drafted(sealed(TEXT).encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from 1", "from 2"), ("resource:", "kind:"), ("# Checksum ", "# checksum "), ("\n", "\r\n"), ('"é"\n', '"é"'),
        ('"é"\n', '"é"\n# mine\n'), ("# Checksum ", "# mine\n# Checksum "), (MARK, f"\n{MARK}"),
    ],
)  # fmt: skip
def test_a_changed_file_is_not_as_drafted(old: str, new: str) -> None:
    changed = sealed(TEXT).replace(old, new)
    assert changed != sealed(TEXT)
    assert not is_as_drafted(changed.encode())
    assert is_drafted(changed.encode()) is changed.startswith(MARK)


@pytest.mark.parametrize("text", ["", "\n", "mine", TEXT, MARK])
def test_a_file_without_a_seal_is_not_as_drafted(text: str) -> None:
    assert not is_as_drafted(text.encode())
