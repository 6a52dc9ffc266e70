"""An echo server on the `websockets` package of Python, as its documentation shows one.

Says `listening on 127.0.0.1:PORT`, then serves until it is killed. Its limit of message size is off,
for messages of 16 MiB are sent to it.
"""

import asyncio
import logging

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main():
    # What peers do wrong is the business of those who run the cases.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        _, port = server.sockets[0].getsockname()
        print(f"listening on 127.0.0.1:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
