// The editor page in a browser: `node --test page.test.mjs` (see browser.mjs for what it needs).
// What needs the stand-in's tricks is left out against a real server.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test, { after, afterEach, before } from "node:test";

import {
  SIZES, accessible, continuations, fits, launch, open, picture, real, shown, start, value, write,
} from "./browser.mjs";

const TEXT = "It was a dark night, and the old house stood alone upon the hill. Nobody";
const mock = { skip: real ? "needs the stand-in" : false };

let browser;
let server;
const contexts = [];

before(async () => {
  server = await start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
afterEach(async () => {
  for (const context of contexts.splice(0)) await context.close();
  server.reset();
});

/** A page of its own storage. */
async function fresh(options = SIZES.desk, expected = null) {
  const context = await browser.newContext(options);
  contexts.push(context);
  return { context, ...await open(context, server.url, expected) };
}

const chosen = (page) =>
  page.locator("#text").getAttribute("aria-activedescendant");
const popup = (page) => page.locator("#popup").isVisible();
const until = (page, condition, argument) =>
  page.waitForFunction(condition, argument, { timeout: 10_000 });
const saved = (page) => page.locator("#saved", { hasText: "Saved" }).waitFor();

test("Tab brings three continuations, arrow keys and Enter take one", async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  const found = await continuations(page);
  assert.equal(found.length, 3);
  assert.equal(await chosen(page), null);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.equal(await chosen(page), "option-1");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  assert.equal(await chosen(page), "option-2");
  await page.keyboard.press("Enter");
  assert.equal(shown(await value(page)), shown(TEXT) + found[2]);
  assert.equal(await popup(page), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "text");
  const caret = await page.locator("#text").evaluate((area) => area.selectionStart);
  assert.equal(caret, (await value(page)).length);
  check();
});

test("1, 2 and 3 take, Tab takes the chosen one, Control and Space ask", async () => {
  const { page, check } = await fresh();
  let expected = TEXT;
  await write(page, TEXT);
  for (const key of ["1", "2", "3"]) {
    await page.keyboard.press("Control+Space");
    const found = await continuations(page);
    await page.keyboard.press(key);
    expected += found[Number(key) - 1];
    assert.equal(shown(await value(page)), expected);
  }
  await page.keyboard.press("Tab");
  const found = await continuations(page);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  assert.equal(shown(await value(page)), expected + found[0]);
  check();
});

test("a mouse takes, and the focus stays in the text", async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  await page.locator("#continue").click();
  const found = await continuations(page);
  await page.locator("#option-1").click();
  assert.equal(shown(await value(page)), TEXT + found[1]);
  assert.equal(await page.evaluate(() => document.activeElement.id), "text");
  check();
});

test("a finger takes, one word and wholly", async () => {
  const { page, check } = await fresh(SIZES.phone);
  await page.locator("#text").tap();
  await page.keyboard.insertText(TEXT);
  await page.locator("#continue").tap();
  const found = await continuations(page);
  await page.locator("#take-word").tap();
  const word = /^\s*\S+/.exec(found[0])[0];
  assert.equal(await value(page), TEXT + word);
  assert.deepEqual(await continuations(page), [found[0].slice(word.length)]);
  await page.locator("#option-0").tap();
  assert.equal(shown(await value(page)), TEXT + found[0]);
  await page.locator("#continue").tap();
  await continuations(page);
  await page.locator("#close-popup").tap();
  assert.equal(await popup(page), false);
  check();
});

test("the right arrow takes one word after the other", async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  const found = await continuations(page);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const [first, second] = found[1].match(/\s*\S+/g);
  await page.keyboard.press("ArrowRight");
  assert.equal(await value(page), TEXT + first);
  await page.keyboard.press("ArrowRight");
  assert.equal(shown(await value(page)), TEXT + first + second);
  assert.equal(await popup(page), true);
  check();
});

test("Tab again brings three others, longer", async () => {
  const { page, check } = await fresh();
  const asked = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/v1/completions")) asked.push(request.postDataJSON());
  });
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  const first = await continuations(page);
  await page.keyboard.press("Tab");
  await until(page, (before) =>
    document.querySelector("#suggestions").getAttribute("aria-busy") === "false" &&
    document.querySelector("#option-0 .option-text").textContent !== before, first[0]);
  const second = await continuations(page);
  assert.equal(second.length, 3);
  assert.notDeepEqual(second, first);
  assert.equal(asked[1].max_tokens, 2 * asked[0].max_tokens);
  const length = (texts) => texts.join("").length;
  assert.ok(length(second) > length(first));
  // Also with one chosen.
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Control+Space");
  await continuations(page);
  assert.equal(asked[2].max_tokens, 4 * asked[0].max_tokens);
  assert.equal(await value(page), TEXT);
  assert.deepEqual(
    { stream: asked[0].stream, n: asked[0].n, usage: asked[0].stream_options.include_usage },
    { stream: true, n: 3, usage: true },
  );
  check();
});

test("Escape closes, and then Tab and Shift Tab move the focus", async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  await continuations(page);
  await page.keyboard.press("Escape");
  assert.equal(await popup(page), false);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "continue");
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "text");
  // Coming back, Tab is the page's again; Shift Tab never is.
  await page.keyboard.press("Tab");
  assert.equal(await popup(page), true);
  await page.keyboard.press("Shift+Tab");
  assert.notEqual(await page.evaluate(() => document.activeElement.id), "text");
  assert.equal(await popup(page), false);
  check();
});

test("typing on closes the list and ends the request", mock, async () => {
  const { page, check } = await fresh();
  server.state.delay = 200;
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  await until(page, () => document.querySelector("#option-2 .option-text")?.textContent);
  await page.keyboard.type(" x");
  assert.equal(await popup(page), false);
  assert.equal(await value(page), `${TEXT} x`);
  for (let tries = 0; server.state.cancelled === 0 && tries < 50; tries++) {
    await page.waitForTimeout(50);
  }
  assert.equal(server.state.cancelled, 1);
  check();
});

test("continuations can be taken while they are written", mock, async () => {
  const { page, check } = await fresh();
  server.state.delay = 100;
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  await until(page, () => document.querySelector("#option-0 .option-text")?.textContent.length > 8);
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  const begun = await value(page);
  assert.ok(begun.length > TEXT.length);
  await until(page, () => document.querySelector("#option-0 .option-text")?.textContent.length > 8);
  await page.keyboard.press("Enter");
  const taken = await value(page);
  assert.ok(taken.startsWith(begun) && taken.length > begun.length, taken);
  check();
});

test("a space that is typed already is not doubled", mock, async () => {
  const { page, check } = await fresh();
  await write(page, `${TEXT} `);
  await page.keyboard.press("Tab");
  const found = await continuations(page);
  await page.keyboard.press("1");
  const text = await value(page);
  assert.ok(text.startsWith(`${TEXT} `) && !text.includes("  "), text);
  assert.ok(!found[0].startsWith(" "));
  assert.equal(server.state.requests.at(-1).body.prompt, TEXT);
  check();
});

test("the caret may be in the middle, and the text may be empty", async () => {
  const { page, check } = await fresh();
  await page.locator("#text").focus();
  await page.keyboard.press("Tab");
  assert.equal((await continuations(page)).length, 3);
  await page.keyboard.press("Escape");
  await page.keyboard.insertText("Before. After.");
  await page.locator("#text").evaluate((area) => area.setSelectionRange(7, 7));
  await page.keyboard.press("Tab");
  const [first] = await continuations(page);
  await page.keyboard.press("1");
  assert.equal(shown(await value(page)), `Before.${first} After.`);
  check();
});

test("settings are sent, checked, kept", async () => {
  const { page, check } = await fresh();
  await page.locator("#show-settings").click();
  const fill = (name, text) => page.locator(`#settings-form [name=${name}]`).fill(text);
  await fill("temperature", "0.5");
  await fill("topP", "0.8");
  await fill("topK", "40");
  await fill("length", "12");
  await fill("time", "20");
  await fill("seed", "7");
  await fill("stop", "THE END\n\\n\\n");
  await fill("temperature", "9");
  await page.getByText("Expected a number from 0 to 2.").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "show-settings");
  const ask = async () => {
    const [request] = await Promise.all([
      page.waitForRequest(/v1\/completions/), page.keyboard.press("Control+Space"),
    ]);
    return request.postDataJSON();
  };
  await write(page, TEXT);
  const body = await ask();
  const first = await continuations(page);
  const { temperature, top_p, top_k, max_tokens, max_time, seed, stop } = body;
  assert.deepEqual(
    [temperature, top_p, top_k, max_tokens, max_time, seed, stop],
    [0.5, 0.8, 40, 12, 20, 7, ["THE END", "\n\n"]],
  );
  await saved(page);
  await page.reload();
  await page.locator("#text:not([disabled])").waitFor();
  await page.locator("#text").focus();
  assert.deepEqual(await ask(), body);
  // The same seed, the same continuations.
  assert.deepEqual(await continuations(page), first);
  await page.keyboard.press("Escape");
  await page.locator("#show-settings").click();
  await page.locator("#settings-reset").click();
  assert.equal(await page.locator("[name=seed]").inputValue(), "");
  assert.equal(await page.locator("[name=temperature]").inputValue(), "0.9");
  check();
});

test("at temperature 0 there is one continuation", async () => {
  const { page, check } = await fresh();
  await page.locator("#show-settings").click();
  await page.locator("[name=temperature]").fill("0");
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  assert.equal((await continuations(page)).length, 1);
  check();
});

test("a text longer than the context loses its beginning, the text in front stays", async () => {
  const { page, check } = await fresh();
  await page.locator("#show-settings").click();
  await page.locator("[name=front]").fill("Alice is a cat.");
  const long = "The rain fell upon the hills, and nobody came. ".repeat(300);
  await write(page, `${long}Then the door`);
  const [request] = await Promise.all([
    page.waitForRequest(/v1\/completions/), page.keyboard.press("Tab"),
  ]);
  const { prompt } = request.postDataJSON();
  assert.ok(prompt.startsWith("Alice is a cat.\nThe rain fell"), prompt.slice(0, 60));
  assert.ok(prompt.endsWith("nobody came. Then the door"), prompt.slice(-60));
  assert.ok(prompt.length > 1_000 && prompt.length < long.length);
  assert.equal((await continuations(page)).length, 3);
  await page.locator("#context-text", { hasText: "beginning left out" }).waitFor();
  check();
});

test("look inside: tokens, alternatives, a fork, undo", async () => {
  const { page, check } = await fresh();
  await write(page, `${TEXT} — café 😀\n\nNext.`);
  const text = await value(page);
  await page.locator("#show-inside").click();
  const tokens = page.locator("#tokens [role=option]");
  await tokens.first().waitFor();
  assert.ok(await tokens.count() > 10);
  const whole = await page.locator("#tokens").textContent();
  assert.equal(whole.replace(/[⏎·]/g, ""), text);
  assert.ok((await page.locator("#inside-summary").textContent()).includes("perplexity"));
  assert.equal(await page.evaluate(() => document.activeElement.id), "tokens");
  for (let step = 0; step < 4; step++) await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("#tokens").getAttribute("aria-activedescendant"), "token-5");
  const buttons = page.locator("#alternatives button");
  const count = await buttons.count();
  assert.ok(count >= 10 && count <= 11, `${count}`);
  const chances = (await page.locator("#alternatives .chance").allTextContents()).map(parseFloat);
  assert.deepEqual(chances, [...chances].sort((one, two) => two - one));
  // Another word than the one in the text.
  const other = page.locator("#alternatives button:not(.here):enabled").first();
  const word = await other.locator(".word").textContent();
  const before = (await tokens.nth(5).evaluate((token) => {
    let found = "";
    for (let node = token.previousSibling; node; node = node.previousSibling) {
      found = node.textContent + found;
    }
    return found;
  })).replace(/ $/, "");
  await page.keyboard.press("Enter");
  await other.focus();
  await page.keyboard.press("Enter");
  const forked = await value(page);
  assert.ok(forked.startsWith(before) && shown(forked).trimEnd().endsWith(word.trim()), forked);
  assert.ok(forked.length < text.length);
  assert.equal(await page.evaluate(() => document.activeElement.id), "text");
  await page.keyboard.press("Control+z");
  assert.equal(await value(page), text);
  await page.keyboard.press("Control+Shift+z");
  assert.equal(await value(page), forked);
  await page.keyboard.press("Control+z");
  await page.locator("#show-inside").click();
  await tokens.first().waitFor();
  await tokens.nth(2).click();
  assert.equal(await page.locator("#tokens").getAttribute("aria-activedescendant"), "token-2");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#inside").isVisible(), false);
  check();
});

test("undo and redo by keys and buttons, the tree by keyboard", async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  await continuations(page);
  await page.keyboard.press("1");
  const first = await value(page);
  await page.keyboard.press("Control+z");
  assert.equal(await value(page), TEXT);
  await page.keyboard.press("Tab");
  await continuations(page);
  await page.keyboard.press("2");
  const second = await value(page);
  await page.locator("#undo").click();
  assert.equal(await value(page), TEXT);
  await page.locator("#redo").click();
  assert.equal(await value(page), second);
  await page.locator("#show-history").click();
  const items = page.locator("#tree [role=treeitem]");
  assert.equal(await items.count(), 4);
  assert.deepEqual(
    await items.evaluateAll((all) => all.map((item) => item.getAttribute("aria-level"))),
    ["1", "1", "2", "1"],
  );
  await page.locator("#tree [aria-selected=true]").focus();
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  assert.equal(await value(page), first);
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Enter");
  assert.equal(await value(page), TEXT);
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  assert.equal(await value(page), "");
  assert.equal(await page.locator("#undo").isDisabled(), true);
  await page.keyboard.press("End");
  await page.keyboard.press(" ");
  assert.equal(await value(page), second);
  check();
});

test("a reload brings back the text, its history and the caret's undo, even at once", async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  await continuations(page);
  await page.keyboard.press("1");
  await saved(page);
  await page.keyboard.type(" and");
  // Not saved yet.
  const text = await value(page);
  await page.reload();
  await page.locator("#text:not([disabled])").waitFor();
  assert.equal(await value(page), text);
  await page.locator("#text").focus();
  await page.keyboard.press("Control+z");
  await page.keyboard.press("Control+z");
  assert.equal(await value(page), TEXT);
  check();
});

test("a browser that is closed at once keeps what was saved; another tab opens it", async () => {
  const { page, context } = await fresh();
  await write(page, TEXT);
  await page.close({ runBeforeUnload: false });
  const again = await open(context, server.url);
  assert.equal(await value(again.page), TEXT);
  again.check();
});

test("two tabs with one text lose nothing", async () => {
  const { page, context, check } = await fresh();
  await write(page, "Common. ");
  await saved(page);
  const other = await open(context, server.url);
  assert.equal(await value(other.page), "Common. ");
  await write(page, "From the first tab.");
  await saved(page);
  await write(other.page, "From the second tab.");
  await other.page.getByText("This tab goes on with a copy").waitFor();
  await saved(other.page);
  for (const [tab, text] of [[page, "first"], [other.page, "second"]]) {
    await tab.reload();
    await tab.locator("#text:not([disabled])").waitFor();
    assert.equal(await value(tab), `Common. From the ${text} tab.`);
  }
  await page.locator("#show-texts").click();
  await until(page, () => document.querySelectorAll("#text-list li").length === 2);
  check();
  other.check();
});

test("texts: new, open, delete", async () => {
  const { page, check } = await fresh();
  await write(page, "The first text.");
  await page.locator("#show-texts").click();
  await page.locator("#new-text").click();
  await until(page, () => document.querySelector("#text").value === "");
  await write(page, "The second text.");
  await page.locator("#show-texts").click();
  await page.locator("#show-texts").click();
  await page.getByRole("button", { name: /^The first text/ }).click();
  await until(page, () => document.querySelector("#text").value === "The first text.");
  page.once("dialog", (dialog) => void dialog.accept());
  await page.getByRole("button", { name: "Delete “The first text.”" }).click();
  await until(page, () => document.querySelector("#text").value === "The second text.");
  await until(page, () => document.querySelectorAll("#text-list li").length === 1);
  check();
});

test("export and import, with checks", async () => {
  const { page, check } = await fresh();
  await write(page, "Old text é\n");
  await page.keyboard.press("Control+z");
  await page.keyboard.press("Control+Shift+z");
  await page.locator("#show-texts").click();
  const exported = async (id) => {
    const [download] = await Promise.all([
      page.waitForEvent("download"), page.locator(id).click(),
    ]);
    const content = await readFile(await download.path());
    return { name: download.suggestedFilename(), content };
  };
  const plain = await exported("#export-txt");
  assert.equal(plain.name, "Old text é.txt".normalize("NFKD").replace(/\u0301/, ""));
  assert.equal(plain.content.toString("utf-8"), "Old text é\n");
  const whole = await exported("#export-json");
  const give = (name, content) => page.locator("#import-file").setInputFiles({
    name, mimeType: "application/octet-stream", buffer: Buffer.from(content),
  });
  await page.locator("#new-text").click();
  await until(page, () => document.querySelector("#text").value === "");
  await give("a.json", whole.content);
  await until(page, () => document.querySelector("#text").value === "Old text é\n");
  await page.locator("#undo").click();
  assert.equal(await value(page), "");
  await give("a.txt", "\ufeffone\r\ntwo <b>three</b>");
  await until(page, () => document.querySelector("#text").value === "one\ntwo <b>three</b>");
  for (const [name, content] of [
    ["bad.json", "{"], ["bad.json", '{"format":"gpt2-edge text","version":1,"history":[]}'],
    ["bad.txt", Buffer.from([0xff, 0xfe, 0x00])],
    ["bad.json", whole.content.toString("utf-8").replace(/"at": 0/g, '"at": 77')],
  ]) {
    await give(name, content);
    await page.locator("#alert-text", { hasText: "cannot be imported" }).waitFor();
    await page.locator("#alert-close").click();
    assert.equal(await value(page), "one\ntwo <b>three</b>");
  }
  check();
});

test("what is typed as markup stays text", async () => {
  const { page, check } = await fresh();
  const text = "<img src=x onerror=alert(1)><script>alert(2)</script> night";
  await write(page, text);
  await page.keyboard.press("Tab");
  await continuations(page);
  await page.keyboard.press("Escape");
  await page.locator("#show-history").click();
  await page.locator("#show-texts").click();
  await page.locator("#text-list li").first().waitFor();
  await page.locator("#show-inside").click();
  await page.locator("#alternatives li").first().waitFor();
  assert.equal(await page.locator("main img, aside img, main script").count(), 0);
  check();
});

test("a busy server is asked again, with a countdown", mock, async () => {
  const { page } = await fresh(SIZES.desk, /429/);
  Object.assign(server.state, { busy: 2, retryAfter: 1 });
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  await page.getByText("The server is busy. Trying again in 1 s.").waitFor();
  await accessible(page, "busy");
  await picture(page, "busy");
  assert.equal((await continuations(page)).length, 3);
  // Escape ends the waiting.
  Object.assign(server.state, { busy: 100, retryAfter: 30 });
  await page.keyboard.press("Tab");
  await page.getByText(/Trying again in/).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await popup(page), false);
});

test("a key is asked for, kept in this tab only", mock, async () => {
  server.state.key = "s3cret";
  const { page, context } = await fresh(SIZES.desk, /401/);
  await page.locator("#key-dialog").waitFor();
  await accessible(page, "key");
  await picture(page, "key");
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await page.locator("#key-dialog[open]").waitFor();
  await until(page, () => document.querySelector("#key-value").value === "wrong");
  await page.locator("#key-value").fill("s3cret");
  await page.keyboard.press("Enter");
  await page.locator("#model", { hasText: "austen" }).waitFor();
  await write(page, TEXT);
  await page.keyboard.press("Tab");
  assert.equal((await continuations(page)).length, 3);
  await saved(page);
  const kept = await page.evaluate(async () => {
    const databases = await indexedDB.databases();
    return JSON.stringify([{ ...localStorage }, databases, document.cookie]);
  });
  assert.ok(!kept.includes("s3cret"));
  await page.reload();
  await page.locator("#model", { hasText: "austen" }).waitFor();
  assert.equal(await page.locator("#key-dialog").isVisible(), false);
  const other = await open(context, server.url, /401/);
  await other.page.locator("#key-dialog").waitFor();
  await other.page.getByRole("button", { name: "Cancel" }).click();
  await other.page.getByText("The server wants a key.", { exact: true }).waitFor();
});

test("a server that stops, breaks or is gone is said in words", mock, async () => {
  const { page, context } = await fresh(SIZES.desk, /ERR_|Failed to load/);
  await write(page, TEXT);
  server.state.stop = 3;
  await page.keyboard.press("Tab");
  await page.getByText("The server stopped: the worker is lost").waitFor();
  // What came can be taken.
  await page.keyboard.press("1");
  const text = await value(page);
  assert.ok(text.length > TEXT.length);
  Object.assign(server.state, { stop: null, cut: 2 });
  await page.keyboard.press("Tab");
  await page.getByText("The connection to the server broke.").waitFor();
  await page.keyboard.press("Escape");
  Object.assign(server.state, { cut: null, refuse: "top_p: expected at most 1, found <b>2</b>" });
  await page.keyboard.press("Control+Space");
  await page.getByText("The server refused: top_p: expected at most 1, found <b>2</b>").waitFor();
  server.state.refuse = null;
  await context.setOffline(true);
  await page.locator("#alert-action").click();
  await page.getByText("The server does not answer.").waitFor();
  await accessible(page, "gone");
  await picture(page, "gone");
  assert.equal(await popup(page), false);
  await context.setOffline(false);
  await page.locator("#alert-action").click();
  assert.equal((await continuations(page)).length, 3);
  assert.equal(await page.locator("#alert").isVisible(), false);
  await page.keyboard.press("Escape");
  assert.equal(await value(page), text);
});

test("a server that does not answer can be left", mock, async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  server.state.hang = true;
  await page.keyboard.press("Tab");
  await page.getByText("The model reads").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await popup(page), false);
  await page.locator("#show-inside").click();
  await page.locator("#show-inside").click();
  assert.equal(await page.locator("#text").isVisible(), true);
  check();
});

test("tokens a second and the context used are shown", async () => {
  const { page, check } = await fresh();
  await write(page, TEXT);
  await page.locator("#context-text", { hasText: /^\d+ of [\d,]+ tokens$/ }).waitFor();
  await page.keyboard.press("Tab");
  await continuations(page);
  await page.locator("#speed", { hasText: /^[\d.,]+ tokens\/s$/ }).waitFor();
  check();
});

test("the list does not leave the paper, wherever the caret is", mock, async () => {
  for (const size of [SIZES.desk, SIZES.phone, SIZES.small]) {
    const { page, check } = await fresh(size);
    await write(page, "A line of a poem\n".repeat(80));
    const { length } = await value(page);
    for (const at of [0, Math.floor(length / 2), length]) {
      await page.locator("#text").evaluate((area, to) => area.setSelectionRange(to, to), at);
      await page.keyboard.press("Control+Space");
      await continuations(page);
      const [list, paper] = await Promise.all(
        ["#popup", "#writer"].map((id) => page.locator(id).boundingBox()),
      );
      assert.ok(list.y >= paper.y && list.y + list.height <= paper.y + paper.height + 1,
        JSON.stringify({ size: size.viewport, at, list, paper }));
      await page.keyboard.press("Escape");
    }
    check();
  }
});

/** Every state of the page: a name, and how to get there from writing. */
const STATES = [
  ["empty", async () => {}],
  ["text", (page) => write(page, `${TEXT} `)],
  ["continuations", async (page) => {
    await page.keyboard.press("Control+Space");
    await continuations(page);
  }],
  ["chosen", (page) => page.keyboard.press("ArrowDown")],
  ["inside", async (page) => {
    await page.keyboard.press("Enter");
    await page.locator("#show-inside").click();
    await page.locator("#alternatives li").first().waitFor();
  }],
  ["history", async (page) => {
    await page.locator("#alternatives button:enabled:not(.here)").first().click();
    await page.keyboard.press("Control+z");
    await page.keyboard.press("Control+z");
    await page.keyboard.type("Somebody knocked.");
    await page.locator("#show-history").click();
    await page.locator("#tree [role=treeitem]").first().waitFor();
  }],
  ["texts", async (page) => {
    await page.locator("#show-texts").click();
    await page.locator("#text-list li").first().waitFor();
  }],
  ["settings", async (page) => {
    await page.locator("#show-settings").click();
    await page.locator("[name=topP]").fill("2");
    await page.locator("#topP-wrong", { hasText: "Expected" }).waitFor();
  }],
  ["keys", (page) => page.locator("#show-keys").click()],
];

for (const [name, options] of [
  ["light", SIZES.desk],
  ["dark", { ...SIZES.desk, colorScheme: "dark" }],
  ["forced", { ...SIZES.desk, forcedColors: "active" }],
  ["phone", SIZES.phone],
  ["phone-dark", { ...SIZES.phone, colorScheme: "dark" }],
  ["320", SIZES.small],
]) {
  test(`axe finds nothing and nothing is too wide: ${name}`, async () => {
    const { page, check } = await fresh({ ...options, reducedMotion: "reduce" });
    await page.locator("#model").waitFor();
    for (const [state, reach] of STATES) {
      await reach(page);
      await fits(page, `${name}, ${state}`);
      await accessible(page, `${name}, ${state}`);
      await picture(page, `${name}-${state}`);
    }
    const moving = await page.evaluate(() => document.getAnimations().length);
    assert.equal(moving, 0);
    check();
  });
}

test("everything is reached by keyboard alone", async () => {
  const { page, check } = await fresh();
  await page.locator("#text").focus();
  const seen = new Set();
  await page.keyboard.type("Night");
  await page.keyboard.press("Escape");
  for (let step = 0; step < 12; step++) {
    await page.keyboard.press("Tab");
    seen.add(await page.evaluate(() => document.activeElement.id));
    if (seen.has("text")) break;
  }
  for (const id of ["continue", "undo", "show-texts", "show-history", "show-inside",
    "show-settings", "show-keys", "text"]) {
    assert.ok(seen.has(id), `${id} is not reached: ${[...seen]}`);
  }
  check();
});
