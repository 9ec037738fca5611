"""The targets that NO_PROXY names, as curl 7.86 and Requests read it."""

import pytest

from gemini_batch.config.network import Proxy, proxy_for

NAME, V4, V6 = "https://api.x.test/v1beta", "https://10.1.2.3:8443", "https://[fd00::1]:8443"


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        # Names, and all names below them.
        (NAME, "api.x.test"),
        (NAME, "x.test"),
        (NAME, ".x.test"),
        (NAME, "*.x.test"),
        (NAME, "test"),
        (NAME, "X.Test."),
        (NAME, "a.test, x.test"),
        (NAME, "a.test x.test"),
        (NAME, " a.test ,,x.test, "),
        ("https://API.X.TEST./", "x.test"),
        ("https://x.test", ".x.test"),
        # Ports, also those of the scheme.
        (NAME, "x.test:443"),
        ("http://x.test", "x.test:80"),
        ("https://x.test:8443", ".x.test:8443"),
        ("https://x.test:8443", "x.test:443,x.test:8443"),
        (V4, "10.1.2.3:8443"),
        (V4, "10.0.0.0/8:8443"),
        (V6, "[fd00::1]:8443"),
        # Everything.
        (NAME, "*"),
        (V4, "a.test,*"),
        (V6, " * "),
        # Addresses and networks.
        (V4, "10.1.2.3"),
        (V4, "10.0.0.0/8"),
        (V4, "10.9.9.9/8"),
        (V4, "10.0.0.0/255.0.0.0"),
        (V4, "10.1.2.3/32"),
        (V4, "0.0.0.0/0"),
        (V4, "192.168.0.0/16,10.0.0.0/8"),
        (V6, "fd00::1"),
        (V6, "[fd00::1]"),
        (V6, "FD00:0:0:0::1"),
        (V6, "fd00::/8"),
        (V6, "[fd00::/8]"),
        (V6, "fd00::1/128"),
        ("https://[fe80::1%25eth0]", "fe80::/10"),
        ("https://[::ffff:10.1.2.3]", "10.0.0.0/8"),
        ("https://[::ffff:10.1.2.3]", "::ffff:0:0/96"),
    ],
)
def test_targets_that_are_named(url: str, no_proxy: str) -> None:
    """A name, an address, a network or a star, with its port, is reached without the proxy."""
    assert proxy_for(url, {"ALL_PROXY": "http://p:1", "NO_PROXY": no_proxy}) is None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        (NAME, ""),
        (NAME, ","),
        (NAME, "."),
        (NAME, "*."),
        (NAME, "i.x.test"),
        (NAME, "api.x"),
        (NAME, "b.api.x.test"),
        ("https://badx.test", "*.x.test"),
        (NAME, "x.test:8443"),
        (NAME, "x.test:port"),
        ("http://x.test", "x.test:443"),
        (NAME, "10.0.0.0/8"),
        (V4, "11.0.0.0/8"),
        (V4, "10.0.0.0/33"),
        (V4, "10.0.0.0/"),
        (V4, "10.0.0.0/x"),
        (V4, "2.3"),
        (V4, ".3"),
        (V4, "10.1.2.3:443"),
        (V4, "::/0"),
        (V6, "0.0.0.0/0"),
        (V6, "fd01::/16"),
        (V6, "fd00::2"),
        (V6, "[fd00::1]:443"),
        (V6, "[fd00::1"),
        (V6, "fd00::/129"),
        ("https://2130706433", "127.0.0.0/8"),
    ],
)
def test_targets_that_are_not_named(url: str, no_proxy: str) -> None:
    """Part of a name or of an address, another port, and what can't be read name nothing."""
    expected = Proxy("http://p:1", "ALL_PROXY")
    assert proxy_for(url, {"ALL_PROXY": "http://p:1", "NO_PROXY": no_proxy}) == expected


@pytest.mark.parametrize(
    ("environment", "is_direct"),
    [
        ({"no_proxy": "x.test", "NO_PROXY": "a.test"}, True),
        ({"no_proxy": "a.test", "NO_PROXY": "x.test"}, False),
        ({"no_proxy": "", "NO_PROXY": "x.test"}, True),
    ],
)
def test_the_variable_in_lower_case_comes_first(
    environment: dict[str, str], *, is_direct: bool
) -> None:
    """Both spellings are read, as for curl; an empty one does not count."""
    found = proxy_for(NAME, {"https_proxy": "http://p:1", **environment})
    assert (found is None) == is_direct
