// What the browser tests share: the browser, a server, and what must never happen on the page.
//
// GPT2_NODE_MODULES: a folder with playwright-core and axe-core. GPT2_CHROMIUM: the browser.
// GPT2_SERVER: the program `gpt2`, or the address of a server; without it the stand-in is used.
// GPT2_SCREENSHOTS: a folder for pictures.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { join, resolve as absolute } from "node:path";

import { serve as serveMock } from "./mock.mjs";

const modules = process.env.GPT2_NODE_MODULES ?? "node_modules";
const require = createRequire(absolute(modules, "from-here.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf-8");

export const real = process.env.GPT2_SERVER ?? "";
const pictures = process.env.GPT2_SCREENSHOTS ?? "";

/** A port that nobody uses. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** `gpt2 serve`, once it answers. */
export async function program(extra = [], environment = {}) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/`;
  const child = spawn(real, ["serve", "--port", String(port), ...extra], {
    env: { ...process.env, ...environment }, stdio: ["ignore", "inherit", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf-8");
  child.stderr.on("data", (text) => { said += text; });
  for (let tries = 0; ; tries++) {
    if (child.exitCode !== null || tries > 300) throw new Error(`it did not start: ${said}`);
    const ready = await fetch(`${url}health`).then((answer) => answer.ok, () => false);
    if (ready) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const close = () => new Promise((resolve) => {
    if (child.exitCode !== null) return resolve(child.exitCode);
    child.once("exit", resolve);
    child.kill("SIGTERM");
  });
  return { url, port, state: null, reset: () => {}, close };
}

/** The server under test; `state` is null unless it is the stand-in. */
export async function start() {
  if (/^https?:/.test(real)) {
    const port = Number(new URL(real).port || 80);
    return { url: real, port, state: null, reset: () => {}, close: async () => {} };
  }
  return real ? program() : serveMock();
}

export const launch = (extra = []) => chromium.launch({
  executablePath: process.env.GPT2_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", ...extra],
});

export const SIZES = {
  desk: { viewport: { width: 1280, height: 800 } },
  phone: {
    viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2,
  },
  small: {
    viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2,
  },
};

/**
 * A page, watched: `check` fails on errors, violations of the policy, and requests to others.
 * `expected`: a pattern of what the browser itself says of answers that are no success.
 */
export async function open(context, url, expected = null) {
  const page = await context.newPage();
  const wrong = [];
  const origin = new URL(url).origin;
  page.on("pageerror", (error) => wrong.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    const text = message.text();
    const known = expected?.test(text) || /ERR_ABORTED/.test(text);
    if (["error", "warning"].includes(message.type()) && !known) wrong.push(text);
  });
  page.on("request", (request) => {
    const to = request.url();
    if (!to.startsWith(origin) && !/^(data|blob):/.test(to)) wrong.push(`request to ${to}`);
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  await page.goto(url);
  await page.locator("#text:not([disabled])").waitFor();
  return { page, check: () => assert.deepEqual(wrong, []) };
}

/** Writes at the end of the text. */
export async function write(page, text) {
  await page.locator("#text").focus();
  await page.keyboard.insertText(text);
}

export const value = (page) => page.inputValue("#text");

/** The continuations, once they are all there. */
export async function continuations(page) {
  await page.locator("#suggestions[aria-busy=false]").waitFor();
  return page.locator("#suggestions [role=option]:visible .option-text").allTextContents();
}

/** As the page shows white space. */
export const shown = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥");

/** What axe finds on the page as it is. */
export async function accessible(page, state) {
  await page.evaluate(`if (!window.axe) { ${axe} }`);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return violations.map(({ id, help, nodes }) =>
      `${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`);
  });
  assert.deepEqual(found, [], state);
}

/** Nothing is wider than the window. */
export async function fits(page, state) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${state}: ${wide} pixels too wide`);
}

export async function picture(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}
