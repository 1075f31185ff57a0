// The panel of texts: open, delete, new, import, export.

import { byId, element } from "./dom.js";
import { asJson, download, fileName, fromFile } from "./files.js";
import { title } from "./texts.js";

/** @typedef {import("./texts.js").Texts} Texts */

export class TextList {
  /** @param {Texts} texts @param {(message: string) => void} tell */
  constructor(texts, tell) {
    this.texts = texts;
    this.tell = tell;
    const file = byId("import-file", HTMLInputElement);
    /** @type {[string, () => unknown][]} */
    const buttons = [
      ["new-text", async () => {
        await texts.add();
        byId("text", HTMLTextAreaElement).focus();
      }],
      ["import", () => file.click()],
      ["export-txt", () => this.#export("txt", "text/plain;charset=utf-8", texts.history.text)],
      ["export-json", () => this.#export("json", "application/json", asJson(texts.history))],
    ];
    for (const [id, action] of buttons) {
      byId(id, HTMLButtonElement).addEventListener("click", () => void action());
    }
    file.addEventListener("change", () => void this.#import(file));
  }

  /** @param {string} ending @param {string} type @param {string} content */
  #export(ending, type, content) {
    download(fileName(title(this.texts.history.text), ending), type, content);
  }

  /** @param {HTMLInputElement} input */
  async #import(input) {
    const file = input.files?.[0];
    // The same file can be chosen again.
    input.value = "";
    if (!file) return;
    try {
      await this.texts.add(await fromFile(file));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.tell(`“${file.name.slice(0, 80)}” cannot be imported: ${why}.`);
    }
    await this.show();
  }

  async show() {
    const entries = await this.texts.store.list();
    byId("text-list", HTMLElement).replaceChildren(...entries.map((entry) => this.#entry(entry)));
  }

  /** @param {import("./store.js").Entry} entry */
  #entry({ id, title: name, updated, length }) {
    const current = id === this.texts.id;
    const when = new Date(updated).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const open = element(
      "button",
      { type: "button", class: "open", "aria-current": current ? "true" : null },
      element("span", { class: "name" }, name),
      element("span", { class: "small" }, `${when}, ${length.toLocaleString("en")} characters`),
    );
    open.addEventListener("click", async () => {
      await this.texts.open(id);
      await this.show();
      byId("text-list", HTMLElement).querySelector("[aria-current]")?.scrollIntoView();
    });
    const remove = element(
      "button", { type: "button", class: "delete", "aria-label": `Delete “${name}”` }, "Delete",
    );
    remove.addEventListener("click", async () => {
      if (!confirm(`Delete “${name}” and its history for good?`)) return;
      await this.texts.remove(id);
      await this.show();
      byId("panel-texts", HTMLElement).focus();
    });
    return element("li", {}, open, remove);
  }
}
