"""Sockets that listen."""

from __future__ import annotations

import asyncio
import socket

from anowild.http.listening import listen


def test_answers_do_not_wait_for_acknowledgments() -> None:
    undelayed: list[int] = []

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        undelayed.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def connect() -> None:
        with listen("127.0.0.1", 0) as listening:
            server = await asyncio.start_server(connected, sock=listening)
            async with server:
                reader, writer = await asyncio.open_connection(*listening.getsockname())
                assert await reader.read() == b""
                writer.close()

    asyncio.run(connect())
    assert len(undelayed) == 1
    assert undelayed[0]
