// The panel of texts: open, delete, new, import, export.

import { byId, element, onClick, words } from "./dom.js";
import { asJson, download, fileName, fromFile } from "./files.js";
import { title } from "./texts.js";

/** @typedef {import("./texts.js").Texts} Texts */

export class TextList {
	/** @param {Texts} texts @param {(message: string) => void} tell */
	constructor(texts, tell) {
		this.texts = texts;
		this.tell = tell;
		const file = byId("import-file", HTMLInputElement);
		onClick("new-text", async () => {
			await texts.add();
			byId("text").focus();
		});
		onClick("import", () => file.click());
		onClick("export-txt", () => this.#export("txt", "text/plain", texts.history.text));
		onClick("export-json", () => this.#export("json", "application/json", asJson(texts.history)));
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
			this.tell(`“${file.name.slice(0, 80)}” cannot be imported: ${words(error)}.`);
		}
		await this.show();
	}

	async show() {
		const entries = await this.texts.store.list();
		byId("text-list").replaceChildren(...entries.map((entry) => this.#entry(entry)));
	}

	/** @param {Entry} entry */
	#entry({ id, title: name, updated, length }) {
		const current = id === this.texts.id;
		const when = new Date(updated).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
		const open = element(
			"button", { class: "open", "aria-current": String(current) },
			element("span", { class: "name" }, name),
			element("span", { class: "small" }, `${when}, ${length.toLocaleString("en")} characters`),
		);
		open.addEventListener("click", async () => {
			await this.texts.open(id);
			await this.show();
			byId("text-list").querySelector("[aria-current=true]")?.scrollIntoView();
		});
		const remove = element("button", { "aria-label": `Delete “${name}”` }, "Delete");
		remove.addEventListener("click", async () => {
			if (!confirm(`Delete “${name}” and its history for good?`)) return;
			await this.texts.remove(id);
			await this.show();
			byId("panel-texts").focus();
		});
		return element("li", {}, open, remove);
	}
}
