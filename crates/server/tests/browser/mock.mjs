// A stand-in for `gpt2 serve`: the page with its headers, and endpoints that answer like the real
// ones, slowly or wrongly when told to. `node mock.mjs [PORT]` serves it to look at.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const PAGE = new URL("../../page/", import.meta.url);
export const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
  "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = {
  html: "text/html; charset=utf-8", css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
};
const SENTENCES = [
  " was not to be supposed that any young lady could be indifferent to such a visit, and Emma",
  " had been expected since the morning; the fire was lit, the table laid, and still nobody",
  " said very little, but her eyes followed him across the room, as if the letter in his",
];
const LONGER = [
  " might have been forgotten by everyone but her, had not the carriage stopped at the gate at",
  ", who had seen her sister married and her father settled in the country, felt for the first",
  " laughed. “You are mistaken,” she said,\n“we dine at five, as we have done these years,",
];

/** Pieces of a text that stand for tokens: at most six characters, a space before them. */
export const tokens = (text) => text.match(/ ?[^\s]{1,6}|\s/gu) ?? [];

/** Whole numbers that follow from a seed. */
function* numbers(seed) {
  for (let state = seed >>> 0; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state;
  }
}

/**
 * What the stand-in does; tests change it while it runs. Counters tell what was asked.
 * `delay`: milliseconds between tokens. `busy`: answers of 429 to come. `key`: the key it wants.
 * `stop`: tokens after which a stream ends with an error; `cut`: after which it breaks. `refuse`:
 * what completions are refused with.
 */
export const defaults = () => ({
  delay: 5, context: 1024, busy: 0, retryAfter: 1, key: null, stop: null, cut: null, hang: false,
  requests: [], cancelled: 0, refuse: null,
});

export async function serve(port = 0) {
  const state = defaults();
  const server = createServer((request, response) => {
    answer(state, request, response).catch((error) => {
      response.statusCode = 500;
      response.end(String(error));
    });
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const { port: bound } = server.address();
  return {
    url: `http://127.0.0.1:${bound}/`,
    port: bound,
    state,
    reset: () => Object.assign(state, defaults()),
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

const json = (response, status, body, headers = {}) => {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
};
const refuse = (response, status, message, headers) =>
  json(response, status, { error: { message, type: "invalid_request_error" } }, headers);

async function answer(state, request, response) {
  const { pathname } = new URL(request.url, "http://page");
  if (request.method === "GET" && pathname === "/v1/models") {
    if (locked(state, request, response)) return;
    return json(response, 200, {
      object: "list",
      data: [{ id: "austen-gpt2", object: "model", max_model_len: state.context }],
    });
  }
  if (request.method === "GET") return file(pathname, response);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = JSON.parse(Buffer.concat(chunks).toString("utf-8"));
  state.requests.push({ path: pathname, body });
  if (locked(state, request, response)) return;
  if (request.headers["content-type"] !== "application/json") {
    return refuse(response, 415, "expected application/json");
  }
  if (state.hang) return;
  if (pathname === "/tokenize") {
    const found = tokens(body.prompt);
    return json(response, 200, {
      count: found.length, max_model_len: state.context, tokens: found.map((_, index) => index),
    });
  }
  if (pathname !== "/v1/completions") return refuse(response, 404, "no such endpoint");
  if (state.busy > 0) {
    state.busy--;
    const headers = { "retry-after": String(state.retryAfter) };
    return refuse(response, 429, "the queue is full", headers);
  }
  if (state.refuse) return refuse(response, 400, state.refuse);
  const wanted = tokens(body.prompt ?? "").length + body.max_tokens;
  if (wanted > state.context) {
    return refuse(response, 400, `${wanted} tokens do not fit into ${state.context}`);
  }
  if (body.echo) return json(response, 200, scored(body));
  await stream(state, body, response);
}

function locked(state, request, response) {
  if (!state.key || request.headers.authorization === `Bearer ${state.key}`) return false;
  refuse(response, 401, "expected a key");
  return true;
}

async function file(pathname, response) {
  const name = pathname === "/" ? "index.html" : pathname.slice(1);
  const type = TYPES[name.split(".").at(-1)];
  if (!type || !/^[a-z-]+\.[a-z]+$/.test(name)) return refuse(response, 404, "no such page");
  try {
    const content = await readFile(new URL(name, PAGE));
    response.writeHead(200, {
      "content-type": type, "content-security-policy": CSP, "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer", "cache-control": "no-cache",
    });
    response.end(content);
  } catch {
    refuse(response, 404, "no such page");
  }
}

/** Log-probabilities that follow from the text alone. */
function scored(body) {
  const found = tokens(body.prompt);
  const logprobs = { tokens: found, token_logprobs: [], top_logprobs: [], text_offset: [] };
  const random = numbers(7);
  let offset = 0;
  for (const [index, token] of found.entries()) {
    logprobs.text_offset.push(offset);
    offset += [...token].length;
    if (index === 0) {
      logprobs.token_logprobs.push(null);
      logprobs.top_logprobs.push(null);
      continue;
    }
    const own = Math.log(10 ** (-4 * (random.next().value / 2 ** 32)));
    const top = { [token]: own };
    const others = [" she", " the", " Emma", ",", "\n", " a", " and", ".", " of", " very", " he"];
    let left = 1 - Math.exp(own);
    for (const other of others.slice(0, body.logprobs)) {
      left *= 0.5;
      if (other !== token) top[other] = Math.log(left);
    }
    logprobs.token_logprobs.push(own);
    logprobs.top_logprobs.push(top);
  }
  return {
    id: "cmpl-1", object: "text_completion", model: body.model,
    choices: [{ index: 0, text: body.prompt, logprobs, finish_reason: "length" }],
    usage: { prompt_tokens: found.length, completion_tokens: 0, total_tokens: found.length },
  };
}

async function stream(state, body, response) {
  let open = true;
  response.on("close", () => {
    if (open) state.cancelled++;
    open = false;
  });
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  const send = (event) => open && response.write(`data: ${JSON.stringify(event)}\n\n`);
  const texts = body.seed % 2 || body.max_tokens > 24 ? LONGER : SENTENCES;
  const each = texts.slice(0, body.n).map((text) => tokens(`${text}${text}${text}${text}`));
  let written = 0;
  response.write(": a comment\n\n");
  for (let place = 0; place < body.max_tokens && open; place++) {
    for (const [index, list] of each.entries()) {
      const last = place === body.max_tokens - 1;
      const text = list[place % list.length];
      const choice = { index, text, logprobs: null, finish_reason: last ? "length" : null };
      send({ id: "cmpl-1", object: "text_completion", choices: [choice], usage: null });
      written++;
    }
    if (state.stop === place) {
      send({ error: { message: "the worker is lost" } });
      open = false;
      return response.end();
    }
    if (state.cut === place) {
      open = false;
      return response.destroy();
    }
    await new Promise((resolve) => setTimeout(resolve, state.delay));
  }
  if (!open) return;
  if (body.stream_options?.include_usage) {
    send({ id: "cmpl-1", choices: [], usage: { completion_tokens: written } });
  }
  open = false;
  response.end("data: [DONE]\n\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url, state } = await serve(Number(process.argv[2] ?? 8080));
  state.delay = 60;
  console.log(url);
}
