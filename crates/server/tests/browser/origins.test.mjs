// What pages of other origins can do with `gpt2 serve`: nothing. Needs the program (browser.mjs).

import assert from "node:assert/strict";
import { createServer } from "node:http";
import test, { after, before } from "node:test";

import { SIZES, continuations, launch, open, program, real, start, write } from "./browser.mjs";

const needed = { skip: /^https?:|^$/.test(real) ? "needs the program (GPT2_SERVER)" : false };
// Names that are not this server's, but lead to it: what DNS rebinding brings about.
const RULES = "--host-resolver-rules=MAP evil.example 127.0.0.1";

let browser;
let server;
let stranger;

before(async () => {
  if (needed.skip) return;
  server = await start();
  browser = await launch([RULES]);
  stranger = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>Elsewhere</title><p>Elsewhere</p>");
  });
  await new Promise((resolve) => stranger.listen(0, "127.0.0.1", resolve));
});
after(async () => {
  stranger?.close();
  stranger?.closeAllConnections();
  await browser?.close();
  await server?.close();
});

/** A page of someone else, and the answers of the server that its requests got. */
async function elsewhere(host) {
  const page = await browser.newPage();
  const statuses = [];
  page.on("response", (response) => {
    if (response.url().startsWith(server.url)) {
      statuses.push(`${response.request().method()} ${response.status()}`);
    }
  });
  await page.goto(`http://${host}:${stranger.address().port}/`);
  return { page, statuses };
}

const BODY = JSON.stringify({ prompt: "It", max_tokens: 4 });

for (const host of ["127.0.0.1", "localhost", "evil.example"]) {
  test(`a page of another origin gets nothing written: ${host}`, needed, async () => {
    const { page, statuses } = await elsewhere(host);
    const outcomes = await page.evaluate(async ({ url, body }) => {
      const ask = (options) => fetch(`${url}v1/completions`, { method: "POST", body, ...options })
        .then((answer) => `${answer.type} ${answer.status}`, () => "refused");
      return [
        await ask({ headers: { "content-type": "application/json" } }),
        // What a browser sends without asking first.
        await ask({ mode: "no-cors" }),
        await ask({ mode: "no-cors", headers: { "content-type": "text/plain" } }),
        await ask({ mode: "no-cors", body: new URLSearchParams({ prompt: "It" }) }),
        await fetch(`${url}v1/models`).then(() => "read", () => "refused"),
        navigator.sendBeacon(`${url}v1/completions`, body) ? "sent" : "not sent",
      ];
    }, { url: server.url, body: BODY });
    assert.deepEqual(outcomes, ["refused", "opaque 0", "opaque 0", "opaque 0", "refused", "sent"]);
    await page.waitForTimeout(300);
    const posts = statuses.filter((status) => status.startsWith("POST"));
    assert.ok(posts.length >= 3, `${statuses}`);
    for (const status of posts) assert.equal(status, "POST 403");
    await page.close();
  });
}

test("a form of another origin gets nothing written", needed, async () => {
  const { page } = await elsewhere("evil.example");
  const [response] = await Promise.all([
    page.waitForResponse((answer) => answer.url().startsWith(server.url)),
    page.evaluate(({ url, body }) => {
      const form = document.createElement("form");
      const action = `${url}v1/completions`;
      Object.assign(form, { method: "POST", action, enctype: "text/plain" });
      const field = document.createElement("input");
      Object.assign(field, { name: body, value: "" });
      form.append(field);
      document.body.append(form);
      form.submit();
    }, { url: server.url, body: BODY }),
  ]);
  assert.equal(response.status(), 403);
  await page.close();
});

test("a name that was rebound to this machine reaches nothing", needed, async () => {
  const page = await browser.newPage();
  const url = `http://evil.example:${server.port}/`;
  for (const path of ["", "v1/models", "main.js", "metrics"]) {
    const answer = await page.goto(url + path);
    assert.equal(answer.status(), 403, path);
  }
  // From its own origin, as the browser sees it.
  const statuses = await page.evaluate(async (body) => {
    const headers = { "content-type": "application/json" };
    const asked = ["v1/completions", "tokenize", "completion"].map((path) =>
      fetch(`/${path}`, { method: "POST", headers, body }).then(({ status }) => status));
    return Promise.all(asked);
  }, BODY);
  assert.deepEqual(statuses, [403, 403, 403]);
  await page.close();
});

test("the page cannot be framed", needed, async () => {
  const { page } = await elsewhere("evil.example");
  const address = await page.evaluate(async (url) => {
    const frame = document.createElement("iframe");
    frame.src = url;
    document.body.append(frame);
    await new Promise((resolve) => { frame.onload = resolve; });
    return frame.src;
  }, server.url);
  assert.equal(address, server.url);
  const frame = page.frames()[1];
  assert.equal(await frame.evaluate(() => document.querySelector("#text") === null), true);
  await page.close();
});

test("with a key, the page works for whoever has it", needed, async () => {
  const guarded = await program([], { GPT2_API_KEY: "s3cret" });
  try {
    const { status } = await fetch(`${guarded.url}v1/models`);
    assert.equal(status, 401);
    const context = await browser.newContext({
      ...SIZES.desk, httpCredentials: { username: "me", password: "s3cret" },
    });
    const { page, check } = await open(context, guarded.url, /401/);
    await write(page, "It was a dark");
    await page.keyboard.press("Tab");
    assert.equal((await continuations(page)).length, 3);
    check();
    await context.close();
  } finally {
    await guarded.close();
  }
});
