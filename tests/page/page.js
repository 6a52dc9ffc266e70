// Uses the page of `longwire serve` as two people would, in two tabs of a real browser.
//
//   node page.js CHROMIUM LONGWIRE LOGS [SCREENSHOT]
//
// Answers for what is checked, in order, each step on what the one before has left. With SCREENSHOT
// it lets the page run until its charts are full, and keeps a picture of it. Status 0 only if all
// passed.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const { Chromium } = require("./chromium.js");
const { Server, freePorts, sleep } = require("./server.js");

// A reconnection waits for 30 s at most, and for far less after an outage of seconds.
const WAIT_MS_MAX = 30_000;
const SCREENSHOT_SECONDS = 122;
const SIZE = { width: 1280, height: 800 };
const CHAT = `[...document.querySelectorAll("#chat li")].map((line) => (
  { text: line.querySelector(".text").textContent, isOwn: line.classList.contains("own") }))`;
const EVENTS = `[...document.querySelectorAll("#events li")].map((line) => line.textContent)`;

const steps = [
  ["page says where the server listens, and connects nowhere by itself", pageIsPrefilled],
  ["two tabs connect to a topic, by mouse and by keyboard", tabsConnect],
  ["each tab sees what both say, once, and knows its own", tabsChat],
  ["markup in a message is text", markupIsText],
  ["a message published by POST arrives as that of somebody else", postArrives],
  ["figures count both chats and both heartbeats", figuresCount],
  ["figures of the page move with the messages", ratesMove],
  ["a round trip is measured", roundTripIsMeasured],
  ["narrow window needs no scrolling sideways", narrowWindowFits],
  ["stopped server: code 1012, a countdown, and no administration port", restartIsAnnounced],
  ["restarted server: both tabs come back by themselves and chat", tabsReconnect],
  ["disconnecting by hand is final", disconnectIsFinal],
  ["a topic that cannot be is refused visibly, and not tried again", wrongTopicIsRefused],
  ["a close with 4xxx or 1008 is final, others are not", finalCodesAreFinal],
  ["delays double up to 30 s, with full jitter", delaysDouble],
  ["no exception, and nothing the security policy had to stop", nothingWentWrong],
];

async function main(program, longwire, logs, screenshot) {
  const [dataPort, adminPort] = await freePorts();
  const server = new Server(longwire, path.join(logs, "page-server.log"), dataPort, adminPort);
  const browser = new Chromium(program);
  const stop = async () => {
    server.kill();
    await browser.stop();
  };
  // A runner that gives up on this script must not leave a browser behind.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      stop().finally(() => process.exit(1));
    });
  }
  const stage = { server, browser, logs };
  let passed = 0;
  try {
    await server.start();
    stage.ada = await browser.open("ada", server.page, SIZE);
    stage.bob = await browser.open("bob", server.page, SIZE);
    for (const [name, step] of steps) {
      await step(stage).catch((error) => {
        error.message = `${name}: ${error.message}`;
        throw error;
      });
      console.log(`ok      ${name}`);
      passed += 1;
    }
    if (screenshot) await keepScreenshot(stage, screenshot);
    console.log(`${passed} passed, 0 failed`);
    return 0;
  } catch (error) {
    console.log(`FAILED  ${error.message}`);
    await showTabs(stage);
    console.log(`${passed} passed, 1 failed`);
    return 1;
  } finally {
    await stop();
  }
}

async function showTabs({ ada, bob, browser, logs }) {
  for (const tab of [ada, bob].filter(Boolean)) {
    const file = path.join(logs, `page-${tab.name}.png`);
    await tab.screenshot(file).then(
      async () => console.log(`${tab.name}: ${file}\n  ${(await tab.evaluate(EVENTS)).slice(-12).join("\n  ")}`),
      () => console.log(browser.log.trimEnd()),
    );
  }
}

// Asks again until `check` holds, and fails with what was found last.
async function eventually(what, ask, check) {
  let found;
  for (const end = Date.now() + WAIT_MS_MAX; Date.now() < end; await sleep(50)) {
    found = await ask();
    if (check(found)) return found;
  }
  throw new Error(`${what}, but within ${WAIT_MS_MAX} ms: ${JSON.stringify(found)}`);
}

function readyState(tab, state) {
  return eventually(`${tab.name} reaches ${state}`, () => tab.text("#ready-state"), (text) => text === state);
}

async function say(tab, text) {
  await tab.type("#message", text);
  await tab.press("Enter", "\r");
}

function isDisabled(tab, selector) {
  return tab.evaluate(`document.querySelector(${JSON.stringify(selector)}).disabled`);
}

async function pageIsPrefilled({ ada, bob, server }) {
  for (const tab of [ada, bob]) {
    await eventually("address is that of the server", () => tab.evaluate(`document.querySelector("#url")?.value`),
      (url) => url === `${server.topics}lobby`);
    await eventually("the figures are live", () => tab.text("#admin"), (text) => text === "live");
    assert.equal(await tab.text("#ready-state"), "–");
    assert.match(await tab.text("#backend"), /^(epoll|io_uring)/);
  }
  assert.equal((await server.stats()).totals.open, 0);
}

async function tabsConnect({ ada, bob }) {
  await ada.type("#name", "ada");
  await ada.click("#connect");
  await bob.type("#name", "bob");
  await bob.press("Enter", "\r");
  for (const tab of [ada, bob]) {
    await readyState(tab, "1 OPEN");
    assert.equal(await tab.text("#status"), "Connected to lobby");
    assert.match(await tab.text("#opened"), /^\d\d:\d\d:\d\d$/);
    assert.equal(await isDisabled(tab, "#disconnect"), false);
  }
}

async function tabsChat({ ada, bob }) {
  await say(ada, "hello from ada");
  await eventually("bob hears ada", () => bob.evaluate(CHAT), (lines) => lines.length >= 1);
  await say(bob, "and from bob – čeština, 日本語");
  const texts = ["ada: hello from ada", "bob: and from bob – čeština, 日本語"];
  for (const tab of [ada, bob]) {
    await eventually(`${tab.name} sees both`, () => tab.evaluate(CHAT), (lines) => lines.length >= 2);
  }
  // Something that came twice would have come by now.
  await sleep(300);
  for (const [tab, own] of [[ada, 0], [bob, 1]]) {
    assert.deepEqual(await tab.evaluate(CHAT), texts.map((text, index) => ({ text, isOwn: index === own })), tab.name);
  }
}

async function markupIsText({ ada, bob }) {
  const markup = `<img src=x onerror="window.isHacked = true"><b>bold</b>`;
  await say(ada, markup);
  for (const tab of [ada, bob]) {
    await eventually(`${tab.name} sees the markup`, () => tab.evaluate(CHAT), (lines) => lines.at(-1).text === `ada: ${markup}`);
    assert.equal(await tab.evaluate(`document.querySelectorAll("#chat img, #chat b").length`), 0);
    assert.equal(await tab.evaluate("window.isHacked"), undefined);
  }
}

async function postArrives({ ada, bob, server }) {
  const answer = await server.publish("lobby", "from a shell");
  assert.ok(answer.ok, `POST is answered with ${answer.status}`);
  for (const tab of [ada, bob]) {
    const lines = await eventually(`${tab.name} sees it`, () => tab.evaluate(CHAT), (found) => found.length === 4);
    assert.deepEqual(lines.at(-1), { text: "from a shell", isOwn: false });
  }
}

async function figuresCount({ ada, bob, server }) {
  await eventually("the server counts four", () => server.stats(), (stats) => stats.totals.open === 4);
  for (const tab of [ada, bob]) {
    await eventually(`${tab.name} shows four`, () => tab.text("#now-conns"), (text) => text === "4");
    const perCore = await tab.evaluate(`[...document.querySelectorAll("#cores td:nth-child(2)")].map((cell) => Number(cell.textContent))`);
    assert.equal(perCore.reduce((sum, conns) => sum + conns, 0), 4, "the cores' connections add up");
  }
}

async function ratesMove({ ada, bob }) {
  const chatter = setInterval(() => ada.evaluate(`link.send("tick")`).catch(() => {}), 20);
  const number = async (id) => parseFloat(await bob.text(id));
  try {
    // Two subscribers: what comes in once goes out twice.
    await eventually("in and out move", async () => [await number("#now-messages-in"), await number("#now-messages-out")],
      ([received, sent]) => received > 3 && sent > 1.5 * received);
    await eventually("bytes move", () => bob.text("#now-bytes-out"), (text) => parseFloat(text) > 10);
    await eventually("memory is told", () => bob.text("#now-memory"), (text) => /^\d[\d.]* [KMG]iB$/.test(text));
    await eventually("the chart has a line", () => bob.evaluate(`document.querySelector("#plot-messages path.two").getAttribute("d")`),
      (line) => /^M.*L/.test(line));
    const shares = await bob.evaluate(`[...document.querySelectorAll("#cores td:nth-child(5)")].map((cell) => parseInt(cell.textContent))`);
    const sum = shares.reduce((all, share) => all + share, 0);
    assert.ok(Math.abs(sum - 100) <= shares.length, `shares add up to ${sum} %`);
  } finally {
    clearInterval(chatter);
  }
}

async function roundTripIsMeasured({ ada, bob }) {
  for (const tab of [ada, bob]) {
    const text = await eventually(`${tab.name} has a round trip`, () => tab.text("#round-trip"), (found) => / ms$/.test(found));
    assert.ok(parseFloat(text) < 5_000, text);
  }
}

async function narrowWindowFits({ bob, logs }) {
  await bob.resize(360, 740);
  const [needed, given] = await bob.evaluate("[document.documentElement.scrollWidth, innerWidth]");
  await bob.screenshot(path.join(logs, "page-narrow.png"));
  await bob.resize(SIZE.width, SIZE.height);
  assert.ok(needed <= given, `needs ${needed} of ${given} pixels`);
}

async function restartIsAnnounced({ ada, bob, server }) {
  await server.stop();
  for (const tab of [ada, bob]) {
    await eventually(`${tab.name} shows the code`, () => tab.text("#close-code"), (text) => text === "1012");
    assert.equal(await tab.text("#close-clean"), "true");
    await countsDown(tab);
    await eventually(`${tab.name} misses the port`, () => tab.text("#admin"), (text) => text.startsWith("Administration port not reached since "));
    // Failed attempts end with 1006, which is not how the connection ended.
    await eventually(`${tab.name} tries`, () => tab.text("#attempt"), (text) => /^attempt ([3-9]|\d\d)$/.test(text));
    assert.equal(await tab.text("#close-code"), "1012");
  }
}

async function countsDown(tab) {
  // A delay can be too short to be seen; the next is longer.
  const read = async () => parseFloat((await tab.text("#countdown")).replace("in ", ""));
  let before = NaN;
  await eventually(`${tab.name} counts down`, async () => {
    const pair = [before, before = await read()];
    return pair;
  }, ([then, now]) => now > 0 && now < then);
}

async function tabsReconnect({ ada, bob, server }) {
  await server.start();
  await Promise.all([ada, bob].map((tab) => readyState(tab, "1 OPEN")));
  await eventually("the figures are live again", () => ada.text("#admin"), (text) => text === "live");
  const heard = (await bob.evaluate(CHAT)).length;
  await say(ada, "back again");
  const own = await eventually("ada sees it", () => ada.evaluate(CHAT), (lines) => lines.at(-1).text === "ada: back again");
  assert.equal(own.at(-1).isOwn, true);
  await eventually("bob hears it", () => bob.evaluate(CHAT), (lines) => lines.at(-1).text === "ada: back again");
  await sleep(300);
  assert.equal((await bob.evaluate(CHAT)).length, heard + 1, "it came once");
  assert.equal(await bob.text("#countdown"), "");
}

async function disconnectIsFinal({ bob, server }) {
  await bob.click("#disconnect");
  await readyState(bob, "3 CLOSED");
  assert.equal(await bob.text("#close-code"), "1000");
  assert.equal(await bob.text("#status"), "Disconnected by you");
  // Longer than the first delays can be.
  await sleep(3_000);
  assert.equal(await bob.text("#ready-state"), "3 CLOSED");
  assert.equal(await isDisabled(bob, "#send"), true);
  await eventually("only ada is left", () => server.stats(), (stats) => stats.totals.open === 2);
}

async function wrongTopicIsRefused({ bob, server }) {
  await bob.type("#topic", "not*a*topic");
  assert.equal(await bob.evaluate(`document.querySelector("#url").value`), `${server.topics}not*a*topic`);
  await bob.click("#connect");
  await eventually("the failure is told", () => bob.text("#status"), (text) => /^(Refused|Closed by the server)/.test(text));
  await sleep(1_500);
  assert.equal(await bob.text("#countdown"), "");
  assert.equal(await bob.text("#ready-state"), "3 CLOSED");
  assert.match((await bob.evaluate(EVENTS)).at(-1), /close10(06|08)/);
  await bob.type("#topic", "lobby");
  await bob.click("#connect");
  await readyState(bob, "1 OPEN");
}

// The server under test has no reason to send such codes to this page: the page's own rule is asked.
async function finalCodesAreFinal({ bob }) {
  const codes = [1000, 1001, 1006, 1008, 1011, 1012, 1013, 3000, 4000, 4999];
  assert.deepEqual(await bob.evaluate(`${JSON.stringify(codes)}.filter(isFinal)`), [1008, 4000, 4999]);
}

async function delaysDouble({ bob }) {
  const ask = (random) => bob.evaluate(`[1, 2, 3, 4, 5, 6, 7, 8, 40].map((attempt) => retryDelay(attempt, ${random}))`);
  assert.deepEqual(await ask(1), [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  assert.deepEqual(await ask(0), [0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

async function nothingWentWrong({ ada, bob }) {
  assert.deepEqual([...ada.faults, ...bob.faults], []);
}

// The administration port takes few connections at a time.
async function publishAll(server, count, message) {
  for (let left = count; left > 0; left -= 8) {
    await Promise.all(Array.from({ length: Math.min(8, left) }, () => server.publish("prices", message)));
  }
}

// Two people in a room, and a ticker beside them.
async function keepScreenshot({ ada, bob, server }, file) {
  const talk = [
    [ada, "Morning! Is the new build on the two-core box?"],
    [bob, "Yes, since ten. I restarted it a minute ago to see who comes back."],
    [ada, "We both did. 1012, and the second attempt was through."],
    [bob, "Round trips look as flat as before."],
    [ada, "And one publish on either core reaches both of us."],
    [bob, "Good. I leave this page open for a while."],
  ];
  await ada.click("#connect");
  await readyState(ada, "1 OPEN");
  await bob.evaluate(`window.ticker = new WebSocket("${server.topics}prices")`);
  for (let second = 0; second < SCREENSHOT_SECONDS; second += 1) {
    const load = Math.round(30 + 18 * Math.sin(second / 9) + 8 * Math.sin(second / 2.3));
    const price = JSON.stringify({ symbol: "EUR/USD", bid: 1.0871, ask: 1.0873, second });
    await publishAll(server, load, price);
    const line = talk[(second - 20) / 16];
    if (line) await say(...line);
    await sleep(700);
  }
  // The keyboard's focus would be drawn around the field.
  await ada.evaluate("document.activeElement.blur()");
  await ada.screenshot(file);
  console.log(`kept    ${file}`);
}

if (process.argv.length < 5 || process.argv.length > 6) {
  console.error("usage: node page.js CHROMIUM LONGWIRE LOGS [SCREENSHOT]");
  process.exit(2);
}
main(...process.argv.slice(2)).then((status) => process.exit(status));
