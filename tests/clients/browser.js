// Runs browser.html in a headless Chromium and prints its verdict.
//
//   node browser.js CHROMIUM ws[s]://HOST:PORT/ none|deflate|takeover
//
// Answers for the browser: a fresh profile, a web server for the one page, a time limit, and no
// process or profile left behind. The page posts its verdict back, which needs no remote control of
// the browser, and cannot be read too early, as a dump of the DOM can. Status 0 only if all passed.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");

const VERDICT_MS_MAX = 120_000;
// Far above a verdict; what is larger did not come from our page.
const VERDICT_BYTES_MAX = 1_048_576;
const LOG_BYTES_MAX = 4_000;

async function main(chromium, server, compression) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "longwire-browser-"));
  const page = fs.readFileSync(path.join(__dirname, "browser.html"));
  const site = await servePage(page);
  const query = new URLSearchParams({ server, compression });
  const browser = startBrowser(chromium, profile, `${site.origin}/?${query}`);
  const stop = () => stopBrowser(browser, profile);
  // A runner that gives up on this script must not leave a browser behind.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      stop().finally(() => process.exit(1));
    });
  }
  try {
    return report(await Promise.race([site.verdict, browser.died, timeLimit()]));
  } catch (error) {
    console.log(`FAILED  Chromium gives a verdict: ${error.message}`);
    console.log(browser.log().trimEnd());
    console.log("0 passed, 1 failed");
    return 1;
  } finally {
    await stop();
  }
}

async function servePage(page) {
  let handleVerdict;
  const verdict = new Promise((resolve) => {
    handleVerdict = resolve;
  });
  const server = http.createServer((request, response) => {
    if (request.method === "POST" && request.url === "/verdict") {
      readBody(request).then((body) => handleVerdict(JSON.parse(body)), () => response.destroy());
      response.end();
    } else if (request.method === "GET" && request.url.startsWith("/?")) {
      response.setHeader("Content-Type", "text/html; charset=utf-8");
      response.end(page);
    } else {
      response.statusCode = 404;
      response.end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, verdict };
}

async function readBody(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > VERDICT_BYTES_MAX) throw new Error("verdict too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function startBrowser(chromium, profile, url) {
  const child = spawn(
    chromium,
    [
      "--headless",
      // The sandbox does not start as root or in most containers; the only page is our own.
      "--no-sandbox",
      "--disable-gpu",
      // Containers often have a /dev/shm of 64 MiB, which a tab can outgrow.
      "--disable-dev-shm-usage",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-proxy-server",
      // The server under test made its certificate when it started.
      "--ignore-certificate-errors",
      `--user-data-dir=${profile}`,
      url,
    ],
    // A process group of its own, so that all of Chromium's processes can be stopped at once.
    { detached: true, stdio: ["ignore", "pipe", "pipe"] },
  );
  let log = "";
  const append = (chunk) => {
    log = (log + chunk).slice(-LOG_BYTES_MAX);
  };
  child.stdout.on("data", append);
  child.stderr.on("data", append);
  const died = new Promise((_, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => reject(new Error(`the browser ended early (${signal ?? code})`)));
  });
  // Nobody listens any more once there is a verdict, and the end of the browser is then no news.
  died.catch(() => {});
  return { pid: child.pid, died, log: () => log };
}

async function stopBrowser(browser, profile) {
  try {
    process.kill(-browser.pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
  await browser.died.catch(() => {});
  // The rest of its process group may still write to the profile for a moment.
  fs.rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}

function timeLimit() {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`none within ${VERDICT_MS_MAX} ms`)), VERDICT_MS_MAX);
  });
}

function report(verdict) {
  const failed = verdict.filter(({ error }) => error !== null).length;
  for (const { name, error } of verdict) {
    console.log(error === null ? `ok      ${name}` : `FAILED  ${name}: ${error}`);
  }
  console.log(`${verdict.length - failed} passed, ${failed} failed`);
  return failed === 0 && verdict.length > 0 ? 0 : 1;
}

if (process.argv.length !== 5) {
  console.error("usage: node browser.js CHROMIUM ws[s]://HOST:PORT/ none|deflate|takeover");
  process.exit(2);
}
main(...process.argv.slice(2)).then((status) => process.exit(status));
