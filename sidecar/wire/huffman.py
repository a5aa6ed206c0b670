"""Huffman code of header fields (RFC 7541 section 5.2 and appendix B), as a peer may write them; we write none."""

from __future__ import annotations

from sidecar.wire.http2 import CompressionError

# bits of a code -> its octets. The code is canonical: codes of one length are consecutive, in the
# order of their octets.
_CODED = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: bytes.fromhex("808283a2b8c2e0e2"),
    21: bytes.fromhex("99a1a7acb0b1b3d1d8d9e3e5e6"),
    22: bytes.fromhex("8184858688929a9ca0a3a4a9aaadb2b5b9babbbdbec4c6e4e8e9"),
    23: bytes.fromhex("0187898a8b8c8d8f93959697989b9d9ea5a6a8aeafb4b6b7bcbfc5e7ef"),
    24: bytes.fromhex("098e9091949fabced7e1eced"),
    25: bytes.fromhex("c7cfeaeb"),
    26: bytes.fromhex("c0c1c8c9cacdd2d5dadbeef0f2f3ff"),
    27: bytes.fromhex("cbccd3d4d6dddedff1f4f5f6f7f8fafbfcfdfe"),
    28: bytes.fromhex("020304050607080b0c0e0f1011121314151718191a1b1c1d1e1f7fdcf9"),
    30: bytes.fromhex("0a0d16"),
}


def _code_table() -> dict[tuple[int, int], int]:
    table: dict[tuple[int, int], int] = {}
    code = bits = 0
    for length, octets in _CODED.items():
        code <<= length - bits
        bits = length
        for octet in octets:
            table[bits, code] = octet
            code += 1
    return table


_OCTETS = _code_table()
"""(bits, code) -> octet."""
_LONGEST = max(_CODED)


def decode(data: bytes) -> bytes:
    """Huffman code -> octets. Raises CompressionError."""
    out = bytearray()
    code = bits = 0
    for octet in data:
        for at in range(7, -1, -1):
            code = code << 1 | octet >> at & 1
            bits += 1
            found = _OCTETS.get((bits, code))
            if found is not None:
                out.append(found)
                code = bits = 0
            elif bits > _LONGEST:
                raise CompressionError("a code of no octet that a field has")
    # "padding strictly longer than 7 bits MUST be treated as a decoding error", as must one that is not all ones
    if bits > 7 or code != (1 << bits) - 1:
        raise CompressionError("a string with a wrong end")
    return bytes(out)
