"""NO_PROXY: the targets that are reached without the proxy. Pure."""

import ipaddress
import re
from urllib.parse import SplitResult

_DEFAULT_PORTS = {"http": 80, "https": 443}
# A name, an IPv4 address or network, or an IPv6 one in brackets; then a port.
_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^]]*)\]|(?P<plain>[^:]*))(?::(?P<port>[0-9]{1,5}))?")


def is_exempt(target: SplitResult, no_proxy: str) -> bool:
    """Return whether the value of NO_PROXY names this target; no name is looked up.

    Entries are separated by commas or white space, as for curl 7.86 and Requests: a name, which
    stands for all names below it too, with a dot in front or without; an address; a network such
    as `10.0.0.0/8`. Each may end with a port. As in Go, `*` is every target, and `*.` a dot.
    https://curl.se/docs/manpage.html#NOPROXY, https://pkg.go.dev/golang.org/x/net/http/httpproxy
    (2026-11-30)
    """
    host = (target.hostname or "").removesuffix(".")
    port = target.port or _DEFAULT_PORTS.get(target.scheme)
    return any(_names(entry, host, port) for entry in no_proxy.lower().replace(",", " ").split())


def _names(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name = entry
    if found := _WITH_PORT.fullmatch(entry):  # not an IPv6 address without brackets
        if found["port"] and int(found["port"]) != port:
            return False
        name = found["bracketed"] or found["plain"] or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = name.removeprefix("*").strip(".")
        return bool(domain) and f".{host}".endswith(f".{domain}")
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address) in network or address in network
