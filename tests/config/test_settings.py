"""Environment and flags -> settings, every fault at once."""

import pytest

from sidecar.config.parsers import Address
from sidecar.config.setting_table import SETTINGS
from sidecar.config.settings import SettingsError, read_settings, understand
from tests.tokens import SESSION_SECRET

LEAST = {"SIDECAR_UPSTREAM": "http://127.0.0.1:5000"}


def problems(environ: dict[str, str], flags: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings({**LEAST, **environ}, flags or {})
    return caught.value.problems


def test_each_setting_has_a_default() -> None:
    settings = read_settings(LEAST, {})
    assert settings.upstream == "http://127.0.0.1:5000"
    assert settings.listen == Address("0.0.0.0", 8080)
    assert settings.admin_listen == Address("127.0.0.1", 9901)
    assert (settings.routes, settings.cerbos, settings.policies) == ("routes.yaml", "embedded", "policies")
    assert (settings.mode, settings.workers, settings.hosts, settings.trusted_proxies) == ("enforce", 1, None, ())
    assert read_settings({}, {}).upstream == ""


def test_a_flag_goes_before_the_environment() -> None:
    settings = read_settings({**LEAST, "SIDECAR_LISTEN": "127.0.0.1:1"}, {"SIDECAR_LISTEN": "unix:/run/s.sock"})
    assert settings.listen == Address("", 0, "/run/s.sock")
    assert str(settings.listen) == "unix:/run/s.sock"


def test_all_faults_are_told_at_once() -> None:
    found = problems({"SIDECAR_MODE": "open", "SIDECAR_WORKERS": "0", "SIDECAR_LISTEN": "8080", "SIDECAR_FOO": "1"})
    assert found == [
        "SIDECAR_FOO: unknown setting",
        "SIDECAR_LISTEN: found '8080', expected host:port or unix:/path",
        "SIDECAR_MODE: found 'open', expected enforce or shadow-policy or shadow",
        "SIDECAR_WORKERS: found '0', expected a whole number from 1 to 64",
    ]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SIDECAR_UPSTREAM", "http://user@h:1", "expected http(s)://host:port"),
        ("SIDECAR_UPSTREAM", "http://h:1/path", "expected http(s)://host:port"),
        ("SIDECAR_UPSTREAM", "ftp://h", "expected http(s)://host:port"),
        ("SIDECAR_LISTEN", "0.0.0.0:99999", "expected host:port"),
        ("SIDECAR_CERBOS", "http://x", "expected embedded, host:port or unix:/path"),
        ("SIDECAR_CERBOS_TIMEOUT", "1", "expected a duration"),
        ("SIDECAR_TRUSTED_PROXIES", "0.0.0.0/0", "/0 would believe everybody"),
        ("SIDECAR_TRUSTED_PROXIES", "10.0.0.0/8, ::/0", "/0 would believe everybody"),
        ("SIDECAR_TRUSTED_PROXIES", "10.0.0.1/8", "expected CIDRs"),
        ("SIDECAR_TRUSTED_PROXIES", "proxy", "expected CIDRs"),
        ("SIDECAR_FORWARD_AUTH", "nginx", "SIDECAR_TRUSTED_PROXIES: not set"),
        ("SIDECAR_FORWARD_AUTH", "apache", "expected off or nginx"),
        ("SIDECAR_JWKS_URL", "http://keys.example/jwks.json", "expected https"),
        ("SIDECAR_JWKS_URL", "file:///etc/passwd", "expected an https URL"),
        ("AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER", "http://10.0.0.1:5000", "expected https"),
        ("AWS_COGNITO_POOL_ID", "nonsense", "expected an id such as"),
        ("AWS_REGION", "Mars", "expected a region"),
        ("SIDECAR_ISSUER", "https://issuer.example", "SIDECAR_JWKS_URL: not set"),
        ("SIDECAR_ADMIN_LISTEN", "0.0.0.0:8080", "another port than the traffic's"),
        ("SIDECAR_EXT_AUTHZ_LISTEN", "9002", "expected host:port or unix:/path"),
        ("SIDECAR_EXT_AUTHZ_LISTEN", "0.0.0.0:8080", "a port that nothing else has"),
        ("SIDECAR_EXT_AUTHZ_LISTEN", "127.0.0.1:9901", "a port that nothing else has"),
        ("SIDECAR_EXT_PROC_LISTEN", "127.0.0.1:9901", "a port that nothing else has"),
        ("SIDECAR_EXT_PROC_LISTEN", "9003", "expected host:port or unix:/path"),
    ],
)
def test_an_unsafe_or_broken_value_is_refused(name: str, value: str, says: str) -> None:
    assert says in "\n".join(problems({name: value}))


def test_the_pool_needs_region_and_client() -> None:
    found = problems({"AWS_COGNITO_POOL_ID": "eu-west-1_AbC"})
    assert [problem.partition(":")[0] for problem in found] == ["AWS_REGION", "AWS_COGNITO_CLIENT_ID"]


def test_a_whole_pool_is_taken() -> None:
    settings = read_settings(
        {
            **LEAST,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_COGNITO_POOL_ID": "eu-west-1_AbC",
            "AWS_COGNITO_CLIENT_ID": "web, m2m",
            "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": "http://localhost:9229",
            "SIDECAR_HOSTS": "App.Example, b.example",
            "SIDECAR_TRUSTED_PROXIES": "10.0.0.0/8,fd00::/8",
        },
        {},
    )
    assert settings.region == "eu-west-1"
    assert settings.client_ids == ("web", "m2m")
    assert settings.hosts == {"app.example", "b.example"}
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]


def test_a_region_of_its_own_goes_before_the_default_region() -> None:
    settings = read_settings({**LEAST, "AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-1"}, {})
    assert settings.region == "eu-west-2"


@pytest.mark.parametrize("service", ["SIDECAR", "SIDECAR_LISTEN", "SIDECAR_METRICS_V2"])
def test_kubernetes_service_variables_are_no_settings(service: str) -> None:
    """Those of a Service `sidecar`, `sidecar-listen` or `sidecar-metrics-v2`."""
    told = {
        "SERVICE_HOST": "10.1.1.1", "SERVICE_PORT": "80", "SERVICE_PORT_HTTP": "80", "PORT": "tcp://10.1.1.1:80",
        "PORT_80_TCP": "tcp://10.1.1.1:80", "PORT_80_TCP_PROTO": "tcp", "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": "10.1.1.1",
    }  # fmt: skip
    environ = {f"{service}_{name}": value for name, value in told.items()}
    assert read_settings({**LEAST, **environ}, {}).listen.port == 8080


@pytest.mark.parametrize(
    ("name", "value"), [("SIDECAR_LISTEN_PORT", "8080"), ("SIDECAR_PORT", "8080"), ("SIDECAR_SERVICE_PORT", "web"), ("SIDECAR_PORTS", "tcp://10.1.1.1:80")]
)  # fmt: skip
def test_what_only_looks_like_one_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: unknown setting"):
        read_settings({**LEAST, name: value}, {})


POOL = {"AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_AbC", "AWS_COGNITO_CLIENT_ID": "web"}
SECRET = SESSION_SECRET
SIGN_IN = {**POOL, "SIDECAR_SESSION_SECRET": SECRET, "AWS_COGNITO_DOMAIN": "contacts", "SIDECAR_HOSTS": "app.example"}


def test_a_domain_enables_the_hosted_ui_and_the_one_host_tells_its_callback() -> None:
    settings = read_settings({**LEAST, **SIGN_IN}, {})
    assert settings.login_modes == {"hosted"}
    assert settings.callback == "https://app.example/_sidecar/callback"
    assert read_settings({**LEAST, **POOL}, {}).login_modes == frozenset()
    both = read_settings({**LEAST, **SIGN_IN, "SIDECAR_LOGIN": "both"}, {})
    assert both.login_modes == {"hosted", "password"}


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({**SIGN_IN, "SIDECAR_SESSION_SECRET": ""}, "SIDECAR_SESSION_SECRET"),
        ({**SIGN_IN, "AWS_COGNITO_DOMAIN": "", "SIDECAR_LOGIN": "hosted"}, "AWS_COGNITO_DOMAIN"),
        (
            {**SIGN_IN, "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": "https://app.example/x"},
            "AWS_COGNITO_HOSTED_UI_CALLBACK_URL",
        ),
        (
            {**SIGN_IN, "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": "http://app.example/_sidecar/callback"},
            "AWS_COGNITO_HOSTED_UI_CALLBACK_URL",
        ),
        ({**SIGN_IN, "SIDECAR_SESSION_SECRET": "short"}, "SIDECAR_SESSION_SECRET"),
        ({**SIGN_IN, "SIDECAR_REDIS_URL": "http://redis"}, "SIDECAR_REDIS_URL"),
    ],
)
def test_a_sign_in_that_cannot_work_is_refused_at_start(environ: dict[str, str], name: str) -> None:
    found = problems(environ)
    assert [problem.partition(":")[0] for problem in found] == [name]
    assert SECRET not in str(found)
    assert "short" not in str(found)


@pytest.mark.parametrize("text", ["no-password", ":password", "user:", "user:pass word", "user:päss"])
def test_admin_credentials_are_a_user_and_a_password(text: str) -> None:
    (problem,) = problems({"SIDECAR_CERBOS_ADMIN": text})
    assert problem.startswith("SIDECAR_CERBOS_ADMIN: expected user:password")
    assert text not in problem.removeprefix("SIDECAR_CERBOS_ADMIN: expected user:password")
    assert read_settings({**LEAST, "SIDECAR_CERBOS_ADMIN": "authz:a:b"}, {}).cerbos_admin == "authz:a:b"


ALB = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"


def test_load_balancers_are_listed_by_their_arns() -> None:
    gov = ALB.replace("arn:aws:", "arn:aws-us-gov:").replace("eu-west-1", "us-gov-west-1")
    assert read_settings({**LEAST, "SIDECAR_ALB_SIGNER": f"{ALB}, {gov}"}, {}).alb_signers == (ALB, gov)
    assert read_settings(LEAST, {}).alb_signers == ()


@pytest.mark.parametrize(
    "arn",
    [
        "web", f"x{ALB}", f"{ALB}/x", ALB.replace("eu-west-1", "evil.example/x"), ALB.replace("eu-west-1", ""),
        ALB.replace("arn:aws:", "arn:evil:"), ALB.replace("/app/", "/net/"), ALB.replace("123456789012", "*"),
        ALB.replace("elasticloadbalancing", "iam"), f"{ALB},web", ALB.replace("web", "*"),
    ],
)  # fmt: skip
def test_what_is_no_load_balancers_arn_is_refused(arn: str) -> None:
    (found,) = problems({"SIDECAR_ALB_SIGNER": arn})
    assert found.startswith("SIDECAR_ALB_SIGNER: ")


def test_envoy_is_answered_where_a_setting_says_so() -> None:
    assert read_settings(LEAST, {}).ext_authz_listen is None
    environ = {**LEAST, "SIDECAR_EXT_AUTHZ_LISTEN": "unix:/run/sidecar/envoy.sock"}
    assert read_settings(environ, {}).ext_authz_listen == Address("", 0, "/run/sidecar/envoy.sock")


@pytest.mark.parametrize(
    "target",
    [
        "authzen+https://pdp.example", "authzen+https://pdp.example:8443/stores/01J/", "authzen+http://127.0.0.1:3592",
        "authzen+http://localhost:3592", "authzen+http://[::1]:3592", "authzen+unix:/run/pdp/http.sock",
    ],
)  # fmt: skip
def test_a_pdp_is_named_by_its_url(target: str) -> None:
    assert read_settings({**LEAST, "SIDECAR_PDP": target}, {}).pdp == target


@pytest.mark.parametrize(
    "target",
    [
        "https://pdp.example", "authzen+http://pdp.example", "authzen+http://10.0.0.7:3592", "authzen+http://127.0.0.1.evil.example",
        "authzen+ftp://pdp.example", "authzen+https://user:pass@pdp.example", "authzen+https://pdp.example/a?b=c",
        "authzen+https://pdp.example/a#b", "authzen+https://pdp.example/../x", "authzen+https://pdp.example//x",
        "authzen+https://pdp.example/a b", "authzen+https://pdp.example/\r\nx: y", "authzen+https://", "authzen+unix:run",
    ],
)  # fmt: skip
def test_what_is_no_pdp_or_could_be_answered_for_by_somebody_else_is_refused(target: str) -> None:
    (found,) = problems({"SIDECAR_PDP": target})
    assert found.startswith("SIDECAR_PDP: ")


def test_a_pdp_and_a_cerbos_of_the_users_own_contradict_each_other() -> None:
    (found,) = problems({"SIDECAR_PDP": "authzen+https://pdp.example", "SIDECAR_CERBOS": "127.0.0.1:3593"})
    assert found == "SIDECAR_CERBOS: found 127.0.0.1:3593, expected it unset: SIDECAR_PDP is asked in its place"


@pytest.mark.parametrize("token", ["a b", "a\r\nb", "ä", "a,b", "="])
def test_a_pdps_token_is_one_and_never_shown(token: str) -> None:
    (found,) = problems({"SIDECAR_PDP": "authzen+https://pdp.example", "SIDECAR_PDP_TOKEN": token})
    assert found.startswith("SIDECAR_PDP_TOKEN: expected")


@pytest.mark.parametrize("name", ["", "roles", "cerbos.roles", "urn:example:roles"])
def test_the_property_of_the_roles_is_a_name(name: str) -> None:
    environ = {"SIDECAR_PDP": "authzen+https://pdp.example"}
    assert read_settings({**LEAST, **environ, "SIDECAR_PDP_ROLES": name}, {}).pdp_roles == name
    assert problems({**environ, "SIDECAR_PDP_ROLES": '"'})


def test_what_belongs_to_a_pdp_is_not_set_without_one() -> None:
    found = problems({"SIDECAR_PDP_TOKEN": "t0ken", "SIDECAR_PDP_CA": "/ca.pem", "SIDECAR_PDP_ROLES": "roles"})
    assert [problem.partition(":")[0] for problem in found] == [
        "SIDECAR_PDP_TOKEN", "SIDECAR_PDP_CA", "SIDECAR_PDP_ROLES",
    ]  # fmt: skip
    assert "t0ken" not in str(found)


CERBOS_TLS = {"SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_CERBOS_TLS": "on"}


@pytest.mark.parametrize("cerbos", ["cerbos:3593", "10.0.0.7:3593", "[fd00::1]:3593", "localhost.example:3593"])
def test_a_cerbos_elsewhere_is_not_asked_in_plain_text_unless_that_is_said(cerbos: str) -> None:
    (problem,) = problems({"SIDECAR_CERBOS": cerbos})
    assert problem.startswith(f"SIDECAR_CERBOS: found {cerbos}, which is not on this machine, without TLS")
    assert not read_settings({**LEAST, "SIDECAR_CERBOS": cerbos, "SIDECAR_CERBOS_TLS": "plaintext"}, {}).cerbos_by_tls
    for tls in ({"SIDECAR_CERBOS_TLS": "on"}, {"SIDECAR_CERBOS_CA": "/ca.pem"}):
        assert read_settings({**LEAST, "SIDECAR_CERBOS": cerbos, **tls}, {}).cerbos_by_tls


@pytest.mark.parametrize(
    "cerbos", ["127.0.0.1:3593", "localhost:3593", "[::1]:3593", "unix:/run/cerbos.sock", "embedded"]
)
def test_a_cerbos_on_this_machine_may_be_asked_in_plain_text(cerbos: str) -> None:
    assert not read_settings({**LEAST, "SIDECAR_CERBOS": cerbos}, {}).cerbos_by_tls


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SIDECAR_CERBOS_CA": "/ca.pem"}, "SIDECAR_CERBOS_CA: found it for embedded"),
        ({"SIDECAR_CERBOS_TLS": "on"}, "SIDECAR_CERBOS_TLS: found it for embedded"),
        ({**CERBOS_TLS, "SIDECAR_CERBOS": "unix:/x"}, "SIDECAR_CERBOS_TLS: found it for unix:/x"),
        ({**CERBOS_TLS, "SIDECAR_CERBOS_KEY": "/key.pem"}, "SIDECAR_CERBOS_CERTIFICATE, SIDECAR_CERBOS_KEY: found one"),
        (
            {**CERBOS_TLS, "SIDECAR_CERBOS_TLS": "plaintext", "SIDECAR_CERBOS_CA": "/c"},
            "SIDECAR_CERBOS_CA: found it without",
        ),
        ({"SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_CERBOS_KEY": "/k"}, "SIDECAR_CERBOS_KEY: found it without TLS"),
        (
            {**CERBOS_TLS, "SIDECAR_CERBOS_TLS": "yes"},
            "SIDECAR_CERBOS_TLS: found 'yes', expected auto or on or plaintext",
        ),
    ],
)
def test_settings_of_tls_to_cerbos_that_contradict_each_other(environ: dict[str, str], said: str) -> None:
    (problem,) = problems(environ)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SIDECAR_UPSTREAM_KEY": "/k"}, "SIDECAR_UPSTREAM_CERTIFICATE, SIDECAR_UPSTREAM_KEY: found one of them"),
        ({"SIDECAR_UPSTREAM_SERVER_NAME": "app"}, "SIDECAR_UPSTREAM_SERVER_NAME: found it for http://127.0.0.1:"),
        (
            {"SIDECAR_UPSTREAM": "unix:/a", "SIDECAR_UPSTREAM_CERTIFICATE": "/c", "SIDECAR_UPSTREAM_KEY": "/k"},
            "SIDECAR_UPSTREAM_CERTIFICATE, SIDECAR_UPSTREAM_KEY: found it for unix:/a, expected it for an https upstream",
        ),
    ],
)
def test_settings_of_tls_to_the_app_that_contradict_each_other(environ: dict[str, str], said: str) -> None:
    (problem,) = problems(environ)
    assert problem.startswith(said)


@pytest.mark.parametrize("text", ["/logout", "logout", "/", "/a//b", "/../x", "/a?b"])
def test_sign_out_paths_are_plain_paths_beside_a_sign_in(text: str) -> None:
    with pytest.raises(SettingsError, match="SIDECAR_LOGOUT_PATHS: found"):
        read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_LOGOUT_PATHS": text}, {})


def test_blanks_around_a_secret_are_left_out_and_told() -> None:
    secret = "q7RZ0mVd2kXw9LsB4tYhN6pGcJ8uEoTf"
    read = understand({**LEAST, "SIDECAR_SESSION_SECRET": f" {secret}\r\n", "SIDECAR_PDP_TOKEN": ""}, {})
    assert read.settings.session_secrets == (secret,)
    (warning,) = read.warnings
    assert warning.startswith("SIDECAR_SESSION_SECRET: found blanks or line ends around the secret")
    assert secret not in warning
    assert understand({**LEAST, "SIDECAR_SESSION_SECRET": secret}, {}).warnings == ()


@pytest.mark.parametrize("hosts", ["*.example.com", "a.example,b.example"])
def test_a_pattern_and_a_list_of_hosts_tell_no_one_callback(hosts: str) -> None:
    assert read_settings({**LEAST, **SIGN_IN, "SIDECAR_HOSTS": hosts}, {}).callback == ""


def test_each_host_may_have_a_callback_of_its_own() -> None:
    urls = [f"https://{host}.example/_sidecar/callback" for host in "ab"]
    listed = {**LEAST, **SIGN_IN, "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": ", ".join(urls)}
    assert read_settings(listed, {}).callback_urls == tuple(urls)
    listed["AWS_COGNITO_HOSTED_UI_CALLBACK_URL"] += ",https://c.example/x"
    assert "found 'https://c.example/x', expected one that ends in" in "".join(understand(listed, {}).problems)


@pytest.mark.parametrize(
    ("environ", "doubtful"),
    [
        ({}, set()),
        ({"SIDECAR_HELD_MEMORY": "much"}, {"SIDECAR_HELD_MEMORY"}),
        ({"SIDECAR_FORWARD_AUTH": "nginx"}, {"SIDECAR_TRUSTED_PROXIES"}),
        ({"SIDECAR_UPSTREAM_KEY": "k.pem"}, {"SIDECAR_UPSTREAM_CERTIFICATE", "SIDECAR_UPSTREAM_KEY"}),
        ({"SIDECAR_ISUER": "https://idp"}, {"SIDECAR_ISSUER"}),
        ({"SIDECAR_NONSENSE_AT_ALL": "1"}, set()),
    ],
)
def test_problems_tell_by_variable_what_they_are_about(environ: dict[str, str], doubtful: set[str]) -> None:
    read = understand({"SIDECAR_UPSTREAM": "http://127.0.0.1:1", **environ}, {})
    assert read.doubtful == doubtful
    assert bool(read.problems) == bool(environ)
    assert all(not read.sure("SIDECAR_CONSOLE", name) for name in doubtful)
    assert read.sure("SIDECAR_CONSOLE")


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXYS": "10.0.0.0/8"},
            ["SIDECAR_TRUSTED_PROXYS: unknown setting, did you mean 'SIDECAR_TRUSTED_PROXIES'? It is required: not set, "
             "expected the addresses of the proxy of SIDECAR_FORWARD_AUTH"],
        ),
        (
            {"SIDECAR_PDPS": "authzen+https://pdp.test", "SIDECAR_PDP_TOKEN": "x7Gq", "SIDECAR_PDP_CA": "ca.pem"},
            ["SIDECAR_PDPS: unknown setting, did you mean 'SIDECAR_PDP'? Without it: SIDECAR_PDP_TOKEN: found it without "
             "SIDECAR_PDP, expected both or none; SIDECAR_PDP_CA: found it without SIDECAR_PDP, expected both or none"],
        ),
        (
            {"SIDECAR_TLS_KEYS": "key.pem", "SIDECAR_TLS_CERTIFICATE": "certificate.pem"},
            ["SIDECAR_TLS_KEYS: unknown setting, did you mean 'SIDECAR_TLS_KEY'? Without it: SIDECAR_TLS_CERTIFICATE, "
             "SIDECAR_TLS_KEY: found one of them, expected both or none"],
        ),
        (
            # of two spellings the first
            {"SIDECAR_ISSUER": "https://idp", "AWS_COGNITO_CLIENT_ID": "c", "SIDECAR_JWKSURL": "", "SIDECAR_JWKS_URLS": ""},
            ["SIDECAR_JWKSURL: unknown setting, did you mean 'SIDECAR_JWKS_URL'? It is required: not set, expected the key "
             "URL of SIDECAR_ISSUER", "SIDECAR_JWKS_URLS: unknown setting, did you mean 'SIDECAR_JWKS_URL'?"],
        ),
        (
            # one that is set is another matter
            {"SIDECAR_WORKERS": "0", "SIDECAR_WORKERSS": "4"},
            ["SIDECAR_WORKERSS: unknown setting, did you mean 'SIDECAR_WORKERS'?",
             "SIDECAR_WORKERS: found '0', expected a whole number from 1 to 64"],
        ),
    ],
)  # fmt: skip
def test_what_a_misspelt_setting_is_needed_for_is_told_once(environ: dict[str, str], told: list[str]) -> None:
    assert problems(environ) == told


def test_what_is_wrong_with_several_settings_does_not_come_of_a_misspelt_one() -> None:
    """But that it is missing does."""
    environ = {"SIDECAR_UPSTREAM_KE": "x", "SIDECAR_UPSTREAM": "https://app", "SIDECAR_UPSTREAM_CERTIFICATE": "c.pem"}
    read = understand(environ, {})
    (unknown,) = read.problems
    assert unknown.endswith(
        "Without it: SIDECAR_UPSTREAM_CERTIFICATE, SIDECAR_UPSTREAM_KEY: found one of them, expected both or none"
    )
    several = "SIDECAR_UPSTREAM_CERTIFICATE, SIDECAR_UPSTREAM_KEY: expected PEM files: odd"
    assert read.once([unknown, several]) == [unknown, several]


def test_each_setting_that_is_told_as_missing_is_told_once_where_it_is_misspelt() -> None:
    """Whoever tells of it later: what is told twice is one more effect, told once."""
    for setting in SETTINGS:
        misspelt = f"SIDECAR_{setting.variable.removeprefix('SIDECAR_')}S"
        read = understand({misspelt: "x"}, {})
        (unknown,) = read.problems
        assert unknown.startswith(f"{misspelt}: unknown setting, did you mean '{setting.variable}'?")
        missing = f"{setting.variable}: not set, expected it"
        once = f"{unknown} It is required: not set, expected it"
        assert read.once([unknown, "other: wrong", missing, missing]) == [once, "other: wrong"]
        assert read.once([once, "other: wrong", missing]) == [once, "other: wrong"]
        assert read.once([missing]) == [missing]
