// The settings: what they are called, what they may be, where they are kept.

import { byId } from "./dom.js";

const KEPT = "gpt2-edge.settings";

/**
 * @typedef {object} Settings
 * @property {number} temperature
 * @property {number} topP
 * @property {number} topK  0: all tokens
 * @property {number} length  tokens of a continuation
 * @property {number} time  seconds
 * @property {number | null} seed  null: another one each time
 * @property {string} stop  one stop string in a line, `\n` written out
 * @property {string} front  kept in front once the text is longer than the context
 */

/** @type {Readonly<Settings>} */
export const DEFAULTS = Object.freeze({
  temperature: 0.9, topP: 0.9, topK: 0, length: 24, time: 10, seed: null, stop: "", front: "",
});

/** Least, most, and whether only whole numbers are taken. @type {Record<string, [number, number, boolean]>} */
const RANGES = {
  temperature: [0, 2, false],
  topP: [0.01, 1, false],
  topK: [0, 1000, true],
  length: [1, 256, true],
  time: [0.5, 120, false],
  seed: [0, 4294967295, true],
};

/** Most stop strings that are sent, and most characters of the texts. */
const MOST_STOPS = 4;
const MOST_FRONT = 20_000;

/**
 * Only what a setting may be; anything else is its default.
 * @param {unknown} value
 * @returns {Settings}
 */
export function checked(value) {
  const given = /** @type {Record<string, unknown>} */ (value ?? {});
  /** @type {Record<string, unknown>} */
  const made = { ...DEFAULTS };
  for (const [name, [least, most, whole]] of Object.entries(RANGES)) {
    const number = given[name];
    const fits = typeof number === "number" && number >= least && number <= most;
    if (fits && (!whole || Number.isInteger(number))) made[name] = number;
  }
  if (typeof given.stop === "string") made.stop = given.stop.slice(0, 1_000);
  if (typeof given.front === "string") made.front = given.front.slice(0, MOST_FRONT);
  return /** @type {Settings} */ (made);
}

/** The stop strings. @param {Settings} settings */
export function stops({ stop }) {
  const lines = stop.split("\n").filter((line) => line !== "");
  return lines.slice(0, MOST_STOPS).map((line) => line.replace(/\\n/g, "\n").replace(/\\t/g, "\t"));
}

/**
 * What is sent for a round of continuations. Each further round is longer, may take longer, and has
 * another seed.
 * @param {Settings} settings
 * @param {number} round  from 0
 * @param {number} room  most tokens
 * @returns {import("./api.js").Sampling}
 */
export function sampling(settings, round, room) {
  const stop = stops(settings);
  const factor = 2 ** Math.min(round, 3);
  return {
    // The likeliest token every time: there is one such text.
    n: settings.temperature === 0 ? 1 : 3,
    max_tokens: Math.max(1, Math.min(settings.length * factor, 512, room)),
    temperature: settings.temperature,
    top_p: settings.topP,
    max_time: Math.min(settings.time * factor, 240),
    ...(settings.topK > 0 && { top_k: settings.topK }),
    ...(settings.seed !== null && { seed: (settings.seed + round) % 4294967296 }),
    ...(stop.length && { stop }),
  };
}

/** @returns {Settings} */
function read() {
  try {
    return checked(JSON.parse(localStorage.getItem(KEPT) ?? "null"));
  } catch {
    return { ...DEFAULTS };
  }
}

/** The form and its values. */
export class SettingsForm {
  constructor() {
    this.values = read();
    this.form = byId("settings-form", HTMLFormElement);
    this.#show();
    this.form.addEventListener("input", () => this.#take());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    byId("settings-reset", HTMLButtonElement).addEventListener("click", () => {
      this.values = { ...DEFAULTS };
      this.#show();
      this.#take();
    });
  }

  /** @param {string} name */
  #field(name) {
    const field = this.form.elements.namedItem(name);
    const known = field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement;
    if (!known) throw new Error(`internal error: no setting ${name}`);
    return field;
  }

  #show() {
    for (const [name, value] of Object.entries(this.values)) {
      this.#field(name).value = value === null ? "" : String(value);
    }
  }

  /** A field that holds no valid value says so, and what was valid before stays. */
  #take() {
    /** @type {Record<string, unknown>} */
    const given = { ...this.values };
    for (const [name, [least, most, whole]] of Object.entries(RANGES)) {
      const field = this.#field(name);
      const number = field.value.trim() === "" ? NaN : Number(field.value);
      const empty = name === "seed" && field.value.trim() === "" && !field.validity.badInput;
      const fits = number >= least && number <= most && (!whole || Number.isInteger(number));
      const wrong = !fits && !empty;
      field.setAttribute("aria-invalid", String(wrong));
      const kind = whole ? "a whole number" : "a number";
      byId(`${name}-wrong`, HTMLElement).textContent =
        wrong ? `Expected ${kind} from ${least} to ${most}.` : "";
      if (empty) given[name] = null;
      else if (fits) given[name] = number;
    }
    given.stop = this.#field("stop").value;
    given.front = this.#field("front").value;
    this.values = checked(given);
    try {
      localStorage.setItem(KEPT, JSON.stringify(this.values));
    } catch {
      // A browser that keeps nothing: the settings hold until the page is closed.
    }
  }
}
