// The parts of the page that need no browser: history, files, prompts that fit, events, settings.
// `node --test unit.test.mjs`

import assert from "node:assert/strict";
import test from "node:test";

import { asJson, fileName, fromJson, fromText } from "../../page/files.js";
import { beginning, fit } from "../../page/fit.js";
import { History, MOST_STATES, difference } from "../../page/history.js";
import { tokensOf } from "../../page/inside.js";
import { checked, DEFAULTS, sampling, stops } from "../../page/settings.js";
import { events } from "../../page/sse.js";
import { firstWord } from "../../page/suggestions.js";
import { rows } from "../../page/tree.js";

/** Numbers below `most` that follow from a seed. */
function dice(seed) {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
}

test("a difference makes the one text of the other", () => {
  const roll = dice(1);
  for (let round = 0; round < 2000; round++) {
    const text = () => Array.from({ length: roll(12) }, () => "ab\n😀"[roll(5)] ?? "").join("");
    const [before, after] = [text(), text()];
    const { at, removed, inserted } = difference(before, after);
    assert.equal(before.slice(at, at + removed.length), removed);
    assert.equal(before.slice(0, at) + inserted + before.slice(at + removed.length), after);
  }
});

test("every state of a history comes back, after any walk and from a file", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const roll = dice(seed);
    let history = new History("once");
    const texts = new Map([[history.current, history.text]]);
    let time = 0;
    for (let round = 0; round < 300; round++) {
      const kind = ["typed", "suggestion", "fork"][roll(3)];
      const { text } = history;
      const at = roll(text.length + 1);
      const choice = roll(10);
      time += roll(3000);
      if (choice < 5) {
        const other = text.slice(0, at) + "xyz".slice(roll(4)) + text.slice(at);
        history.record(kind, other, undefined, time);
        texts.set(history.current, history.text);
      } else if (choice < 7) history.undo();
      else if (choice < 8) history.redo();
      else if (choice < 9) history.go([...history.changes.keys()][roll(history.changes.size)]);
      else history = fromJson(asJson(history));
      assert.equal(history.text, texts.get(history.current));
    }
    for (const [id, text] of texts) {
      if (!history.changes.has(id)) continue;
      history.go(id);
      assert.equal(history.text, text);
    }
    const shown = rows(history).map(({ id }) => id);
    assert.deepEqual(shown.sort(), [...history.changes.keys()].sort());
  }
});

test("typing without a pause is one change, and one undo", () => {
  const history = new History("");
  for (let length = 1; length <= 5; length++) {
    history.record("typed", "hello".slice(0, length), undefined, 10);
  }
  history.record("typed", "hello!", undefined, 9_000);
  history.undo();
  assert.equal(history.text, "hello");
  history.undo();
  assert.equal(history.text, "");
  assert.equal(history.undo(), null);
  history.redo();
  history.redo();
  assert.equal(history.text, "hello!");
});

test("what is typed and deleted at once leaves no change", () => {
  const history = new History("a");
  history.record("typed", "ab", undefined, 0);
  history.record("typed", "a", undefined, 1);
  assert.equal(history.changes.size, 1);
  assert.equal(history.undo(), null);
});

test("writing after an undo keeps the other branch", () => {
  const history = new History("");
  history.record("suggestion", "one", undefined, 0);
  const one = history.current;
  history.undo();
  history.record("suggestion", "two", undefined, 1);
  assert.equal(history.changes.size, 3);
  history.go(one);
  assert.equal(history.text, "one");
});

test("a history is bounded, and the text stays what it was", () => {
  const history = new History("");
  for (let round = 0; round < MOST_STATES + 500; round++) {
    history.record("suggestion", `${history.text}a`, undefined, round);
    if (round % 3 === 0) {
      history.undo();
      history.record("fork", `${history.text}b`, undefined, round);
    }
  }
  assert.equal(history.changes.size, MOST_STATES);
  const { text } = history;
  assert.equal(text.length, MOST_STATES + 500);
  while (history.undo() !== null);
  while (history.redo() !== null);
  assert.equal(history.text, text);
  assert.equal(fromJson(asJson(history)).text, text);
});

test("a file that is not a text's history is refused with a reason", () => {
  const history = new History("start");
  history.record("suggestion", "start and", undefined, 1);
  const good = JSON.parse(asJson(history));
  const broken = [
    [(file) => { file.format = "other"; }, /format/],
    [(file) => { file.version = 2; }, /version/],
    [(file) => { delete file.history; }, /no history/],
    [(file) => { file.history = null; }, /no history/],
    [(file) => { file.history.changes = {}; }, /no history/],
    [(file) => { file.history.changes = [null]; }, /found/],
    [(file) => { file.history.changes[1].at = 99; }, /fit/],
    [(file) => { file.history.changes[1].at = -1; }, /whole number/],
    [(file) => { file.history.changes[1].at = 1e300; }, /whole number/],
    [(file) => { file.history.changes[1].removed = "zzz"; }, /fit/],
    [(file) => { file.history.changes[1].parent = 1; }, /hangs/],
    [(file) => { file.history.changes[1].parent = 7; }, /hangs/],
    [(file) => { file.history.changes[1].id = 0; }, /twice/],
    [(file) => { file.history.changes[1].kind = "constructor"; }, /expected one of/],
    [(file) => { file.history.changes[1].inserted = 5; }, /text/],
    [(file) => { file.history.changes[1].inserted = "\r"; }, /line ends/],
    [(file) => { file.history.changes[1].inserted = "x".repeat(500_001); }, /characters/],
    [(file) => { Object.assign(file.history.changes[1], { parent: null, at: 0 }); }, /hangs/],
    [(file) => { file.history.changes.shift(); }, /hangs/],
    [(file) => { file.history.current = 5; }, /current/],
    [(file) => { file.history.current = "0"; }, /current/],
    [(file) => { file.history.changes = Array(2001).fill(file.history.changes[0]); }, /more than/],
  ];
  for (const [damage, reason] of broken) {
    const file = structuredClone(good);
    damage(file);
    assert.throws(() => fromJson(JSON.stringify(file)), reason);
  }
  assert.throws(() => fromJson("{"), /not JSON/);
  assert.throws(() => fromJson("null"), /format/);
  assert.throws(() => fromText("a\0b"), /not a text/);
  assert.throws(() => fromText("x".repeat(500_001)), /characters/);
  assert.equal(fromText("\ufeffa\r\nb\rc").text, "a\nb\nc");
});

test("bytes changed at random in a file are an error or another text, never anything else", () => {
  const history = new History("once upon a time");
  for (let round = 0; round < 20; round++) {
    history.record("suggestion", `${history.text} word${round}`, undefined, round);
    if (round % 4 === 0) history.undo();
  }
  const good = asJson(history);
  const roll = dice(5);
  for (let round = 0; round < 20_000; round++) {
    const at = roll(good.length);
    const file = good.slice(0, at) + String.fromCharCode(32 + roll(95)) + good.slice(at + roll(3));
    let found;
    try {
      found = fromJson(file);
    } catch (error) {
      assert.equal(error.constructor, Error, error.stack);
      continue;
    }
    while (found.undo() !== null);
    assert.equal(typeof found.text, "string");
  }
});

const words = (text) => Promise.resolve(text.split(/\s+/).filter(Boolean).length);

test("a text that fits is sent whole", async () => {
  const text = "a b c ";
  const found = await fit({ text, front: "F", room: 3, last: 0, count: words });
  assert.deepEqual(found, { prompt: text, start: 0, tokens: 3 });
});

test("a long text loses its beginning, and what is kept in front stays", async () => {
  const sentence = "It was a dark night and nobody came home again that day. ";
  for (const length of [20, 100, 3_000]) {
    const text = sentence.repeat(length);
    const front = "Alice is a cat.";
    const found = await fit({ text, front, room: 100, last: 0, count: words });
    assert.ok(found.tokens <= 100 && found.tokens >= 50, `${found.tokens}`);
    assert.ok(found.prompt.startsWith(`${front}\nIt was`), found.prompt.slice(0, 40));
    assert.ok(found.prompt.endsWith(text.slice(-200)));
    // A little more text: the cut stays.
    const more = `${text}And then `;
    const again = await fit({ text: more, front, room: 100, last: found.start, count: words });
    assert.equal(again.start, found.start);
  }
});

test("one word without an end is cut where a character begins", async () => {
  const bytes = (text) => Promise.resolve(new TextEncoder().encode(text).length);
  const text = "😀".repeat(5_000);
  const found = await fit({ text, front: "", room: 100, last: 0, count: bytes });
  assert.ok(found.tokens <= 100 && found.tokens > 40, `${found.tokens}`);
  assert.ok(found.prompt.startsWith("😀"));
});

test("a text kept in front that leaves no room is refused", async () => {
  const front = "word ".repeat(80);
  const text = "word ".repeat(900);
  await assert.rejects(fit({ text, front, room: 100, last: 0, count: words }), /kept in front/);
});

test("a cut is after a paragraph, a sentence, or at a word", () => {
  assert.equal("abc\n\ndef".slice(beginning("abc\n\ndef", 1)), "def");
  assert.equal("abc. Def ghi".slice(beginning("abc. Def ghi", 1)), "Def ghi");
  assert.equal("abc def".slice(beginning("abc def", 1)), "def");
});

test("events are read however they are cut", async () => {
  const sent = ": hello\n\ndata: one\n\ndata:two\r\ndata: 2\r\n\r\nevent: x\rdata: drei ü\r\r" +
    "data: cut";
  const bytes = new TextEncoder().encode(sent);
  for (const size of [1, 2, 3, 7, 1000]) {
    let at = 0;
    const body = new ReadableStream({
      pull(controller) {
        if (at >= bytes.length) return controller.close();
        controller.enqueue(bytes.slice(at, at += size));
      },
    });
    const found = [];
    for await (const data of events(body)) found.push(data);
    assert.deepEqual(found, ["one", "two\n2", "drei ü"]);
  }
});

test("an event without an end is given up", async () => {
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(1 << 18).fill(97)),
  });
  await assert.rejects(async () => {
    for await (const data of events(body)) assert.fail(data);
  }, /without an end/);
});

test("words are taken with the space before them", () => {
  assert.equal(firstWord(" lady, who"), " lady,");
  assert.equal(firstWord("\n\nShe said"), "\n\nShe");
  assert.equal(firstWord("  "), "  ");
  assert.equal(firstWord(" 今日は良い天気").length < 7, true);
});

test("settings hold only what they may", () => {
  assert.deepEqual(checked(null), DEFAULTS);
  const wrong = { temperature: "hot", topP: 7, topK: 1.5, seed: -1, stop: 4 };
  assert.deepEqual(checked(wrong), DEFAULTS);
  assert.deepEqual(checked({ temperature: NaN, length: 1e9, time: Infinity }), DEFAULTS);
  assert.equal(checked({ seed: 0 }).seed, 0);
  assert.equal(checked(JSON.parse('{"__proto__": {"topK": 5}}')).topK, 0);
  assert.deepEqual(stops({ ...DEFAULTS, stop: "a\n\n\\n\nb\nc\nd" }), ["a", "\n", "b", "c"]);
});

test("each further round is longer and has another seed", () => {
  const settings = { ...DEFAULTS, seed: 4294967295, topK: 40, stop: "\\n" };
  const [first, second] = [0, 1].map((round) => sampling(settings, round, 1000));
  assert.deepEqual(first, {
    n: 3, max_tokens: 24, temperature: 0.9, top_p: 0.9, top_k: 40, max_time: 10,
    seed: 4294967295, stop: ["\n"],
  });
  assert.equal(second.max_tokens, 48);
  assert.equal(second.seed, 0);
  assert.equal(sampling(settings, 9, 100).max_tokens, 100);
  assert.equal(sampling({ ...settings, temperature: 0 }, 0, 100).n, 1);
});

test("tokens have their place in the text, by code points", () => {
  const found = tokensOf("a😀é b", {
    tokens: ["a", "bytes:\\xf0\\x9f", "bytes:\\x98\\x80", "é", " b"],
    token_logprobs: [null, -1, -2, Math.log(0.5), -1],
    top_logprobs: [null, { " x": -3, "bytes:\\xf0\\x9f": -1 }, {}, {}, {}],
    text_offset: [0, 1, 1, 2, 3],
  });
  assert.deepEqual(found.map(({ text }) => text), ["a", "", "😀", "é", " b"]);
  assert.deepEqual(found.map(({ start }) => start), [0, 1, 1, 3, 4]);
  assert.equal(found[1].others[0].text, "bytes:\\xf0\\x9f");
  assert.equal(found[3].probability, 0.5);
});

test("a title makes a file's name", () => {
  assert.equal(fileName("It was: a /dark/ night…", "txt"), "It was a dark night.txt");
  assert.equal(fileName("///", "json"), "text.json");
});
