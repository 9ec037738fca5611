"""The proxy and the certificates that the environment names."""

from pathlib import Path

import pytest
import trustme

from gemini_batch.config.network import (
    Proxy,
    ca_paths,
    proxy_for,
    proxy_passwords,
    trusted_certificates,
)
from gemini_batch.errors import ConfigError

GOOGLE = "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (GOOGLE, {}, None),
        (GOOGLE, {"HTTPS_PROXY": "http://proxy:3128"}, Proxy("http://proxy:3128", "HTTPS_PROXY")),
        (GOOGLE, {"https_proxy": "proxy:3128"}, Proxy("http://proxy:3128", "https_proxy")),
        (
            GOOGLE,
            {"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"},
            Proxy("http://lower:1", "https_proxy"),
        ),
        (GOOGLE, {"ALL_PROXY": "https://proxy"}, Proxy("https://proxy", "ALL_PROXY")),
        (GOOGLE, {"HTTP_PROXY": "http://proxy:1"}, None),
        ("http://x.test", {"HTTP_PROXY": "http://p:1"}, Proxy("http://p:1", "HTTP_PROXY")),
        ("http://x.test", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        (
            GOOGLE,
            {"HTTPS_PROXY": "http://me:p%40ss%3A@[::1]:3128"},
            Proxy("http://[::1]:3128", "HTTPS_PROXY", "me", "p@ss:"),
        ),
        (GOOGLE, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.test,.googleapis.com"}, None),
        (GOOGLE, {"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, None),
        (
            GOOGLE,
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "apis.com"},
            Proxy("http://p:1", "HTTPS_PROXY"),
        ),
        ("https://x.test:8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x.test:8443"}, None),
        ("https://127.0.0.1:8080", {"HTTPS_PROXY": "http://p:1"}, None),
        ("http://[::1]:80", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://localhost", {"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_the_proxy_of_a_target(
    url: str, environment: dict[str, str], expected: Proxy | None
) -> None:
    """The variable of the target's scheme counts, not for this machine, and not for what NO_PROXY names."""
    assert proxy_for(url, environment) == expected


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("socks5://me:s3cret@proxy:1080", "HTTPS_PROXY: is a socks5:// proxy; allowed: "),
        ("http://me:s3cret@proxy:port", "HTTPS_PROXY: is not an address; allowed: "),
        ("http://me:s3cret@", "HTTPS_PROXY: is not an address; allowed: "),
    ],
)
def test_a_proxy_that_cant_be_used_is_refused(value: str, said: str) -> None:
    """The message names the variable and an example, and has no credentials."""
    with pytest.raises(ConfigError) as caught:
        proxy_for(GOOGLE, {"HTTPS_PROXY": value})

    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_credentials_of_a_proxy_are_not_printed() -> None:
    """Neither its host for messages nor its text has the password."""
    proxy = proxy_for(GOOGLE, {"HTTPS_PROXY": "http://me:s3cret@proxy:3128"})

    assert proxy is not None
    assert proxy.host == "proxy:3128"
    assert "s3cret" not in repr(proxy)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"https_proxy": "http://me:p%40ssword@p:1"}, ["me:p%40ssword", "me:p@ssword"]),
        ({"HTTP_PROXY": "me:s3cret-1@p:1"}, ["me:s3cret-1"]),
        ({"http_proxy": "socks5://me:s3cret-1@p:port"}, ["me:s3cret-1"]),
        ({"ALL_PROXY": "http://me:s3c@ret-1@p"}, ["me:s3c@ret-1"]),
        ({"all_proxy": "http://me:x@p"}, ["me:x"]),
        ({"HTTPS_PROXY": "http://token@p", "https_proxy": "http://p"}, ["token"]),
        ({"HTTPS_PROXY": "http://@p", "NO_PROXY": "a:b@c"}, []),
    ],
)
def test_the_passwords_of_all_proxies_are_known(
    environment: dict[str, str], expected: list[str]
) -> None:
    """In each variable, in lower and upper case, used or not, as written and decoded."""
    alone = [each.partition(":")[2] for each in expected if len(each.partition(":")[2]) > 5]
    assert proxy_passwords(environment) == [*expected, *alone]


def test_all_certificates_that_are_named_are_trusted(tmp_path: Path) -> None:
    """Those of each variable, and those of the system as well."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    authorities = {name: trustme.CA(organization_name=name) for name in names}
    environment = {name: str(tmp_path / name) for name in names}
    for name, authority in authorities.items():
        authority.cert_pem.write_to_path(environment[name])

    context = trusted_certificates({**environment, "SSL_CERT_DIR": str(tmp_path)})

    assert context is not None
    trusted = str(context.get_ca_certs())
    assert all(name in trusted for name in names)
    assert context.check_hostname
    assert trusted_certificates({"SSL_CERT_FILE": " "}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file or directory"),
        ("", "has no certificates"),
        ("x", "has no certificates"),
    ],
)
def test_a_file_without_certificates_is_refused(
    tmp_path: Path, text: str | None, said: str
) -> None:
    """The message names the variable and the file."""
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=rf"^REQUESTS_CA_BUNDLE: {path}: {said}; allowed: "):
        trusted_certificates({"REQUESTS_CA_BUNDLE": str(path)})


def test_a_variable_may_name_several_folders() -> None:
    """SSL_CERT_DIR is a list, as for OpenSSL; an empty variable names nothing."""
    found = ca_paths({"SSL_CERT_DIR": "/a:/b", "SSL_CERT_FILE": " ", "REQUESTS_CA_BUNDLE": "/c"})

    assert [(name, str(path)) for name, path in found] == [
        ("SSL_CERT_DIR", "/a"),
        ("SSL_CERT_DIR", "/b"),
        ("REQUESTS_CA_BUNDLE", "/c"),
    ]
