"""IP addresses that an image named by an answer may be fetched from. Pure.

A server chooses these URIs, so none of them may reach into the user's own network.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# IPv6 addresses that hold an IPv4 address (RFC 6052), next to those that the library unwraps.
_NAT64 = IPv6Network("64:ff9b::/96")
# All that is assigned for the public internet (RFC 4291).
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# Networks that the table of Python 3.11 lacks: documentation (RFC 9637), protocol assignments
# (RFC 6890), where a cloud has its metadata.
_DOCUMENTATION = IPv6Network("3fff::/20")
_ASSIGNMENTS = IPv4Network("192.0.0.0/24")


def is_public(address: str) -> bool:
    """Return whether an IP address, or the IPv4 address in it, is one of the public internet."""
    ip = _unwrapped(address)
    if isinstance(ip, IPv4Address):
        is_special = ip in _ASSIGNMENTS
    else:
        is_special = ip not in _GLOBAL_UNICAST or ip in _DOCUMENTATION
    return ip.is_global and not (is_special or ip.is_multicast or ip.is_reserved)


def is_loopback(address: str) -> bool:
    """Return whether an IP address, or the IPv4 address in it, is one of this machine."""
    return _unwrapped(address).is_loopback


def is_loopback_host(host: str) -> bool:
    """Return whether a host of a URL is `localhost` or a loopback address; no name is looked up."""
    try:
        return is_loopback(host)
    except ValueError:
        return host == "localhost"


def _unwrapped(address: str) -> IPv4Address | IPv6Address:
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
