"""Checks the echo server with the `websockets` package of Python.

    python python_websockets.py ws[s]://HOST:PORT/ none|deflate|takeover

The second argument says how the server compresses: not, each message by itself, or with context
takeover. Answers for what an application of `websockets` sees; the wire is Autobahn's business, but
for the count of bytes, which tells what was compressed. Each check has a connection and a time
limit of its own, so that one failure cannot hide or cause another. Prints one line per check and a
closing count; status 0 only if all passed.
"""

import asyncio
import random
import ssl
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

CHECK_SECONDS_MAX = 20
# Both sides of each change of the length field (RFC 6455 §5.2), an empty message, and one far
# larger than any single read.
MESSAGE_BYTES = [0, 1, 125, 126, 65_535, 65_536, 1_048_576]
# One to four bytes per character in UTF-8.
MULTI_BYTE_TEXT = "aßह€𝄞 – čeština, 日本語, 👩‍🚀"
# The largest message of the server (tests/server.sh).
MESSAGE_BYTES_MAX = 16_908_288
# The server knows both, and prefers the first (tests/run-clients).
PROTOCOLS = ["v2.echo.test", "v1.echo.test"]
ANSWERS = {
    "none": None,
    "deflate": "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "takeover": "permessage-deflate",
}
# Verifies nothing: the server made its certificate when it started.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE
# Less than a check may last, so that a failed check reports its own error and not a late close.
CLOSE_SECONDS_MAX = 5


class Peer(ClientConnection):
    """A connection that counts what it receives, after TLS: that tells what was compressed."""

    received_bytes = 0

    def data_received(self, data):
        self.received_bytes += len(data)
        super().data_received(data)

    @property
    def extensions(self):
        return self.response.headers.get("Sec-WebSocket-Extensions")


async def main(url, compression):
    failed = 0
    checks = SHARED_CHECKS if compression == "none" else SHARED_CHECKS + COMPRESSION_CHECKS
    for name, check in checks:
        try:
            await asyncio.wait_for(run_check(url, compression, check), CHECK_SECONDS_MAX)
            print(f"ok      {name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {name}: {describe(error)}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


async def run_check(url, compression, check):
    async with open_connection(url) as peer:
        # For checks that need further connections.
        peer.url, peer.server_compression = url, compression
        await check(peer)
        if peer.close_code is None:
            await expect_nothing_else(peer)


def open_connection(url, **options):
    # Keepalive pings are off, for they would answer for the checks of ping and pong.
    return connect(
        url,
        create_connection=Peer,
        proxy=None,
        ping_interval=None,
        max_size=2 * 1_048_576,
        close_timeout=CLOSE_SECONDS_MAX,
        ssl=TLS if url.startswith("wss:") else None,
        **options,
    )


def offering(**parameters):
    """Options of a connection that offers exactly this."""
    return {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**parameters)]}


async def echoes(peer, message):
    await peer.send(message)
    await expect(peer, message)


async def expect(peer, message):
    answer = await peer.recv()
    assert type(answer) is type(message), f"{type(message).__name__} came back as {type(answer).__name__}"
    assert len(answer) == len(message), f"{len(answer)} came back instead of {len(message)}"
    assert answer == message, "another content of the same length came back"


async def echoed_bytes(peer, message):
    """Has a message echoed, and returns how many bytes came back for it."""
    before = peer.received_bytes
    await echoes(peer, message)
    return peer.received_bytes - before


async def echoes_raw(peer, message):
    """Sends a frame past the extensions, so that it is not compressed."""
    text = isinstance(message, str)
    frame = Frame(Opcode.TEXT if text else Opcode.BINARY, message.encode() if text else message)
    peer.transport.write(frame.serialize(mask=True))
    await expect(peer, message)


async def expect_nothing_else(peer):
    # An echo server says nothing of its own accord. One more message, which must be the next to come
    # back, finds what came before it without waiting for something that does not happen.
    await peer.send("nothing else?")
    assert await peer.recv() == "nothing else?", "a message too many came back"


async def opens_plainly(peer):
    assert peer.response.status_code == 101
    assert peer.subprotocol is None, f"subprotocol {peer.subprotocol}"


async def agrees_on_protocol(peer):
    for offer, expected in [(PROTOCOLS[::-1], PROTOCOLS[0]), (["unknown.test", PROTOCOLS[1]], PROTOCOLS[1])]:
        async with open_connection(peer.url, subprotocols=offer) as other:
            assert other.subprotocol == expected, f"subprotocol {other.subprotocol}"


async def agrees_on_extensions(peer):
    assert peer.extensions == ANSWERS[peer.server_compression], f"extensions {peer.extensions}"


async def echoes_text(peer):
    await echoes(peer, "Hello, longwire")


async def echoes_binary(peer):
    await echoes(peer, bytes(range(256)))


def echoes_bytes(length):
    async def check(peer):
        for message in (noise(length), lines(length)):
            await echoes(peer, message)
            await echoes_raw(peer, message)

    return check


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


async def returns_close_codes(peer):
    for code in (1000, 1001, 1011, 3000, 4999):
        async with open_connection(peer.url) as other:
            await other.close(code)
            assert other.close_code == code, f"code {other.close_code}"


async def closes_on_bad_text(peer):
    await peer.send(b"ok\xc3\x28", text=True)
    await expect_close(peer, 1007)


async def closes_on_excess(peer):
    # A fragment that is taken and one that is too much: the server reads on for a while after its
    # close, but not so long that it would read all of a message too large.
    await peer.send([bytes(MESSAGE_BYTES_MAX - 1_000), bytes(1_001)])
    await expect_close(peer, 1009)


async def expect_close(peer, code):
    try:
        answer = await peer.recv()
    except ConnectionClosed:
        assert peer.close_code == code, f"code {peer.close_code}"
    else:
        raise AssertionError(f"{len(answer)} came back instead of a close")


async def keeps_connections_apart(first):
    peers = await asyncio.gather(*(open_connection(first.url) for _ in range(50)))
    try:
        for turn in range(20):
            await asyncio.gather(*(peer.send(f"{index}: {turn}") for index, peer in enumerate(peers)))
        for turn in range(20):
            await asyncio.gather(*(expect(peer, f"{index}: {turn}") for index, peer in enumerate(peers)))
        await asyncio.gather(*(expect_nothing_else(peer) for peer in peers))
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))


async def compresses_answers(peer):
    count = await echoed_bytes(peer, lines(1_048_576))
    assert count < 65_536, f"1 MiB of lines came back in {count} bytes"


async def echoes_mixed(peer):
    # What is sent plain does not belong to the context that later messages refer to.
    for number in range(100):
        message = noise(number * 50) if number % 3 == 0 else lines(number * 50)
        await (echoes if number % 2 == 0 else echoes_raw)(peer, message)


async def echoes_compressed_fragments(peer):
    text = lines(100_000)
    await peer.send([text[at : at + 9_999] for at in range(0, len(text), 9_999)])
    await expect(peer, text)


async def refers_back(peer):
    # What does not compress by itself comes back in next to nothing if it refers to its like.
    await echoes(peer, noise(1_000))
    expect_repeated(await echoed_bytes(peer, noise(1_000)), peer.server_compression == "takeover")


async def does_without_takeover(first):
    takeover = first.server_compression == "takeover"
    for server, client in ((True, False), (False, True), (True, True)):
        offer = offering(server_no_context_takeover=server, client_no_context_takeover=client)
        async with open_connection(first.url, **offer) as peer:
            answered = peer.extensions.split("; ")
            assert ("server_no_context_takeover" in answered) == (server or not takeover), answered
            assert ("client_no_context_takeover" in answered) == (client or not takeover), answered
            await echoes(peer, noise(1_000))
            expect_repeated(await echoed_bytes(peer, noise(1_000)), takeover and not server)


def expect_repeated(count, refers_to_first):
    assert (count < 200) == refers_to_first, f"a repeated message of 1000 bytes came back in {count}"


async def keeps_to_window(first):
    # `websockets` inflates with the window that was agreed, and fails where an answer refers
    # further back.
    for bits in (9, 12, 15):
        async with open_connection(first.url, **offering(server_max_window_bits=bits)) as peer:
            assert f"server_max_window_bits={bits}" in peer.extensions.split("; "), peer.extensions
            await echoes(peer, noise(30_000) * 2)
            await echoes(peer, lines(100_000))


async def does_not_compress_unasked(first):
    async with open_connection(first.url, compression=None) as peer:
        assert peer.extensions is None, f"extensions {peer.extensions}"
        count = await echoed_bytes(peer, lines(100_000))
        assert count >= 100_000, f"100000 bytes came back in {count}"


def noise(length):
    # Without a pattern, so that compression does not shrink it; seeded, so that each run sends the
    # same.
    return random.Random(length).randbytes(length)


def lines(length):
    # Compression makes it a small part of its length.
    line = "The quick brown fox jumps over the lazy dog.\n"
    return (line * (length // len(line) + 1))[:length]


def describe(error):
    if isinstance(error, asyncio.TimeoutError):
        return f"no result within {CHECK_SECONDS_MAX} s"
    return f"{type(error).__name__}: {error}".splitlines()[0]


SHARED_CHECKS = [
    ("opens without a subprotocol nobody asked for", opens_plainly),
    ("agrees on a subprotocol", agrees_on_protocol),
    ("agrees on the extensions it was started with", agrees_on_extensions),
    ("echoes text as text", echoes_text),
    ("echoes binary as binary", echoes_binary),
    *((f"echoes {length} bytes", echoes_bytes(length)) for length in MESSAGE_BYTES),
    ("echoes multi-byte text", echoes_multi_byte_text),
    ("echoes 1 MiB of multi-byte text", echoes_long_multi_byte_text),
    ("echoes a message sent in fragments", echoes_fragments),
    ("keeps the order of 1000 pipelined messages", keeps_order),
    ("answers a ping with its payload", answers_ping),
    ("ignores an unsolicited pong", ignores_pong),
    ("returns close code and reason", returns_code_and_reason),
    ("returns a normal close", returns_normal_close),
    ("returns every kind of close code", returns_close_codes),
    ("closes with 1007 on text that is not UTF-8", closes_on_bad_text),
    ("closes with 1009 on a message too large", closes_on_excess),
    ("keeps 50 connections apart", keeps_connections_apart),
]
COMPRESSION_CHECKS = [
    ("compresses what it sends", compresses_answers),
    ("echoes compressed and plain messages in turn", echoes_mixed),
    ("echoes a compressed message sent in fragments", echoes_compressed_fragments),
    ("refers to earlier messages exactly with context takeover", refers_back),
    ("does without context takeover where the client asks", does_without_takeover),
    ("keeps to the window the client asks for", keeps_to_window),
    ("does not compress for a client that does not offer it", does_not_compress_unasked),
]

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in ANSWERS:
        sys.exit("usage: python_websockets.py ws[s]://HOST:PORT/ none|deflate|takeover")
    sys.exit(asyncio.run(main(*sys.argv[1:])))
