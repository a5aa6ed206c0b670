"""Hostile forms about `owner`: none may reach the app. `why` names who would read it otherwise."""

from __future__ import annotations

from typing import NamedTuple

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"


class FormCase(NamedTuple):
    """A body, and what it is dangerous for."""

    why: str
    body: bytes
    kind: str = URLENCODED


def part(disposition: str, text: str = "alice", more: str = "") -> str:
    return f"Content-Disposition: {disposition}{more}\r\n\r\n{text}"


def whole(*parts: str, before: str = "", end: str = "--b--\r\n") -> bytes:
    return (before + "".join(f"--b\r\n{one}\r\n" for one in parts) + end).encode("latin-1")


OWN, BOBS = 'form-data; name="owner"', part('form-data; name="owner"', "bob")
CASES = [
    FormCase("PHP and Rack take the last, Go and Tomcat the first", b"owner=alice&owner=bob"),
    FormCase("an escaped name is the same name", b"owner=alice&%6fwner=bob"),
    FormCase("ASP.NET has names without case", b"owner=alice&OWNER=bob"),
    FormCase("PHP, Rack and qs make a list of it", b"owner=alice&owner[]=bob"),
    FormCase("qs and Rack drop the brackets", b"owner=alice&[owner]=bob"),
    FormCase("PHP drops the blank", b"owner=alice&+owner=bob"),
    FormCase("PHP ends a name at NUL", b"owner=alice&owner%00x=bob"),
    FormCase("a NUL before the name", b"owner=alice&%00owner=bob"),
    FormCase("older CGI and Python part fields at ;", b"owner=alice;owner=bob"),
    FormCase("qs looks for ]= first", b"owner=alice&x=1]=2&owner=alice"),
    FormCase("a second decoding", b"owner=alice&%256fwner=bob"),
    FormCase("full-width letters are letters for .NET and MySQL", b"owner=alice&%ef%bd%8fwner=bob"),
    FormCase("Spring binds a default of that name", b"x=1&!owner=bob"),
    FormCase("overlong UTF-8", b"owner=alice&%c1%afwner=bob"),
    FormCase("the method becomes another one in Rails and Spring", b"owner=alice&_method=delete"),
    FormCase("the same, in ASP.NET", b"owner=alice&X-HTTP-Method-Override=DELETE"),
    FormCase("the encoding becomes another one", b"owner=alice&_charset_=utf-7"),
    FormCase("a broken escape in the value", b"owner=alice%"),
    FormCase("raw bytes", b"owner=alice&\xe9=1"),
    FormCase("a line end within", b"owner=alice\r\nowner=bob"),
    FormCase("more fields than PHP reads", b"owner=alice" + b"&a=1" * 1200),
    FormCase("two parts", whole(part(OWN), BOBS), MULTIPART),
    FormCase(
        "a file takes the place of a field",
        whole(part(OWN), part('form-data; name="owner"; filename="x"', "bob")),
        MULTIPART,
    ),
    FormCase(
        "a field that busboy takes for a file",
        whole(part(OWN, more="\r\nContent-Type: application/octet-stream")),
        MULTIPART,
    ),
    FormCase(
        "RFC 5987, which Django decodes",
        whole(part(OWN), part("form-data; name=x; name*=utf-8''owner", "bob")),
        MULTIPART,
    ),
    FormCase("two names", whole(part('form-data; name="owner"; name="x"')), MULTIPART),
    FormCase(
        "a name within the file name",
        whole(part('form-data; filename="a; name=owner"; name="x"'), part(OWN)),
        MULTIPART,
    ),
    FormCase("an escaped quote", whole(part(OWN), part('form-data; name="x\\"; name=\\"owner"', "bob")), MULTIPART),
    FormCase("two dispositions", whole(part(OWN, more="\r\nContent-Disposition: form-data; name=x")), MULTIPART),
    FormCase("a folded header", whole(part("form-data;\r\n name=owner")), MULTIPART),
    FormCase("bytes before the first boundary", whole(part(OWN), before="--c\r\n"), MULTIPART),
    FormCase("bytes after the last", whole(part(OWN)) + b"--b\r\n" + BOBS.encode() + b"\r\n--b--\r\n", MULTIPART),
    FormCase("no end", whole(part(OWN), end=""), MULTIPART),
    FormCase(
        "a boundary after a bare LF, as PHP and Werkzeug see it", whole(part(OWN, f"alice\n--b\r\n{BOBS}")), MULTIPART
    ),
    FormCase("a boundary with blanks after it", whole(part(OWN, f"alice\r\n--b \r\n{BOBS}")), MULTIPART),
    FormCase("lines that end in LF", whole(part(OWN)).replace(b"\r\n", b"\n"), MULTIPART),
    FormCase(
        "quoted-printable, which Django decodes",
        whole(part(OWN, more="\r\nContent-Transfer-Encoding: quoted-printable")),
        MULTIPART,
    ),
    FormCase(
        "an encoding of its own, which Werkzeug obeys",
        whole(part(OWN, more="\r\nContent-Type: text/plain; charset=iso-8859-1")),
        MULTIPART,
    ),
    FormCase(
        "a byte order mark, which formData() of Node.js and ASP.NET Core take away",
        whole(part(OWN, "\xef\xbb\xbfalice")),
        MULTIPART,
    ),
    FormCase(
        "a text that is not what its type says, which Werkzeug replaces",
        whole(part(OWN, "al\xc3\xafce", more="\r\nContent-Type: text/plain; charset=us-ascii")),
        MULTIPART,
    ),
    FormCase("Zope converts it to a text", b"owner=alice&owner:text=bob"),
    FormCase(
        "parts within a part",
        whole(part(OWN), part("form-data; name=x", more="\r\nContent-Type: multipart/mixed; boundary=c")),
        MULTIPART,
    ),
    FormCase(
        "a header that is not UTF-8: Werkzeug finds no field",
        whole(part(OWN), part('form-data; name="f"; filename="\xff"')),
        MULTIPART,
    ),
    FormCase(
        "a name that busboy cuts off", whole(part(OWN), part(f'form-data; name="{"owner" + "x" * 200}"')), MULTIPART
    ),
    FormCase("two boundaries", whole(part(OWN)), "multipart/form-data; boundary=b; boundary=c"),
    FormCase("no boundary", whole(part(OWN)), "multipart/form-data"),
    FormCase("two types", b"owner=alice", "application/x-www-form-urlencoded, multipart/form-data; boundary=b"),
    FormCase("another encoding", b"owner=alice", "application/x-www-form-urlencoded; charset=utf-16"),
    FormCase("a type that some sniff", b"owner=alice", "text/plain"),
]
