// The line at the bottom: tokens a second, how much of the context is used, whether all is saved.

import { count } from "./api.js";
import { byId, debounce } from "./dom.js";

/** Milliseconds without typing after which the tokens are counted. */
const DELAY = 700;
/** Characters of the end of a text that fill any context. */
const CHARACTERS_A_TOKEN = 24;

/** @param {number} value */
const number = (value) => value.toLocaleString("en");

export class Status {
  /**
   * @param {() => Promise<import("./api.js").Model>} model
   * @param {() => string} text
   */
  constructor(model, text) {
    this.model = model;
    this.text = text;
    /** @type {AbortController | null} */
    this.work = null;
    this.soon = debounce(() => void this.#count(), DELAY);
  }

  /** The text is another one. */
  touch() {
    this.work?.abort();
    this.soon();
  }

  async #count() {
    const work = this.work = new AbortController();
    const label = byId("context-text", HTMLElement);
    const meter = byId("context-meter", HTMLMeterElement);
    try {
      const { context } = await this.model();
      const tokens = await count(this.text().slice(-context * CHARACTERS_A_TOKEN), work.signal);
      const full = tokens > context;
      label.textContent = full
        ? `${number(context)} of ${number(context)} tokens, beginning left out`
        : `${number(tokens)} of ${number(context)} tokens`;
      meter.max = context;
      meter.value = Math.min(tokens, context);
      meter.classList.toggle("full", full);
      meter.hidden = false;
    } catch {
      if (work.signal.aborted) return;
      // Whoever asks for a continuation is told what is wrong; nothing is known here.
      label.textContent = "";
      meter.hidden = true;
    }
  }

  /** @param {number} tokens @param {number} seconds */
  speed(tokens, seconds) {
    if (tokens < 2 || seconds < 0.02) return;
    const rate = tokens / seconds;
    byId("speed", HTMLElement).textContent =
      `${rate < 10 ? rate.toFixed(1) : number(Math.round(rate))} tokens/s`;
  }

  /** @param {"saved" | "unsaved" | "off"} state */
  saved(state) {
    const words = { saved: "Saved", unsaved: "Saving …", off: "Not kept" };
    byId("saved", HTMLElement).textContent = words[state];
  }
}
