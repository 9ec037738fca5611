"""A bucket that costs next to nothing: it speaks enough of S3 for a run, keeps small objects, and forgets images.

With `piece_ms` a body is taken in slowly, so that uploads pile up.
"""

import asyncio
import hashlib
import re
import sys
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit

_KEPT_BYTES = 1 << 16
_objects: dict[str, tuple[bytes, str, str]] = {}


def _listed(prefix: str) -> bytes:
    entries = "".join(
        f"<Contents><Key>{name}</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{tag}&quot;</ETag><Size>{len(data)}</Size></Contents>"
        for name, (data, tag, _) in sorted(_objects.items())
        if name.startswith(prefix)
    )
    return (
        f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{entries}'
        "</ListBucketResult>"
    ).encode()


def _answered(
    method: str, target: str, head: str, body: bytes, size: int
) -> tuple[str, bytes, str]:
    parts = urlsplit(target)
    name = unquote(parts.path).partition("/")[2].partition("/")[2]
    note = "".join(re.findall(r"(?im)^x-amz-meta-.*\r\n", head))
    found = _objects.get(name)
    if method == "GET" and "list-type" in parts.query:
        return "200 OK", _listed(parse_qs(parts.query).get("prefix", [""])[0]), ""
    if method == "PUT":
        wanted = re.search(r'(?im)^if-match: *"?([^"\r\n]+)', head)
        is_new = re.search(r"(?im)^if-none-match:", head)
        if (found and is_new) or (wanted and (not found or found[1] != wanted[1])):
            return "412 Precondition Failed", b"<Error><Code>PreconditionFailed</Code></Error>", ""
        tag = hashlib.md5(body).hexdigest() if body else f"{size}-{len(_objects)}"
        _objects[name] = (body, tag, note)
        return "200 OK", b"", f'ETag: "{tag}"\r\n'
    if method == "DELETE":
        _objects.pop(name, None)
        return "204 No Content", b"", ""
    if found is None:
        return "404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>", ""
    return "200 OK", found[0], f'ETag: "{found[1]}"\r\n{found[2]}'


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pause_s = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            length = re.search(r"(?im)^content-length: *(\d+)", head)
            size = left = int(length[1]) if length else 0
            body = b""
            while left:
                piece = await reader.read(min(left, 1 << 18))
                if not piece:
                    return
                left -= len(piece)
                if size <= _KEPT_BYTES:
                    body += piece
                elif pause_s:
                    await asyncio.sleep(pause_s)
            status, answer, headers = _answered(method, target, head, body, size)
            date = formatdate(usegmt=True)
            writer.write(
                f"HTTP/1.1 {status}\r\nDate: {date}\r\nLast-Modified: {date}\r\n{headers}"
                f"Content-Length: {len(answer)}\r\n\r\n".encode()
                + answer
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until stdin closes; say on which port, in the first line of stdout."""
    listening = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1 << 20)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
