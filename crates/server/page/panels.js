// The panels beside the text: one at a time, opened and closed by a button of the bar.

import { byId } from "./dom.js";

const NAMES = ["texts", "history", "settings", "keys"];

export class Panels {
  /** @param {(name: string) => void} shown  before a panel is seen */
  constructor(shown) {
    this.shown = shown;
    /** @type {string | null} */
    this.open = null;
    for (const name of NAMES) {
      this.#button(name).addEventListener("click", () => this.toggle(name));
      const panel = this.#panel(name);
      panel.querySelector(".close")?.addEventListener("click", () => this.close());
      panel.addEventListener("keydown", (event) => {
        if (event.key !== "Escape" || event.defaultPrevented) return;
        event.preventDefault();
        this.close();
      });
    }
  }

  /** @param {string} name */
  #button(name) {
    return byId(`show-${name}`, HTMLButtonElement);
  }

  /** @param {string} name */
  #panel(name) {
    return byId(`panel-${name}`, HTMLElement);
  }

  /** @param {string} name */
  toggle(name) {
    const was = this.open;
    this.#set(null);
    if (was === name) return;
    this.shown(name);
    this.#set(name);
    this.#panel(name).focus();
  }

  /** The focus goes back to the button that opened it. */
  close() {
    const was = this.open;
    this.#set(null);
    if (was) this.#button(was).focus();
  }

  /** @param {string | null} open */
  #set(open) {
    this.open = open;
    document.body.classList.toggle("with-panel", open !== null);
    for (const name of NAMES) {
      this.#panel(name).hidden = name !== open;
      this.#button(name).setAttribute("aria-expanded", String(name === open));
    }
  }
}
