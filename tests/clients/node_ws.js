// Checks the echo server with the `ws` package of Node.js.
//
//   node node_ws.js ws://HOST:PORT/
//
// Answers for what an application of `ws` sees; the wire is Autobahn's business. Each check has a
// connection and a time limit of its own, so that one failure cannot hide or cause another. Prints
// one line per check and a closing count; status 0 only if all passed.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { inspect } = require("node:util");
const { WebSocket } = require("ws");

const CHECK_MS_MAX = 20_000;
// Both sides of each change of the length field (RFC 6455 §5.2), an empty message, and one far
// larger than any single read.
const MESSAGE_BYTES = [0, 125, 126, 65_535, 65_536, 1_048_576];
// One to four bytes per character in UTF-8.
const MULTI_BYTE_TEXT = "aßह€𝄞 – čeština, 日本語, 👩‍🚀";

const checks = [
  ["opens without a subprotocol nobody asked for", opensPlainly],
  ["echoes text as text", echoesText],
  ["echoes binary as binary", echoesBinary],
  ...MESSAGE_BYTES.map((bytes) => [`echoes ${bytes} bytes of binary`, (peer) => echoesBytes(peer, bytes)]),
  ["echoes empty text", echoesEmptyText],
  ["echoes multi-byte text", echoesMultiByteText],
  ["echoes 1 MiB of multi-byte text", echoesLongMultiByteText],
  ["echoes a message sent in fragments", echoesFragments],
  ["keeps the order of 1000 pipelined messages", keepsOrder],
  ["answers a ping with its payload", answersPing],
  ["answers a ping between two fragments", answersPingInsideMessage],
  ["ignores an unsolicited pong", ignoresPong],
  ["returns close code and reason", returnsCodeAndReason],
  ["returns a close without a code", returnsEmptyClose],
  ["keeps 50 connections apart", keepsConnectionsApart],
];

async function main(url) {
  let failed = 0;
  for (const [name, check] of checks) {
    try {
      await withTimeLimit(runCheck(url, check));
      console.log(`ok      ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}: ${firstLine(error)}`);
    }
  }
  console.log(`${checks.length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

async function runCheck(url, check) {
  const peer = new Peer(url);
  try {
    await peer.opened();
    await check(peer, url);
    if (peer.socket.readyState === WebSocket.OPEN) await peer.expectNothingElse();
  } finally {
    peer.socket.terminate();
  }
}

// One client connection whose messages are awaited one by one.
class Peer {
  constructor(url) {
    this.socket = new WebSocket(url, { perMessageDeflate: true, handshakeTimeout: CHECK_MS_MAX });
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

async function echoesText(peer) {
  peer.socket.send("Hello, longwire");
  await peer.expectText("Hello, longwire");
}

async function echoesBinary(peer) {
  const allBytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
  peer.socket.send(allBytes);
  await peer.expectBinary(allBytes);
}

async function echoesBytes(peer, length) {
  const bytes = noise(length);
  peer.socket.send(bytes);
  await peer.expectBinary(bytes);
}

async function echoesEmptyText(peer) {
  peer.socket.send("");
  await peer.expectText("");
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

async function returnsEmptyClose({ socket }) {
  const closed = once(socket, "close");
  socket.close();
  const [code, reason] = await closed;
  assert.equal(code, 1005, "the answer carries a code, or none came");
  assert.equal(reason.length, 0);
}

async function keepsConnectionsApart(_peer, url) {
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

if (process.argv.length !== 3) {
  console.error("usage: node node_ws.js ws://HOST:PORT/");
  process.exit(2);
}
main(process.argv[2]);
