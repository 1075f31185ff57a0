// The three continuations below the caret: asked for, shown as they are written, chosen, taken.
//
// The focus stays in the textarea; the list is its popup by aria-activedescendant.

import { ApiError, continuations, count } from "./api.js";
import { caretLine } from "./caret.js";
import { announce, byId, element, onClick, setText, second, visible } from "./dom.js";
import { fit } from "./fit.js";
import { sampling } from "./settings.js";

/** How often a busy server is asked again. */
const TRIES = 5;
/** Scripts that put no spaces between words. */
const UNSPACED = /[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]/;

/** The next word of a text, with the space before it. @param {string} text */
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
	/** @param {HTMLTextAreaElement} area @param {SuggestionsHost} host */
	constructor(area, host) {
		this.area = area;
		this.host = host;
		this.popup = byId("popup");
		this.list = byId("suggestions");
		this.note = byId("popup-note");
		/** @type {Shown[]} */
		this.options = [];
		this.active = -1;
		this.round = 0;
		/** Where the text was cut last. */
		this.cut = 0;
		this.at = 0;
		/** @type {AbortController | null} */
		this.work = null;
		// Lines of the continuations wrap while they are written.
		new ResizeObserver(() => this.#place()).observe(this.popup);
		// The focus, and a phone's keyboard, stay where they are.
		this.popup.addEventListener("mousedown", (event) => event.preventDefault());
		this.list.addEventListener("click", (event) => {
			const row = event.target instanceof Element ? event.target.closest("[role=option]") : null;
			const index = this.options.findIndex((option) => option.row === row);
			if (index >= 0) this.take(index);
		});
		onClick("take-word", () => this.takeWord());
		onClick("others", () => this.others());
		onClick("close-popup", () => this.close());
	}

	get isOpen() {
		return !this.popup.hidden;
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
		this.area.style.paddingBottom = "";
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
			if (work.signal.aborted) return;
			this.list.setAttribute("aria-busy", "false");
			for (const option of this.options) this.#finish(option);
			if (!this.options.some((option) => option.text)) this.close();
			this.host.failed(error, () => this.ask());
		}
	}

	/** @param {Model} model @param {AbortSignal} signal */
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
		const asked = performance.now();
		let began = asked;
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
		const now = performance.now();
		// What came in one piece took all the time since it was asked for.
		this.host.speed(tokens ?? written, (now - (now - began > 50 ? began : asked)) / 1000);
		for (const option of this.options) this.#finish(option);
		this.list.setAttribute("aria-busy", "false");
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
					await second(signal);
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
				"div", { role: "option", id: `option-${index}`, class: "option now" },
				element("span", { class: "number" }, String(index + 1)), body,
			);
			this.options.push({ row, body, text: "", done: false });
		}
		this.list.append(...this.options.map((option) => option.row));
		this.list.setAttribute("aria-busy", "true");
		this.popup.hidden = false;
		this.#choose(-1);
		this.#say(this.round ? "Others, longer …" : "The model reads …");
		announce("Continuations are being written.");
	}

	/** Below the caret's line, which is scrolled up where there is too little room below it. */
	#place() {
		if (!this.isOpen) return;
		const { area, popup } = this;
		const { top, height } = caretLine(area, this.at);
		popup.style.maxHeight = `${Math.max(area.clientHeight - height - 20, 150)}px`;
		// Room to scroll the last line up.
		area.style.paddingBottom = `${popup.offsetHeight + 24}px`;
		const room = area.clientHeight - popup.offsetHeight - height - 12;
		area.scrollTop = Math.max(Math.min(area.scrollTop, top), top - Math.max(room, 0));
		popup.style.top = `${Math.max(0, top - area.scrollTop + height) + 6}px`;
	}

	/** @param {string} message */
	#say(message) {
		this.note.textContent = message;
		this.note.hidden = message === "";
	}

	/** @param {Shown} option */
	#show(option) {
		option.body.textContent = visible(option.text);
		option.row.classList.toggle("now", !option.done);
	}

	/** @param {Shown} option */
	#finish(option) {
		option.done = true;
		this.#show(option);
		if (option.text === "") option.body.textContent = "(the text ends here)";
	}

	/** For a screen reader: once, when all are there. */
	#tell() {
		const texts = this.options.filter(({ row }) => !row.hidden).map(({ body }) => body.textContent);
		announce(`${texts.join(". … ")}. Up and down choose, Enter takes, Escape closes.`);
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
		setText("others-key", row ? "Ctrl Space" : "Tab");
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

	/** One word of the chosen one, or of the first; the rest of that one stays. */
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

	/** Whether a key in the textarea was for the list. @param {KeyboardEvent} event */
	key(event) {
		const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
		if (!this.isOpen || ctrlKey || metaKey || altKey || shiftKey) return false;
		const chosen = this.active >= 0;
		if (key === "ArrowDown") this.move(1);
		else if (key === "ArrowUp") this.move(-1);
		else if (key === "ArrowRight") this.takeWord();
		else if (chosen && (key === "Enter" || key === "Tab")) this.take(this.active);
		else if (key === "Tab") this.others();
		else if (this.options[Number(key) - 1]) this.take(Number(key) - 1);
		else return false;
		return true;
	}
}
