import pytest

from gemini_batch.client.addresses import is_loopback_host, is_public

PUBLIC = (
    "8.8.8.8",
    "142.250.180.10",
    "172.15.255.255",
    "172.32.0.1",
    "192.167.255.255",
    "100.63.255.255",
    "2a00:1450:4001:82a::200a",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
)
NOT_PUBLIC = {
    "private, class A": "10.0.0.1",
    "private, class B": "172.16.0.1",
    "private, end of class B": "172.31.255.255",
    "private, class C": "192.168.1.1",
    "loopback": "127.0.0.1",
    "loopback, not the first": "127.255.0.9",
    "link-local: metadata of a cloud": "169.254.169.254",
    "carrier-grade NAT, and metadata of a cloud": "100.100.100.200",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "broadcast": "255.255.255.255",
    "multicast": "224.0.0.251",
    "multicast that is routed": "233.252.0.1",
    "reserved": "240.0.0.1",
    "documentation": "203.0.113.7",
    "benchmarks": "198.18.0.1",
    "protocol assignments": "192.0.0.8",
    "metadata of another cloud": "192.0.0.192",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with its zone": "fe80::1%eth0",
    "IPv6 site-local": "fec0::1",
    "IPv6 private": "fd12:3456:789a::1",
    "metadata of a cloud in IPv6": "fd00:ec2::254",
    "IPv6 multicast": "ff0e::101",
    "IPv6 documentation": "2001:db8::1",
    "IPv6 documentation, the newer": "3fff::1",
    "IPv6 discard": "100::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "not assigned": "4000::1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped private": "::ffff:10.1.2.3",
    "mapped link-local, in hex": "::ffff:a9fe:a9fe",
    "compatible loopback": "::7f00:1",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of private": "64:ff9b::a00:1",
    "NAT64 of link-local": "64:ff9b::a9fe:a9fe",
    "NAT64 for local use": "64:ff9b:1::808:808",
    "6to4 of private": "2002:a00:1::1",
    "6to4 of loopback": "2002:7f00:1::1",
    "6to4 of link-local": "2002:a9fe:a9fe::1",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_fetched_from(address: str) -> None:
    """An address of the public internet counts as one, also inside an IPv6 address."""
    assert is_public(address)


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_no_other_address_may_be_fetched_from(name: str) -> None:
    """An address of this machine, its network or none at all is not public, in any spelling."""
    assert not is_public(NOT_PUBLIC[name])


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("api.test", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_a_base_url_on_this_machine_is_known_by_its_host(host: str, *, is_local: bool) -> None:
    """Only a loopback address or `localhost` counts; a name that may resolve to one does not."""
    assert is_loopback_host(host) == is_local
