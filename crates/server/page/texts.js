// The text of this tab: which one it is, saving it, opening another, and what a reload brings back.

import { debounce, local, session, words } from "./dom.js";
import { History } from "./history.js";
import { Conflict, browserStore, memoryStore } from "./store.js";

/** This tab's text, over a reload. */
const HERE = "gpt2-edge.text";
/** What a closing tab had not saved yet: localStorage is written at once, the database is not. */
const UNSAVED = "gpt2-edge.unsaved.";
/** Milliseconds from a change to its being saved. */
const DELAY = 500;
/** Most texts; who wants more deletes some. */
export const MOST_TEXTS = 200;

/** A name nobody else has. */
function name() {
	const bytes = crypto.getRandomValues(new Uint8Array(12));
	return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The first line that says something. @param {string} text */
export function title(text) {
	const line = /\S[^\n]*/.exec(text.slice(0, 2_000))?.[0].trim() ?? "Untitled";
	return line.length > 60 ? `${line.slice(0, 60).replace(/[\uD800-\uDBFF]$/, "")}…` : line;
}

/** @param {string} id @param {number} revision @param {History} history @returns {Saved} */
const record = (id, revision, history) => ({
	id, revision, updated: Date.now(), title: title(history.text), length: history.text.length,
	history: history.toJSON(),
});

export class Texts {
	/** @param {TextsHost} host */
	constructor(host) {
		this.host = host;
		this.store = memoryStore();
		this.kept = false;
		this.tab = name();
		this.history = new History();
		this.id = name();
		this.revision = 0;
		this.changed = false;
		/** Saves run one after the other. @type {Promise<void>} */
		this.saving = Promise.resolve();
		this.soon = debounce(() => void this.save(), DELAY);
		window.addEventListener("pagehide", () => this.#leave());
		document.addEventListener("visibilitychange", () => {
			if (document.visibilityState === "hidden") void this.save();
		});
	}

	/** Brings back what was there. */
	async start() {
		try {
			this.store = await browserStore();
			this.kept = true;
		} catch {
			this.host.tell("This browser keeps no texts: export yours before you close the page.");
		}
		const recovered = await this.#recover();
		const last = recovered ?? session.getItem(HERE) ?? (await this.store.list())[0]?.id;
		if (last && await this.#read(last)) return;
		this.#become(name(), 0, new History());
	}

	/** @param {string} id @param {number} revision @param {History} history */
	#become(id, revision, history) {
		this.soon.cancel();
		this.id = id;
		this.revision = revision;
		this.history = history;
		this.changed = false;
		session.setItem(HERE, id);
		this.host.state(this.kept ? "saved" : "off");
		this.host.opened();
	}

	/** @param {string} id */
	async #read(id) {
		const saved = await this.store.read(id);
		if (!saved) return false;
		try {
			this.#become(id, saved.revision, History.fromJSON(saved.history));
			return true;
		} catch (error) {
			this.host.tell(`A saved text cannot be read: ${words(error)}.`);
			return false;
		}
	}

	/** After each change of the history. */
	touch() {
		this.changed = true;
		this.host.state(this.kept ? "unsaved" : "off");
		this.soon();
	}

	save() {
		this.soon.cancel();
		this.saving = this.saving.then(() => this.#save());
		return this.saving;
	}

	async #save() {
		if (!this.changed) return;
		this.changed = false;
		const saved = record(this.id, this.revision + 1, this.history);
		try {
			await this.store.write(saved);
			if (saved.id !== this.id) return;
			this.revision = saved.revision;
			local.removeItem(`${UNSAVED}${this.id}.${this.tab}`);
			if (!this.changed) this.host.state(this.kept ? "saved" : "off");
		} catch (error) {
			if (saved.id !== this.id) return;
			this.changed = true;
			if (error instanceof Conflict) return this.#copy();
			this.host.tell(
				`The text could not be saved (${words(error)}). Export it before you close the page.`,
			);
		}
	}

	/** Both texts stay: this tab goes on with one of its own. */
	async #copy() {
		this.id = name();
		this.revision = 0;
		session.setItem(HERE, this.id);
		this.host.tell("Another tab changed this text as well. This tab goes on with a copy; " +
			"both are in the list of texts.");
		await this.#save();
	}

	/** What was written in the last half second. */
	#leave() {
		if (!this.changed) return;
		const left = JSON.stringify({ revision: this.revision, text: this.history.text });
		try {
			local.setItem(`${UNSAVED}${this.id}.${this.tab}`, left);
		} catch {
			// Full: the save that follows may still succeed.
		}
		void this.save();
	}

	/** What tabs could not save before they were closed. Returns the text that this tab had. */
	async #recover() {
		let mine = null;
		const here = session.getItem(HERE);
		const keys = Array.from({ length: local.length }, (_, index) => local.key(index));
		for (const key of keys) {
			if (!key?.startsWith(UNSAVED)) continue;
			const id = key.slice(UNSAVED.length).split(".")[0] ?? "";
			try {
				const left = JSON.parse(local.getItem(key) ?? "");
				const found = typeof left.text === "string" && await this.#restore(id, left);
				if (found && id === here) mine = found;
			} catch {
				// Nothing that this page wrote.
			}
			local.removeItem(key);
		}
		return mine;
	}

	/** @param {string} id @param {{ revision: unknown, text: string }} left */
	async #restore(id, left) {
		const text = left.text.replace(/\r\n?/g, "\n");
		const saved = await this.store.read(id);
		const history = saved ? History.fromJSON(saved.history) : new History();
		if (history.text === text) return id;
		history.record("restored", text);
		// What was saved after it by another tab stays as it is.
		const same = !saved || saved.revision === left.revision;
		const found = same ? record(id, (saved?.revision ?? 0) + 1, history) : record(name(), 1, history);
		await this.store.write(found);
		return found.id;
	}

	/** @param {string} id */
	async open(id) {
		await this.save();
		// It could not be saved, and that was told.
		if (this.changed) return;
		if (!await this.#read(id)) this.host.tell("This text is not there any more.");
	}

	/** A text of its own. @param {History} [history] */
	async add(history = new History()) {
		await this.save();
		if (this.changed) return;
		if ((await this.store.list()).length >= MOST_TEXTS) {
			this.host.tell(`There are ${MOST_TEXTS} texts already. Delete some first.`);
			return;
		}
		this.#become(name(), 0, history);
		if (history.text !== "") {
			this.touch();
			await this.save();
		}
	}

	/** @param {string} id */
	async remove(id) {
		await this.saving;
		await this.store.remove(id);
		if (id !== this.id) return;
		const next = (await this.store.list())[0];
		if (!next || !await this.#read(next.id)) this.#become(name(), 0, new History());
	}
}
