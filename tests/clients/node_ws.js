// Checks the echo server with the `ws` package of Node.js.
//
//   node node_ws.js ws[s]://HOST:PORT/ none|deflate|takeover
//
// The second argument says how the server compresses: not, each message by itself, or with context
// takeover. Answers for what an application of `ws` sees; the wire is Autobahn's business, but for
// the count of bytes, which tells what was compressed. Each check has a connection and a time limit
// of its own, so that one failure cannot hide or cause another. Prints one line per check and a
// closing count; status 0 only if all passed.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { inspect } = require("node:util");
const { WebSocket } = require("ws");

const CHECK_MS_MAX = 20_000;
// Both sides of each change of the length field (RFC 6455 §5.2), an empty message, and one far
// larger than any single read.
const MESSAGE_BYTES = [0, 1, 125, 126, 65_535, 65_536, 1_048_576];
// The largest message of the server (tests/server.sh).
const MESSAGE_BYTES_MAX = 16_908_288;
// The server knows both, and prefers the first (tests/run-clients).
const PROTOCOLS = ["v2.echo.test", "v1.echo.test"];
const ANSWERS = {
  none: undefined,
  deflate: "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
  takeover: "permessage-deflate",
};
// One to four bytes per character in UTF-8.
const MULTI_BYTE_TEXT = "aßह€𝄞 – čeština, 日本語, 👩‍🚀";

const sharedChecks = [
  ["opens without a subprotocol nobody asked for", opensPlainly],
  ["agrees on a subprotocol", agreesOnProtocol],
  ["agrees on the extensions it was started with", agreesOnExtensions],
  ["echoes text as text", echoesText],
  ["echoes binary as binary", echoesBinary],
  ...MESSAGE_BYTES.map((bytes) => [`echoes ${bytes} bytes`, (peer) => echoesBytes(peer, bytes)]),
  ["echoes multi-byte text", echoesMultiByteText],
  ["echoes 1 MiB of multi-byte text", echoesLongMultiByteText],
  ["echoes a message sent in fragments", echoesFragments],
  ["keeps the order of 1000 pipelined messages", keepsOrder],
  ["answers a ping with its payload", answersPing],
  ["answers a ping between two fragments", answersPingInsideMessage],
  ["ignores an unsolicited pong", ignoresPong],
  ["returns close code and reason", returnsCodeAndReason],
  ["returns every kind of close code", returnsCloseCodes],
  ["returns a close without a code", returnsEmptyClose],
  ["closes with 1007 on text that is not UTF-8", closesOnBadText],
  ["closes with 1009 on a message too large", closesOnExcess],
  ["keeps 50 connections apart", keepsConnectionsApart],
];
const compressionChecks = [
  ["compresses what it sends", compressesAnswers],
  ["echoes compressed and plain messages in turn", echoesMixed],
  ["echoes a compressed message sent in fragments", echoesCompressedFragments],
  ["refers to earlier messages exactly with context takeover", refersBack],
  ["does without context takeover where the client asks", doesWithoutTakeover],
  ["keeps to the window the client asks for", keepsToWindow],
  ["does not compress for a client that does not offer it", doesNotCompressUnasked],
];

async function main(url, compression) {
  let failed = 0;
  const checks = compression === "none" ? sharedChecks : [...sharedChecks, ...compressionChecks];
  for (const [name, check] of checks) {
    try {
      await withTimeLimit(runCheck(url, compression, check));
      console.log(`ok      ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}: ${firstLine(error)}`);
    }
  }
  console.log(`${checks.length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

async function runCheck(url, compression, check) {
  const peer = new Peer(url);
  try {
    await peer.opened();
    await check(peer, { url, compression });
    if (peer.socket.readyState === WebSocket.OPEN) await peer.expectNothingElse();
  } finally {
    peer.socket.terminate();
  }
}

// One client connection whose messages are awaited one by one.
class Peer {
  // Without a threshold of its own, so that every message is compressed unless it says otherwise.
  constructor(url, deflate = { threshold: 0 }, protocols = []) {
    this.socket = new WebSocket(url, protocols, {
      perMessageDeflate: deflate,
      handshakeTimeout: CHECK_MS_MAX,
      // The server made its certificate when it started.
      rejectUnauthorized: false,
    });
    this.socket.on("upgrade", (response) => {
      this.answer = response.headers["sec-websocket-extensions"];
      this.stream = response.socket;
    });
    this.inbox = [];
    this.waiting = [];
    this.ended = null;
    this.socket.on("message", (data, isBinary) => this.put({ data, isBinary }));
    this.socket.on("error", (error) => this.end(error));
    this.socket.on("close", (code) => this.end(new Error(`connection closed with ${code}`)));
  }

  async opened() {
    if (this.socket.readyState !== WebSocket.OPEN) await once(this.socket, "open");
  }

  // Sends a message, waits for it to come back, and returns how many bytes that took.
  async echoedBytes(message, options) {
    const before = this.stream.bytesRead;
    this.socket.send(message, options);
    if (typeof message === "string") await this.expectText(message);
    else await this.expectBinary(message);
    return this.stream.bytesRead - before;
  }

  put(message) {
    const waiter = this.waiting.shift();
    if (waiter) waiter.resolve(message);
    else this.inbox.push(message);
  }

  end(error) {
    this.ended ??= error;
    for (const waiter of this.waiting.splice(0)) waiter.reject(this.ended);
  }

  next() {
    if (this.inbox.length > 0) return Promise.resolve(this.inbox.shift());
    if (this.ended) return Promise.reject(this.ended);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  async expectText(text) {
    const { data, isBinary } = await this.next();
    assert.equal(isBinary, false, "text came back as binary");
    // A plain comparison, for the difference of two long texts is of no use to a reader.
    assert.ok(data.toString("utf8") === text, `${data.length} bytes of other text came back`);
  }

  async expectBinary(bytes) {
    const { data, isBinary } = await this.next();
    assert.equal(isBinary, true, "binary came back as text");
    assert.equal(data.length, bytes.length, "length");
    assert.ok(data.equals(bytes), "other bytes came back");
  }

  // An echo server says nothing of its own accord. One more message, which must be the next to come
  // back, finds what came before it without waiting for something that does not happen.
  async expectNothingElse() {
    this.socket.send("nothing else?");
    const { data } = await this.next();
    assert.equal(data.toString("utf8", 0, 20), "nothing else?", "a message too many came back");
  }
}

async function opensPlainly({ socket }) {
  assert.equal(socket.protocol, "");
}

async function agreesOnProtocol(_peer, { url }) {
  for (const [offer, expected] of [
    [[...PROTOCOLS].reverse(), PROTOCOLS[0]],
    [["unknown.test", PROTOCOLS[1]], PROTOCOLS[1]],
  ]) {
    await withPeer(new Peer(url, {}, offer), async ({ socket }) => {
      assert.equal(socket.protocol, expected);
    });
  }
}

async function agreesOnExtensions(peer, { compression }) {
  assert.equal(peer.answer, ANSWERS[compression]);
  assert.equal(peer.socket.extensions, compression === "none" ? "" : "permessage-deflate");
}

async function echoesText(peer) {
  peer.socket.send("Hello, longwire");
  await peer.expectText("Hello, longwire");
}

async function echoesBinary(peer) {
  const allBytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
  peer.socket.send(allBytes);
  await peer.expectBinary(allBytes);
}

// Where compression was not agreed on, `compress` has no effect.
async function echoesBytes(peer, length) {
  for (const compress of [true, false]) {
    await peer.echoedBytes(noise(length), { compress });
    await peer.echoedBytes(lines(length), { compress });
  }
}

async function echoesMultiByteText(peer) {
  peer.socket.send(MULTI_BYTE_TEXT);
  await peer.expectText(MULTI_BYTE_TEXT);
}

// Three bytes each, so that reads of any even size cut characters apart.
async function echoesLongMultiByteText(peer) {
  const text = "€".repeat(Math.floor(1_048_576 / 3));
  peer.socket.send(text);
  await peer.expectText(text);
}

async function echoesFragments(peer) {
  const text = MULTI_BYTE_TEXT.repeat(50);
  const bytes = Buffer.from(text, "utf8");
  const options = (fin) => ({ binary: false, compress: false, fin });
  for (let at = 0; at < bytes.length; at += 7) {
    peer.socket.send(bytes.subarray(at, at + 7), options(false));
  }
  peer.socket.send(Buffer.alloc(0), options(true));
  await peer.expectText(text);
}

async function keepsOrder(peer) {
  for (let number = 0; number < 1000; number += 1) peer.socket.send(`message ${number}`);
  for (let number = 0; number < 1000; number += 1) await peer.expectText(`message ${number}`);
}

async function answersPing({ socket }) {
  for (const payload of ["", "are you there?", "p".repeat(125)]) {
    const pong = once(socket, "pong");
    socket.ping(payload);
    const [answer] = await pong;
    assert.equal(answer.toString(), payload);
  }
}

async function answersPingInsideMessage(peer) {
  const pong = once(peer.socket, "pong");
  peer.socket.send("first, ", { fin: false, compress: false });
  peer.socket.ping("in between");
  const [answer] = await pong;
  assert.equal(answer.toString(), "in between");
  assert.equal(peer.inbox.length, 0, "a message came back before it was whole");
  peer.socket.send("last", { fin: true, compress: false });
  await peer.expectText("first, last");
}

async function ignoresPong(peer) {
  peer.socket.pong("nobody asked");
  peer.socket.send("still here");
  await peer.expectText("still here");
}

async function returnsCodeAndReason({ socket }) {
  const closed = once(socket, "close");
  socket.close(4321, "goodbye – 再见");
  const [code, reason] = await closed;
  assert.equal(code, 4321);
  assert.equal(reason.toString(), "goodbye – 再见");
}

async function returnsCloseCodes(_peer, { url }) {
  for (const code of [1000, 1001, 1011, 3000, 4999]) {
    await withPeer(new Peer(url), async ({ socket }) => {
      const closed = once(socket, "close");
      socket.close(code);
      assert.equal((await closed)[0], code);
    });
  }
}

async function closesOnBadText(peer) {
  const closed = once(peer.socket, "close");
  peer.socket.send(Buffer.from([0x6f, 0x6b, 0xc3, 0x28]), { binary: false });
  assert.equal((await closed)[0], 1007);
}

// A fragment that is taken and one that is too much: the server reads on for a while after its
// close, but not so long that it would read all of a message too large.
async function closesOnExcess(peer) {
  const closed = once(peer.socket, "close");
  peer.socket.send(Buffer.alloc(MESSAGE_BYTES_MAX - 1_000), { fin: false });
  peer.socket.send(Buffer.alloc(1_001));
  assert.equal((await closed)[0], 1009);
}

async function returnsEmptyClose({ socket }) {
  const closed = once(socket, "close");
  socket.close();
  const [code, reason] = await closed;
  assert.equal(code, 1005, "the answer carries a code, or none came");
  assert.equal(reason.length, 0);
}

async function keepsConnectionsApart(_peer, { url }) {
  const peers = Array.from({ length: 50 }, () => new Peer(url));
  try {
    await Promise.all(peers.map((peer) => peer.opened()));
    for (let round = 0; round < 20; round += 1) {
      peers.forEach((peer, index) => peer.socket.send(`${index}: ${round}`));
    }
    for (let round = 0; round < 20; round += 1) {
      await Promise.all(peers.map((peer, index) => peer.expectText(`${index}: ${round}`)));
    }
    await Promise.all(peers.map((peer) => peer.expectNothingElse()));
  } finally {
    peers.forEach((peer) => peer.socket.terminate());
  }
}

async function compressesAnswers(peer) {
  const bytes = await peer.echoedBytes(lines(1_048_576));
  assert.ok(bytes < 65_536, `1 MiB of lines came back in ${bytes} bytes`);
}

// What is sent plain does not belong to the context that later messages refer to.
async function echoesMixed(peer) {
  for (let number = 0; number < 100; number += 1) {
    const message = number % 3 === 0 ? noise(number * 50) : lines(number * 50);
    await peer.echoedBytes(message, { compress: number % 2 === 0 });
  }
}

async function echoesCompressedFragments(peer) {
  const text = lines(100_000);
  for (let at = 0; at < text.length; at += 9_999) {
    const fin = at + 9_999 >= text.length;
    peer.socket.send(text.slice(at, at + 9_999), { binary: false, compress: true, fin });
    if (!fin) peer.socket.ping();
  }
  await peer.expectText(text);
}

// What does not compress by itself comes back in next to nothing if it refers to its like.
async function refersBack(peer, { compression }) {
  const message = noise(1_000);
  await peer.echoedBytes(message);
  expectRepeated(await peer.echoedBytes(message), compression === "takeover");
}

async function doesWithoutTakeover(_peer, { url, compression }) {
  const message = noise(1_000);
  for (const [server, client] of [[true, false], [false, true], [true, true]]) {
    // `false` would mean to `ws` that it refuses an answer which has the parameter.
    const offer = {
      threshold: 0,
      serverNoContextTakeover: server || undefined,
      clientNoContextTakeover: client || undefined,
    };
    await withPeer(new Peer(url, offer), async (peer) => {
      const answered = (name) => peer.answer.split("; ").includes(name);
      assert.equal(answered("server_no_context_takeover"), server || compression === "deflate");
      assert.equal(answered("client_no_context_takeover"), client || compression === "deflate");
      await peer.echoedBytes(message);
      expectRepeated(await peer.echoedBytes(message), compression === "takeover" && !server);
    });
  }
}

function expectRepeated(bytes, refersToFirst) {
  assert.equal(bytes < 200, refersToFirst, `1000 bytes came back again in ${bytes}`);
}

// `ws` inflates with the window that was agreed, and fails where an answer refers further back.
async function keepsToWindow(_peer, { url }) {
  for (const bits of [9, 12, 15]) {
    await withPeer(new Peer(url, { threshold: 0, serverMaxWindowBits: bits }), async (peer) => {
      assert.ok(peer.answer.split("; ").includes(`server_max_window_bits=${bits}`), peer.answer);
      const far = noise(30_000);
      await peer.echoedBytes(Buffer.concat([far, far]));
      await peer.echoedBytes(lines(100_000));
    });
  }
}

async function doesNotCompressUnasked(_peer, { url }) {
  await withPeer(new Peer(url, false), async (peer) => {
    assert.equal(peer.answer, undefined);
    const bytes = await peer.echoedBytes(lines(100_000));
    assert.ok(bytes >= 100_000, `100000 bytes came back in ${bytes}`);
  });
}

// For checks that need a connection of their own making.
async function withPeer(peer, use) {
  try {
    await peer.opened();
    await use(peer);
  } finally {
    peer.socket.terminate();
  }
}

// Text with a pattern: compression makes it a small part of its length.
function lines(length) {
  const line = "The quick brown fox jumps over the lazy dog.\n";
  return line.repeat(Math.ceil(length / line.length)).slice(0, length);
}

// Bytes without a pattern, the same in each run: compression, if agreed on, must not shrink them.
function noise(length) {
  const bytes = Buffer.allocUnsafe(length);
  let state = 0x9e3779b9 ^ length;
  for (let at = 0; at < length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state & 0xff;
  }
  return bytes;
}

async function withTimeLimit(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result within ${CHECK_MS_MAX} ms`)), CHECK_MS_MAX);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function firstLine(error) {
  // What `assert` writes by itself says in its first line only that two values differ.
  if (error?.generatedMessage) return `got ${inspect(error.actual)}, expected ${inspect(error.expected)}`;
  return String(error?.message ?? error).split("\n", 1)[0];
}

if (process.argv.length !== 4 || !(process.argv[3] in ANSWERS)) {
  console.error("usage: node node_ws.js ws[s]://HOST:PORT/ none|deflate|takeover");
  process.exit(2);
}
main(process.argv[2], process.argv[3]);
