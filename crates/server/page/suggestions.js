// The three continuations below the caret: asked for, shown as they are written, chosen, taken.
//
// The focus stays in the textarea; the list is its popup by aria-activedescendant.

import { ApiError, continuations, count } from "./api.js";
import { caretLine } from "./caret.js";
import { announce, byId, element, isAbort, sleep, visible } from "./dom.js";
import { fit } from "./fit.js";
import { sampling } from "./settings.js";

/**
 * @typedef {object} Option
 * @property {HTMLElement} row
 * @property {HTMLElement} body
 * @property {string} text  what was written so far, without what was taken
 * @property {boolean} done
 *
 * @typedef {object} Host  what the list needs of the page
 * @property {() => import("./settings.js").Settings} settings
 * @property {() => Promise<import("./api.js").Model>} model
 * @property {(at: number, text: string) => boolean} insert  false when the text would be too long
 * @property {(error: unknown, again: () => void) => void} failed
 * @property {(tokens: number, seconds: number) => void} speed
 */

/** How often a busy server is asked again. */
const TRIES = 5;
const NUMBERS = ["One", "Two", "Three"];
/** Scripts that put no spaces between words. */
const UNSPACED = /[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]/;

/**
 * The next word of a text, with the space before it.
 * @param {string} text
 */
export function firstWord(text) {
  const word = /^\s*\S+/.exec(text)?.[0] ?? text;
  if (!UNSPACED.test(word) || !("Segmenter" in Intl)) return word;
  let taken = "";
  for (const { segment } of new Intl.Segmenter(undefined, { granularity: "word" }).segment(word)) {
    taken += segment;
    if (segment.trim() !== "") break;
  }
  return taken;
}

export class Suggestions {
  /** @param {HTMLTextAreaElement} area @param {Host} host */
  constructor(area, host) {
    this.area = area;
    this.host = host;
    this.popup = byId("popup", HTMLElement);
    this.list = byId("suggestions", HTMLElement);
    this.note = byId("popup-note", HTMLElement);
    /** @type {Option[]} */
    this.options = [];
    this.active = -1;
    this.round = 0;
    /** Where the text was cut last. */
    this.cut = 0;
    this.at = 0;
    /** @type {AbortController | null} */
    this.work = null;
    this.#pointers();
  }

  get isOpen() {
    return !this.popup.hidden;
  }

  #pointers() {
    // The focus, and a phone's keyboard, stay where they are.
    this.popup.addEventListener("mousedown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const row = event.target instanceof Element ? event.target.closest("[role=option]") : null;
      const index = this.options.findIndex((option) => option.row === row);
      if (index >= 0) this.take(index);
    });
    byId("take-word", HTMLButtonElement).addEventListener("click", () => this.takeWord());
    byId("others", HTMLButtonElement).addEventListener("click", () => this.others());
    byId("close-popup", HTMLButtonElement).addEventListener("click", () => this.close());
  }

  /** Three continuations at the caret. */
  ask() {
    this.close();
    this.round = 0;
    this.at = this.area.selectionEnd;
    this.area.setSelectionRange(this.at, this.at);
    void this.#write();
  }

  /** Three others, longer. */
  others() {
    if (!this.isOpen) return this.ask();
    this.round++;
    void this.#write();
  }

  close() {
    this.work?.abort();
    this.work = null;
    if (!this.isOpen) return;
    this.popup.hidden = true;
    this.options = [];
    this.list.replaceChildren();
    this.#choose(-1);
  }

  async #write() {
    this.work?.abort();
    const work = this.work = new AbortController();
    this.#open(this.host.settings().temperature === 0 ? 1 : 3);
    try {
      await this.#stream(await this.host.model(), work.signal);
    } catch (error) {
      if (isAbort(error) || work.signal.aborted) return;
      this.list.setAttribute("aria-busy", "false");
      for (const option of this.options) this.#finish(option);
      if (!this.options.some((option) => option.text)) this.close();
      this.host.failed(error, () => this.ask());
    }
  }

  /** @param {import("./api.js").Model} model @param {AbortSignal} signal */
  async #stream(model, signal) {
    const settings = this.host.settings();
    const before = this.area.value.slice(0, this.at);
    // A word begins with its space: a space that is typed already would be one too many.
    const spaced = /\S $/.test(before);
    const text = spaced ? before.slice(0, -1) : before;
    const wanted = sampling(settings, this.round, Math.floor(model.context / 2));
    const { prompt, start } = await fit({
      text, front: settings.front, room: model.context - wanted.max_tokens, last: this.cut,
      count: (part) => this.#patient(() => count(part, signal), signal),
    });
    this.cut = start;
    let written = 0;
    let began = performance.now();
    const waiting = new Set(spaced ? this.options.keys() : []);
    const tokens = await this.#patient(() => continuations(
      model.id, prompt, wanted, signal, ({ index, text, finish }) => {
        if (signal.aborted) return;
        if (written++ === 0) {
          began = performance.now();
          this.#say("");
        }
        const option = this.options[index];
        if (!option) return;
        if (text && waiting.delete(index)) text = text.replace(/^ /, "");
        option.text += text;
        this.#show(option);
        if (finish) this.#finish(option);
        this.host.speed(written, (performance.now() - began) / 1000);
      }), signal);
    if (signal.aborted) return;
    this.host.speed(tokens ?? written, (performance.now() - began) / 1000);
    for (const option of this.options) this.#finish(option);
    this.list.setAttribute("aria-busy", "false");
    this.#place();
    this.#tell();
  }

  /**
   * Asks again while the server is busy.
   * @template T
   * @param {() => Promise<T>} action
   * @param {AbortSignal} signal
   * @returns {Promise<T>}
   */
  async #patient(action, signal) {
    for (let tries = 1; ; tries++) {
      try {
        return await action();
      } catch (error) {
        const later = error instanceof ApiError ? error.retryAfter : null;
        if (later === null || tries === TRIES) throw error;
        for (let left = Math.ceil(later); left > 0; left--) {
          this.#say(`The server is busy. Trying again in ${left} s.`);
          await sleep(1000, signal);
        }
        this.#say("Trying again …");
      }
    }
  }

  /** @param {number} count */
  #open(count) {
    this.list.replaceChildren();
    this.options = [];
    for (let index = 0; index < count; index++) {
      const body = element("span", { class: "option-text" });
      const row = element(
        "div",
        { role: "option", id: `option-${index}`, class: "option waiting", "aria-selected": "false" },
        element("span", { class: "number" }, String(index + 1)), body,
      );
      this.options.push({ row, body, text: "", done: false });
    }
    this.list.append(...this.options.map((option) => option.row));
    this.list.setAttribute("aria-busy", "true");
    this.popup.hidden = false;
    this.#choose(-1);
    this.#say(this.round ? "Others, longer …" : "The model reads …");
    announce(count === 1 ? "A continuation is being written." : "Continuations are being written.");
    this.#place();
  }

  /** Below the caret's line, which is scrolled up where there is too little room below it. */
  #place() {
    if (!this.isOpen) return;
    const { top, height } = caretLine(this.area, this.at);
    const room = this.area.clientHeight - this.popup.offsetHeight - height - 12;
    const wanted = Math.max(0, Math.min(top - this.area.scrollTop, room));
    this.area.scrollTop = top - wanted;
    const shown = top - this.area.scrollTop + height;
    const most = this.area.clientHeight - Math.min(this.popup.offsetHeight, 120);
    this.popup.style.top = `${Math.max(0, Math.min(shown, most)) + 6}px`;
  }

  /** @param {string} message */
  #say(message) {
    this.note.textContent = message;
    this.note.hidden = message === "";
  }

  /** @param {Option} option */
  #show(option) {
    option.body.textContent = visible(option.text);
    option.row.classList.toggle("waiting", option.text === "");
    option.row.classList.toggle("writing-now", !option.done);
  }

  /** @param {Option} option */
  #finish(option) {
    option.done = true;
    this.#show(option);
    option.row.classList.remove("waiting");
    if (option.text === "") option.body.textContent = "(the text ends here)";
  }

  /** For a screen reader: once, when all are there. */
  #tell() {
    const shown = this.options.filter((option) => !option.row.hidden);
    const texts = shown.map((option, index) =>
      `${NUMBERS[index]}: ${option.text.trim() || "the text ends here"}`);
    const how = "Up and down choose, Enter takes, Escape closes.";
    announce(`${texts.join(". ")}. ${how}`);
  }

  /** @param {number} index  -1: none */
  #choose(index) {
    this.active = index;
    for (const [other, { row }] of this.options.entries()) {
      row.setAttribute("aria-selected", String(other === index));
    }
    const row = this.options[index]?.row;
    if (row) {
      this.area.setAttribute("aria-activedescendant", row.id);
      row.scrollIntoView({ block: "nearest" });
    } else this.area.removeAttribute("aria-activedescendant");
    byId("others-key", HTMLElement).textContent = row ? "Ctrl Space" : "Tab";
  }

  /** @param {1 | -1} step */
  move(step) {
    const shown = [...this.options.keys()].filter((index) => !this.options[index]?.row.hidden);
    const place = shown.indexOf(this.active);
    const next = place < 0 ? (step > 0 ? 0 : shown.length - 1) : place + step;
    this.#choose(shown[(next + shown.length) % shown.length] ?? -1);
  }

  /** Wholly. @param {number} index */
  take(index) {
    const option = this.options[index];
    if (!option?.text || option.row.hidden) return;
    const { text } = option;
    if (!this.host.insert(this.at, text)) return;
    announce(`Taken: ${text.trim()}`);
    this.close();
  }

  /** One word of the chosen one, or of the first; the rest of it stays, and what is still written. */
  takeWord() {
    const index = this.active >= 0 ? this.active : this.options.findIndex((option) => option.text);
    const option = this.options[index];
    if (!option?.text) return;
    const word = firstWord(option.text);
    if (!this.host.insert(this.at, word)) return;
    this.at += word.length;
    option.text = option.text.slice(word.length);
    announce(word.trim());
    if (option.text === "" && option.done) return this.close();
    for (const other of this.options) other.row.hidden = other !== option;
    this.#show(option);
    this.#choose(index);
    this.#place();
  }

  /**
   * A key in the textarea while the list is open.
   * @param {KeyboardEvent} event
   * @returns {boolean}  whether it was for the list
   */
  key(event) {
    const bare = !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey;
    if (!this.isOpen || !bare) return false;
    const chosen = this.active >= 0;
    if (event.key === "ArrowDown") this.move(1);
    else if (event.key === "ArrowUp") this.move(-1);
    else if (event.key === "ArrowRight") this.takeWord();
    else if (event.key === "Enter" && chosen) this.take(this.active);
    else if (event.key === "Tab" && chosen) this.take(this.active);
    else if (event.key === "Tab") this.others();
    else if (/^[1-3]$/.test(event.key) && Number(event.key) <= this.options.length) {
      this.take(Number(event.key) - 1);
    } else return false;
    return true;
  }
}
