"""The least of an HTTP client: JSON calls over connections that are kept, as a general client would cost more than what is measured."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Calls:
    """Calls to one port of 127.0.0.1; as many connections as calls are under way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> Any:
        """Return what is there; see `post`."""
        return await self.post(path, method="GET")

    async def post(self, path: str, body: Any = None, *, method: str = "POST") -> Any:
        """Send a body as JSON; returns the answer's. Raises `OSError` if the answer is no success, or none comes."""
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self.port)
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}Content-Length: {len(sent)}\r\n\r\n"
        writer.write(head.encode() + sent)
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next((line[15:] for line in answer.split("\r\n") if line.startswith("content-length:")), None)
            if length is None:
                raise OSError(f"an answer without a length: {answer[:200]}")
            content = await reader.readexactly(int(length))
        except asyncio.IncompleteReadError as error:
            writer.close()
            raise OSError("the connection ended before the answer") from error
        self._free.append((reader, writer))
        if answer.split()[1][0] != "2":
            raise OSError(f"{answer.splitlines()[0]}: {content[:200]!r}")
        return json.loads(content) if content else None

    def close(self) -> None:
        """End all connections."""
        for _, writer in self._free:
            writer.close()
