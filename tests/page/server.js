// `longwire serve` on fixed ports, so that it can be stopped and come back at the same place.
//
// Answers for free ports, for a server that is ready when `start` returns, and for one that ends in
// time and well when it is told to.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");

const START_MS_MAX = 10_000;
const STOP_MS_MAX = 15_000;

class Server {
  constructor(program, logFile, dataPort, adminPort) {
    Object.assign(this, { program, logFile, dataPort, adminPort, process: null });
    this.page = `http://127.0.0.1:${adminPort}/`;
    this.topics = `ws://127.0.0.1:${dataPort}/topics/`;
    fs.writeFileSync(logFile, "");
  }

  async start() {
    const log = fs.openSync(this.logFile, "a");
    const args = ["serve", "--listen", `127.0.0.1:${this.dataPort}`, "--admin", `127.0.0.1:${this.adminPort}`, "--drain-time", "0s"];
    this.process = spawn(this.program, args, {
      stdio: ["ignore", log, log],
      env: { ...process.env, NO_COLOR: "1" },
    });
    fs.closeSync(log);
    this.ended = new Promise((resolve) => {
      this.process.on("error", (error) => resolve(error.message));
      this.process.on("exit", (code, signal) => resolve(signal ?? code));
    });
    let early;
    this.ended.then((status) => { early = status; });
    for (const end = Date.now() + START_MS_MAX; Date.now() < end; await sleep(50)) {
      if (early !== undefined) throw new Error(`the server ended by itself (${early}); see ${this.logFile}`);
      const answer = await fetch(`${this.page}stats.json`).catch(() => null);
      if (answer?.ok) return;
    }
    throw new Error(`the server did not answer within ${START_MS_MAX} ms; see ${this.logFile}`);
  }

  async stop() {
    const late = sleep(STOP_MS_MAX).then(() => "late");
    this.process.kill("SIGTERM");
    const status = await Promise.race([this.ended, late]);
    if (status !== 0) throw new Error(`the server ended with ${status} on SIGTERM; see ${this.logFile}`);
    this.process = null;
  }

  kill() {
    this.process?.kill("SIGKILL");
  }

  stats() {
    return fetch(`${this.page}stats.json`).then((answer) => answer.json());
  }

  publish(topic, body) {
    return fetch(`${this.page}topics/${topic}`, { method: "POST", body });
  }
}

// Two ports that are free now; nobody else is likely to ask for them before the server does.
async function freePorts() {
  const holders = [net.createServer(), net.createServer()];
  for (const holder of holders) {
    await new Promise((resolve) => holder.listen(0, "127.0.0.1", resolve));
  }
  const ports = holders.map((holder) => holder.address().port);
  for (const holder of holders) await new Promise((resolve) => holder.close(resolve));
  return ports;
}

function sleep(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}

module.exports = { Server, freePorts, sleep };
