// Drives a headless Chromium over the pipe of its remote control (--remote-debugging-pipe).
//
// Answers for a fresh profile, commands and their answers, tabs, and no process or profile left
// behind. It needs no package: the pipe carries JSON, each message ended by a zero byte.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const COMMAND_MS_MAX = 30_000;
const LOG_BYTES_MAX = 4_000;
const FLAGS = [
  "--headless",
  "--remote-debugging-pipe",
  // The sandbox does not start as root or in most containers; the only page is our own.
  "--no-sandbox",
  "--disable-gpu",
  // Containers often have a /dev/shm of 64 MiB, which a tab can outgrow.
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-proxy-server",
  "--hide-scrollbars",
  // Two tabs cannot both be in front, and those behind have slow timers.
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

class Chromium {
  constructor(program) {
    this.profile = fs.mkdtempSync(path.join(os.tmpdir(), "longwire-page-"));
    this.process = spawn(program, [...FLAGS, `--user-data-dir=${this.profile}`, "about:blank"], {
      // A process group of its own, so that all of Chromium's processes can be stopped at once.
      detached: true,
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
    });
    this.log = "";
    this.process.stderr.on("data", (chunk) => {
      this.log = (this.log + chunk).slice(-LOG_BYTES_MAX);
    });
    this.waiting = new Map();
    this.tabs = new Map();
    this.commands = 0;
    this.died = new Promise((resolve) => {
      this.process.on("error", (error) => resolve(error));
      this.process.on("exit", (code, signal) => resolve(new Error(`the browser ended (${signal ?? code})`)));
    });
    this.died.then((error) => {
      for (const { reject } of this.waiting.values()) reject(error);
    });
    this.pipe = this.process.stdio[3];
    // Its end is told by `died`.
    this.pipe.on("error", () => {});
    this.read(this.process.stdio[4]);
  }

  read(stream) {
    let rest = Buffer.alloc(0);
    stream.on("error", () => {});
    stream.on("data", (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
        this.handle(JSON.parse(rest.toString("utf8", 0, end)));
        rest = rest.subarray(end + 1);
      }
    });
  }

  handle(message) {
    if (message.id === undefined) {
      this.tabs.get(message.sessionId)?.handle(message.method, message.params);
      return;
    }
    const { resolve, reject } = this.waiting.get(message.id) ?? {};
    this.waiting.delete(message.id);
    if (message.error) reject?.(new Error(message.error.message));
    else resolve?.(message.result);
  }

  command(method, params = {}, sessionId = undefined) {
    this.commands += 1;
    const id = this.commands;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${method}: no answer within ${COMMAND_MS_MAX} ms`)), COMMAND_MS_MAX);
      const settled = (settle) => (value) => {
        clearTimeout(late);
        settle(value);
      };
      this.waiting.set(id, { resolve: settled(resolve), reject: settled(reject) });
      this.pipe.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  async open(name, url, { width, height }) {
    const { targetId } = await this.command("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.command("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab(this, sessionId, name);
    this.tabs.set(sessionId, tab);
    for (const domain of ["Runtime", "Log", "Page"]) await tab.command(`${domain}.enable`);
    await tab.resize(width, height);
    // Focus as in a window of its own, whichever tab came last.
    await tab.command("Emulation.setFocusEmulationEnabled", { enabled: true });
    await tab.command("Page.navigate", { url });
    return tab;
  }

  async stop() {
    try {
      process.kill(-this.process.pid, "SIGKILL");
    } catch {
      // It is gone already.
    }
    await this.died;
    // The rest of its process group may still write to the profile for a moment.
    fs.rmSync(this.profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

class Tab {
  constructor(browser, sessionId, name) {
    Object.assign(this, { browser, sessionId, name });
    // What no check expects: exceptions of the page, and what its security policy stopped.
    this.faults = [];
  }

  command(method, params) {
    return this.browser.command(method, params, this.sessionId);
  }

  handle(method, params) {
    if (method === "Runtime.exceptionThrown") {
      const { exception, text } = params.exceptionDetails;
      this.faults.push(exception?.description ?? text);
    } else if (method === "Log.entryAdded" && /Content Security Policy/.test(params.entry.text)) {
      this.faults.push(params.entry.text);
    }
  }

  resize(width, height) {
    return this.command("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  }

  async evaluate(expression) {
    const { result, exceptionDetails } = await this.command("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  text(selector) {
    return this.evaluate(`document.querySelector(${JSON.stringify(selector)})?.textContent ?? ""`);
  }

  // A real click, at the middle of what is there: what is covered or disabled is not pressed.
  async click(selector) {
    const [x, y] = await this.evaluate(`(() => {
      const node = document.querySelector(${JSON.stringify(selector)});
      node.scrollIntoView({ block: "nearest" });
      const box = node.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    })()`);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.command("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
    }
  }

  async press(key, text = undefined) {
    const code = { Enter: 13, Tab: 9 }[key];
    const params = { key, code: key, windowsVirtualKeyCode: code, text };
    await this.command("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...params });
    await this.command("Input.dispatchKeyEvent", { type: "keyUp", ...params, text: undefined });
  }

  // Types as somebody at the keyboard, over what stands in the field.
  async type(selector, text) {
    await this.click(selector);
    await this.evaluate(`document.activeElement.select()`);
    await this.command("Input.insertText", { text });
  }

  async screenshot(file) {
    // A tab behind another is not painted.
    await this.command("Page.bringToFront");
    const { data } = await this.command("Page.captureScreenshot", { format: "png" });
    fs.writeFileSync(file, Buffer.from(data, "base64"));
  }
}

module.exports = { Chromium };
