"""Checks the echo server with the `websockets` package of Python.

    python python_websockets.py ws://HOST:PORT/

Answers for what an application of `websockets` sees; the wire is Autobahn's business. Each check has
a connection and a time limit of its own, so that one failure cannot hide or cause another. Prints
one line per check and a closing count; status 0 only if all passed.
"""

import asyncio
import random
import sys

from websockets.asyncio.client import connect

CHECK_SECONDS_MAX = 20
# Both sides of each change of the length field (RFC 6455 §5.2), an empty message, and one far
# larger than any single read.
MESSAGE_BYTES = [0, 125, 126, 65_535, 65_536, 1_048_576]
# One to four bytes per character in UTF-8.
MULTI_BYTE_TEXT = "aßह€𝄞 – čeština, 日本語, 👩‍🚀"
# Less than a check may last, so that a failed check reports its own error and not a late close.
CLOSE_SECONDS_MAX = 5


async def main(url):
    failed = 0
    for name, check in CHECKS:
        try:
            await asyncio.wait_for(run_check(url, check), CHECK_SECONDS_MAX)
            print(f"ok      {name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {name}: {describe(error)}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


async def run_check(url, check):
    async with open_connection(url) as peer:
        await check(peer)
        if peer.close_code is None:
            await expect_nothing_else(peer)


def open_connection(url):
    # Keepalive pings are off, for they would answer for the checks of ping and pong.
    return connect(url, proxy=None, ping_interval=None, max_size=2 * 1_048_576, close_timeout=CLOSE_SECONDS_MAX)


async def echoes(peer, message):
    await peer.send(message)
    await expect(peer, message)


async def expect(peer, message):
    answer = await peer.recv()
    assert type(answer) is type(message), f"{type(message).__name__} came back as {type(answer).__name__}"
    assert len(answer) == len(message), f"{len(answer)} came back instead of {len(message)}"
    assert answer == message, "another content of the same length came back"


async def expect_nothing_else(peer):
    # An echo server says nothing of its own accord. One more message, which must be the next to come
    # back, finds what came before it without waiting for something that does not happen.
    await peer.send("nothing else?")
    assert await peer.recv() == "nothing else?", "a message too many came back"


async def opens_plainly(peer):
    assert peer.response.status_code == 101
    assert peer.subprotocol is None, f"subprotocol {peer.subprotocol}"


async def echoes_text(peer):
    await echoes(peer, "Hello, longwire")


async def echoes_binary(peer):
    await echoes(peer, bytes(range(256)))


def echoes_bytes(length):
    async def check(peer):
        # Without a pattern, so that compression, if agreed on, does not shrink it; seeded, so that
        # each run sends the same.
        await echoes(peer, random.Random(length).randbytes(length))

    return check


async def echoes_empty_text(peer):
    await echoes(peer, "")


async def echoes_multi_byte_text(peer):
    await echoes(peer, MULTI_BYTE_TEXT)


async def echoes_long_multi_byte_text(peer):
    # Three bytes each, so that reads of any even size cut characters apart.
    await echoes(peer, "€" * (1_048_576 // 3))


async def echoes_fragments(peer):
    words = [MULTI_BYTE_TEXT, "", " and ", MULTI_BYTE_TEXT]
    await peer.send(words)
    await expect(peer, "".join(words))


async def keeps_order(peer):
    # Sent and received at once: neither side may rely on the other's buffers being endless.
    sending = asyncio.create_task(send_all(peer, 1000))
    for number in range(1000):
        await expect(peer, f"message {number}")
    await sending


async def send_all(peer, count):
    for number in range(count):
        await peer.send(f"message {number}")


async def answers_ping(peer):
    for payload in (b"", b"are you there?", b"p" * 125):
        pong = await peer.ping(payload)
        await pong


async def ignores_pong(peer):
    await peer.pong(b"nobody asked")
    await echoes(peer, "still here")


async def returns_code_and_reason(peer):
    await peer.close(4321, "goodbye – 再见")
    assert peer.close_code == 4321, f"code {peer.close_code}"
    assert peer.close_reason == "goodbye – 再见", f"reason {peer.close_reason!r}"


async def returns_normal_close(peer):
    await peer.close()
    assert peer.close_code == 1000, f"code {peer.close_code}"
    assert peer.close_reason == "", f"reason {peer.close_reason!r}"


async def keeps_connections_apart(first):
    url = f"ws://{first.request.headers['Host']}/"
    peers = await asyncio.gather(*(open_connection(url) for _ in range(50)))
    try:
        for turn in range(20):
            await asyncio.gather(*(peer.send(f"{index}: {turn}") for index, peer in enumerate(peers)))
        for turn in range(20):
            await asyncio.gather(*(expect(peer, f"{index}: {turn}") for index, peer in enumerate(peers)))
        await asyncio.gather(*(expect_nothing_else(peer) for peer in peers))
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))


def describe(error):
    if isinstance(error, asyncio.TimeoutError):
        return f"no result within {CHECK_SECONDS_MAX} s"
    return f"{type(error).__name__}: {error}".splitlines()[0]


CHECKS = [
    ("opens without a subprotocol nobody asked for", opens_plainly),
    ("echoes text as text", echoes_text),
    ("echoes binary as binary", echoes_binary),
    *((f"echoes {length} bytes of binary", echoes_bytes(length)) for length in MESSAGE_BYTES),
    ("echoes empty text", echoes_empty_text),
    ("echoes multi-byte text", echoes_multi_byte_text),
    ("echoes 1 MiB of multi-byte text", echoes_long_multi_byte_text),
    ("echoes a message sent in fragments", echoes_fragments),
    ("keeps the order of 1000 pipelined messages", keeps_order),
    ("answers a ping with its payload", answers_ping),
    ("ignores an unsolicited pong", ignores_pong),
    ("returns close code and reason", returns_code_and_reason),
    ("returns a normal close", returns_normal_close),
    ("keeps 50 connections apart", keeps_connections_apart),
]

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python_websockets.py ws://HOST:PORT/")
    sys.exit(asyncio.run(main(sys.argv[1])))
