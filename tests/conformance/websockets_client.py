"""Drives an echo server with the Python `websockets` client.

    python websockets_client.py URL [CA_FILE]

URL is the server's root, such as wss://localhost:8443. Prints one line a step and exits 0, or
raises and exits 1.
"""

import asyncio
import os
import ssl
import sys
import time

import websockets

BASE = sys.argv[1]
TLS = ssl.create_default_context(cafile=sys.argv[2]) if len(sys.argv) > 2 else None


def open_at(path, **options):
    return websockets.connect(BASE + path, ssl=TLS, max_size=None, **options)


async def echo(socket, payload):
    await socket.send(payload)
    assert await socket.recv() == payload, f"{len(payload)} came back different"


async def text_and_binary():
    async with open_at("/") as socket:
        for payload in ["", "hello", "héllo wörld ☃ 🌏", b"", b"\x00", os.urandom(65536)]:
            await echo(socket, payload)


async def compressed():
    async with open_at("/") as socket:
        names = [extension.name for extension in socket.protocol.extensions]
        assert names == ["permessage-deflate"], names
        for _ in range(3):
            await echo(socket, "antipode " * 50_000)


async def not_compressed():
    async with open_at("/", compression=None) as socket:
        assert socket.protocol.extensions == []
        await echo(socket, "plain")


async def one_mebibyte():
    async with open_at("/", compression=None) as socket:
        await echo(socket, os.urandom(1 << 20))


async def fragments():
    async with open_at("/", compression=None) as socket:
        parts = [f"part {n}, " for n in range(100)]
        await socket.send(parts)
        assert await socket.recv() == "".join(parts)


async def ping():
    async with open_at("/") as socket:
        await asyncio.wait_for(await socket.ping(), 10)


async def fifty_at_once():
    async def one(n):
        async with open_at("/") as socket:
            for turn in range(10):
                await echo(socket, f"{n} {turn}")

    await asyncio.gather(*(one(n) for n in range(50)))


async def close_by_client():
    socket = await open_at("/")
    await socket.close(4321, "client says bye")
    assert (socket.close_code, socket.close_reason) == (4321, "client says bye")


async def close_by_server():
    async with open_at("/close?code=4001&reason=server%20says%20bye") as socket:
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "server says bye")
        else:
            raise AssertionError("the server did not close")


STEPS = [
    text_and_binary,
    compressed,
    not_compressed,
    one_mebibyte,
    fragments,
    ping,
    fifty_at_once,
    close_by_client,
    close_by_server,
]


async def main():
    for step in STEPS:
        start = time.monotonic()
        await asyncio.wait_for(step(), 60)
        print(f"ok: {step.__name__} ({(time.monotonic() - start) * 1000:.0f} ms)", flush=True)


asyncio.run(main())
