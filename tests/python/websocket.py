"""A WebSocket server and, through the edge, its clients.

Says where the server listens; is told the edge's address and a token; says
what came of the conversations, one line each.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # The edge cut it: what is asked here is what its client sees.


def say(text):
    print(text, flush=True)


async def converse(url, headers):
    # Uncompressed, so that the edge has as many bytes to count.
    options = {"additional_headers": headers, "max_size": None, "compression": None}
    async with connect(url, **options) as connection:
        for message in ["text", b"binary", "", b"\0" * (1 << 20)]:
            await connection.send(message)
            assert await connection.recv() == message
        await (await connection.ping())
        await connection.close(4000, "done")
    say(f"closed {connection.close_code} {connection.close_reason}")


async def wait_for_the_end(url, headers):
    options = {"additional_headers": headers, "ping_interval": None, "compression": None}
    async with connect(url, **options) as connection:
        await connection.send("still here")
        assert await connection.recv() == "still here"
        say("open")
        try:
            await connection.recv()
        except ConnectionClosed:
            say(f"cut {connection.close_code}")


async def refused(url, headers):
    try:
        async with connect(url, additional_headers=headers):
            say("admitted")
    except InvalidStatus as error:
        say(f"refused {error.response.status_code}")


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        say(server.sockets[0].getsockname()[1])
        edge, token = sys.stdin.readline().split()
        url = f"ws://{edge}/chat"
        headers = {"X-API-Key": token}
        await converse(url, headers)
        await wait_for_the_end(url, headers)
        await refused(url, headers)


if __name__ == "__main__":
    asyncio.run(main())
