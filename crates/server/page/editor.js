// The textarea and the history of its text: every change of one is a change of the other.

import { byId } from "./dom.js";
import { MOST_TEXT } from "./history.js";

/** @typedef {import("./texts.js").Texts} Texts */

export class Editor {
	/** @param {() => Texts} texts @param {() => void} changed  after each change of the text */
	constructor(texts, changed) {
		this.texts = texts;
		this.changed = changed;
		this.area = byId("text", HTMLTextAreaElement);
		this.area.maxLength = MOST_TEXT;
		this.area.addEventListener("input", () => this.#typed());
		// From a menu or by shaking a phone: the browser's own undo knows nothing of what was taken.
		this.area.addEventListener("beforeinput", (event) => {
			if (event.inputType !== "historyUndo" && event.inputType !== "historyRedo") return;
			event.preventDefault();
			if (event.inputType === "historyUndo") this.undo();
			else this.redo();
		});
	}

	get history() {
		return this.texts().history;
	}

	#typed() {
		this.history.record("typed", this.area.value);
		this.#after();
	}

	#after() {
		this.texts().touch();
		this.changed();
	}

	/** Shows the history's text, with the caret there. @param {number} caret */
	show(caret = this.history.text.length) {
		if (this.area.value !== this.history.text) this.area.value = this.history.text;
		this.area.setSelectionRange(caret, caret);
		this.changed();
	}

	/** Takes a continuation, unless it is too long. @param {number} at @param {string} text */
	insert(at, text) {
		const { value } = this.area;
		if (value.length + text.length > MOST_TEXT) return false;
		const change = { at, removed: "", inserted: text };
		this.history.record("suggestion", value.slice(0, at) + text + value.slice(at), change);
		this.area.setRangeText(text, at, at, "end");
		const caret = at + text.length;
		this.area.setSelectionRange(caret, caret);
		this.#after();
		return true;
	}

	/** Goes on with other words from a place on. @param {number} at @param {string} inserted */
	fork(at, inserted) {
		const { text } = this.history;
		const change = { at, removed: text.slice(at), inserted };
		this.history.record("fork", text.slice(0, at) + inserted, change);
		this.show();
		this.#after();
	}

	undo() {
		this.#went(this.history.undo());
	}

	redo() {
		this.#went(this.history.redo());
	}

	/** @param {number} id */
	go(id) {
		this.#went(this.history.go(id));
	}

	/** @param {number | null} caret */
	#went(caret) {
		if (caret === null) return;
		this.show(caret);
		this.#after();
	}
}
