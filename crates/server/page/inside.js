// "Look inside": each token of the text in the colour of its probability, and what the model would
// rather have written in its place.

import { count, scores } from "./api.js";
import { announce, byId, element, visible } from "./dom.js";
import { fit } from "./fit.js";

/**
 * @typedef {object} Token
 * @property {number} start  in the text shown, UTF-16 units
 * @property {string} text  what is shown of it
 * @property {number | null} probability  null for the first
 * @property {{ text: string, probability: number }[]} others  likeliest first
 *
 * @typedef {object} Host
 * @property {(text: string) => void} fork  go on with this text
 */

/** Least probability of each colour, and its name. @type {[number, string][]} */
export const STEPS = [
  [0.5, "likely"], [0.1, "plausible"], [0.01, "unusual"], [0.001, "rare"], [0, "surprising"],
];
/** Alternatives shown. */
const SHOWN = 10;
const BYTES = "bytes:";
const END = "<|endoftext|>";

/** @param {number} probability */
function percent(probability) {
  const value = probability * 100;
  if (value < 0.01) return "< 0.01 %";
  return `${value < 10 ? value.toFixed(2) : value.toFixed(1)} %`;
}

/** @param {number | null} probability */
function step(probability) {
  if (probability === null) return "none";
  return STEPS.find(([least]) => probability >= least)?.[1] ?? "none";
}

/** A token in words. @param {string} text */
function spoken(text) {
  if (text === END) return "end of text";
  if (text.startsWith(BYTES)) return "part of a character";
  if (/^\n+$/.test(text)) return text.length > 1 ? `${text.length} line ends` : "line end";
  if (/^ +$/.test(text)) return text.length > 1 ? `${text.length} spaces` : "space";
  return visible(text);
}

/**
 * The tokens of a scored text. Some are only bytes of a character: the last of these shows it.
 * @param {string} text
 * @param {import("./api.js").Logprobs} logprobs
 * @returns {Token[]}
 */
export function tokensOf(text, logprobs) {
  // Offsets come in code points.
  const units = [0];
  for (const character of text) units.push((units.at(-1) ?? 0) + character.length);
  const last = units.length - 1;
  const starts = logprobs.text_offset.map((at) => units[Math.min(Math.max(at, 0), last)] ?? 0);
  return logprobs.tokens.map((token, index) => {
    const start = starts[index] ?? 0;
    const score = logprobs.token_logprobs[index] ?? null;
    const others = Object.entries(logprobs.top_logprobs[index] ?? {})
      .map(([other, value]) => ({ text: other, probability: Math.exp(value) }))
      .sort((one, two) => two.probability - one.probability)
      .slice(0, SHOWN);
    return {
      start,
      text: text.slice(start, Math.max(start, starts[index + 1] ?? text.length)),
      probability: score === null ? null : Math.exp(score),
      others,
    };
  });
}

export class Inside {
  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    this.list = byId("tokens", HTMLElement);
    /** @type {Token[]} */
    this.tokens = [];
    /** The text that is shown, and what was cut off before it. */
    this.text = "";
    this.before = "";
    this.active = -1;
    this.list.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("click", (event) => {
      const at = event.target instanceof HTMLElement ? event.target.dataset.token : undefined;
      if (at !== undefined) this.#choose(Number(at));
    });
  }

  /**
   * @param {string} whole
   * @param {import("./api.js").Model} model
   * @param {AbortSignal} signal
   */
  async show(whole, model, signal) {
    this.clear();
    const { start } = await fit({
      text: whole, front: "", room: model.context, last: 0,
      count: (part) => count(part, signal),
    });
    const { text, logprobs } = await scores(model.id, whole.slice(start), signal);
    this.before = whole.slice(0, start);
    this.text = text;
    this.tokens = tokensOf(text, logprobs);
    this.list.replaceChildren(...this.tokens.map((token, index) => this.#token(token, index)));
    this.#summary(start);
    if (this.tokens.length) this.#choose(Math.min(1, this.tokens.length - 1));
  }

  clear() {
    this.tokens = [];
    this.active = -1;
    this.list.replaceChildren();
    this.list.removeAttribute("aria-activedescendant");
    byId("alternatives", HTMLElement).replaceChildren();
    byId("inside-summary", HTMLElement).textContent = "";
    byId("inside-token", HTMLElement).textContent = "";
  }

  /** @param {Token} token @param {number} index */
  #token(token, index) {
    const line = token.text.includes("\n");
    const shown = token.text === "" ? "·" : line ? token.text.replace(/\n/g, "⏎\n") : token.text;
    return element("span", {
      role: "option", id: `token-${index}`, class: `token ${step(token.probability)}`,
      "data-token": index, "aria-selected": "false",
      "aria-label": `${spoken(token.text)}, ${this.#chance(token)}`,
    }, shown);
  }

  /** @param {Token} token */
  #chance({ probability }) {
    return probability === null ? "the first token, without a probability" : percent(probability);
  }

  /** @param {number} start */
  #summary(start) {
    const known = this.tokens.flatMap(({ probability }) => (probability === null ? [] : [probability]));
    const bits = known.reduce((sum, one) => sum - Math.log2(Math.max(one, 1e-30)), 0) / known.length;
    const about = known.length
      ? `${this.tokens.length} tokens, ${bits.toFixed(2)} bits each, perplexity ${(2 ** bits).toFixed(1)}.`
      : `${this.tokens.length} tokens.`;
    const cut = start > 0 ? " The beginning is left out: the context holds no more." : "";
    byId("inside-summary", HTMLElement).textContent = about + cut;
    announce(about + cut);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, PageDown: 50, PageUp: -50 };
    const last = this.tokens.length - 1;
    if (event.ctrlKey || event.metaKey || event.altKey || last < 0) return;
    let next = this.active + (steps[/** @type {keyof typeof steps} */ (event.key)] ?? 0);
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = last;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      byId("alternatives", HTMLElement).querySelector("button")?.focus();
      return;
    }
    next = Math.min(Math.max(next, 0), last);
    if (next === this.active) return;
    event.preventDefault();
    this.#choose(next);
  }

  /** @param {number} index */
  #choose(index) {
    const token = this.tokens[index];
    if (!token) return;
    this.list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    const row = byId(`token-${index}`, HTMLElement);
    row.setAttribute("aria-selected", "true");
    row.scrollIntoView({ block: "nearest" });
    this.list.setAttribute("aria-activedescendant", row.id);
    this.active = index;
    byId("inside-token", HTMLElement).textContent =
      `“${spoken(token.text) || "·"}”: ${this.#chance(token)}`;
    byId("alternatives", HTMLElement).replaceChildren(
      ...token.others.map((other) => this.#alternative(token, other)),
    );
  }

  /** @param {Token} token @param {Token["others"][number]} other */
  #alternative(token, other) {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", String(Math.min(1, other.probability)));
    const whole = other.text !== END && !other.text.startsWith(BYTES);
    const here = this.text.startsWith(other.text, token.start) && other.text === token.text;
    const button = element(
      "button",
      { type: "button", class: here ? "alternative here" : "alternative", disabled: !whole },
      element("span", { class: "word" }, spoken(other.text)),
      element("span", { class: "chance" }, percent(other.probability)), bar,
    );
    if (here) button.append(element("span", { class: "visually-hidden" }, ", in the text"));
    button.addEventListener("click", () => {
      this.host.fork(this.before + this.text.slice(0, token.start) + other.text);
    });
    return element("li", {}, button);
  }
}
