// The history of a text: a tree of changes. Undo goes to the parent, redo to the child visited
// last; what is written after an undo is another child, so nothing written is lost. Knows no
// document and no store: runs under node as well.

/** Most characters of a text. */
export const MOST_TEXT = 500_000;
/** Most states of a text; the oldest that are on no way to the current one are dropped first. */
export const MOST_STATES = 2_000;
/** Most characters of all changes together. */
const MOST_CHARACTERS = 4_000_000;
/** A pause in typing that begins a new change, in milliseconds. */
const PAUSE = 1_500;
/** Characters typed without a pause that make one change. */
const BURST = 400;

const KINDS = ["start", "typed", "suggestion", "fork", "restored"];

/** The smallest range that differs. @param {string} before @param {string} after */
export function difference(before, after) {
	const shortest = Math.min(before.length, after.length);
	let at = 0;
	while (at < shortest && before[at] === after[at]) at++;
	let end = 0;
	while (end < shortest - at && before.at(-1 - end) === after.at(-1 - end)) end++;
	return {
		at,
		removed: before.slice(at, before.length - end),
		inserted: after.slice(at, after.length - end),
	};
}

/** @param {string} text @param {number} at @param {string} out @param {string} into */
const replace = (text, at, out, into) => text.slice(0, at) + into + text.slice(at + out.length);

/** @param {string} text @param {Change} change */
const applied = (text, { at, removed, inserted }) => replace(text, at, removed, inserted);
/** @param {string} text @param {Change} change */
const reverted = (text, { at, removed, inserted }) => replace(text, at, inserted, removed);

export class History {
	/** @param {string} [text] @param {number} [time] */
	constructor(text = "", time = Date.now()) {
		/** @type {Map<number, Change>} */
		this.changes = new Map();
		/** @type {Map<number, number[]>} */
		this.childrenOf = new Map();
		this.text = text;
		this.current = 0;
		this.root = 0;
		const whole = { at: 0, removed: "", inserted: text };
		this.#put({ id: 0, parent: null, kind: "start", time, next: null, ...whole });
	}

	/** @param {Change} change */
	#put(change) {
		this.changes.set(change.id, change);
		if (change.parent === null) return;
		this.childrenOf.set(change.parent, [...this.children(change.parent), change.id]);
	}

	/** @param {number} id @returns {Change} */
	get(id) {
		const change = this.changes.get(id);
		if (!change) throw new Error(`internal error: no change ${id}`);
		return change;
	}

	/** @param {number} id */
	children(id) {
		return this.childrenOf.get(id) ?? [];
	}

	/**
	 * The text is now `text`. Typing without a pause makes one change.
	 * @param {Exclude<Kind, "start">} kind
	 * @param {string} text
	 * @param {Replaced} [change]  when it is known
	 * @param {number} [time]
	 */
	record(kind, text, change = difference(this.text, text), time = Date.now()) {
		if (text === this.text) return;
		const last = this.get(this.current);
		const joins = kind === "typed" && last.kind === "typed" && !this.childrenOf.has(last.id) &&
			time - last.time < PAUSE && last.inserted.length < BURST;
		if (joins) {
			const before = reverted(this.text, last);
			Object.assign(last, difference(before, text), { time });
			// Written and deleted again: no change at all.
			if (text === before) {
				this.current = last.parent ?? this.root;
				this.#remove(last.id);
			}
		} else {
			const id = Math.max(...this.changes.keys()) + 1;
			this.#put({ id, parent: this.current, kind, time, ...change, next: null });
			last.next = id;
			this.current = id;
		}
		this.text = text;
		this.#prune();
	}

	/** Back by one change. Returns where the caret belongs, or null at the first state. */
	undo() {
		const change = this.get(this.current);
		if (change.parent === null) return null;
		this.text = reverted(this.text, change);
		this.get(change.parent).next = change.id;
		this.current = change.parent;
		return change.at + change.removed.length;
	}

	/** Forward by one change; as `undo`. */
	redo() {
		const { next } = this.get(this.current);
		if (next === null) return null;
		const change = this.get(next);
		this.text = applied(this.text, change);
		this.current = next;
		return change.at + change.inserted.length;
	}

	/** The ids from a state up to the first one. @param {number} id */
	#path(id) {
		const path = [];
		for (let at = /** @type {number | null} */ (id); at !== null; at = this.get(at).parent) {
			path.push(at);
		}
		return path;
	}

	/** To any state. Returns where the caret belongs. @param {number} id */
	go(id) {
		const path = this.#path(id);
		let caret = null;
		while (!path.includes(this.current)) caret = this.undo();
		for (const next of path.slice(0, path.indexOf(this.current)).reverse()) {
			this.get(this.current).next = next;
			caret = this.redo();
		}
		return caret ?? this.text.length;
	}

	/** A state without children. @param {number} id */
	#remove(id) {
		const parent = this.get(this.get(id).parent ?? this.root);
		this.changes.delete(id);
		const siblings = this.children(parent.id).filter((child) => child !== id);
		if (siblings.length) this.childrenOf.set(parent.id, siblings);
		else this.childrenOf.delete(parent.id);
		if (parent.next === id) parent.next = siblings.at(-1) ?? null;
	}

	get #characters() {
		let sum = 0;
		for (const { removed, inserted } of this.changes.values()) {
			sum += removed.length + inserted.length;
		}
		return sum;
	}

	#prune() {
		while (this.changes.size > MOST_STATES || this.#characters > MOST_CHARACTERS) {
			const kept = new Set(this.#path(this.current));
			let oldest = null;
			for (const change of this.changes.values()) {
				const leaf = !kept.has(change.id) && !this.childrenOf.has(change.id);
				if (leaf && (oldest === null || change.time < oldest.time)) oldest = change;
			}
			if (oldest) this.#remove(oldest.id);
			else if (!this.#dropFirst()) return;
		}
	}

	/** One way is left: its second state becomes the first. */
	#dropFirst() {
		const root = this.get(this.root);
		const [second] = this.children(root.id);
		if (second === undefined || root.id === this.current) return false;
		const change = this.get(second);
		const inserted = applied(root.inserted, change);
		this.changes.delete(root.id);
		this.childrenOf.delete(root.id);
		Object.assign(change, { parent: null, kind: "start", at: 0, removed: "", inserted });
		this.root = second;
		return true;
	}

	/** What is saved and exported: a state after its parent. */
	toJSON() {
		return { current: this.current, changes: [...this.changes.values()].map((one) => ({ ...one })) };
	}

	/** Checks everything: a file may say anything. @param {unknown} saved */
	static fromJSON(saved) {
		const { current, changes } = /** @type {Record<string, unknown>} */ (saved ?? {});
		if (!Array.isArray(changes) || changes.length === 0) throw new Error("it has no history");
		if (changes.length > MOST_STATES) {
			throw new Error(`its history has ${changes.length} states, more than ${MOST_STATES}`);
		}
		const history = new History();
		history.changes.clear();
		for (const change of changes.map(checkedChange)) {
			if (history.changes.has(change.id)) throw new Error(`change ${change.id} is there twice`);
			const first = history.changes.size === 0;
			if (first ? change.parent !== null : !history.changes.has(change.parent ?? -1)) {
				throw new Error(`change ${change.id} hangs on no change before it`);
			}
			if (first) history.root = change.id;
			history.#put(change);
		}
		if (history.#characters > MOST_CHARACTERS + MOST_TEXT) {
			throw new Error(`its history has more than ${MOST_CHARACTERS} characters`);
		}
		history.#verify(current);
		return history;
	}

	/** Walks the whole tree with one text, then stays at `current`. @param {unknown} current */
	#verify(current) {
		const { root } = this;
		let text = this.get(root).inserted;
		let found = null;
		/** @param {Change} change */
		const walk = (change) => {
			const { id, at, removed } = change;
			if (id !== root) {
				if (at > text.length || !text.startsWith(removed, at)) {
					throw new Error(`change ${id} does not fit the text before it`);
				}
				text = applied(text, change);
			}
			if (text.length > MOST_TEXT) throw new Error(`a text has more than ${MOST_TEXT} characters`);
			if (id === current) found = text;
			const children = this.children(id);
			if (!children.includes(change.next ?? -1)) change.next = children.at(-1) ?? null;
			for (const child of children) walk(this.get(child));
			if (id !== root) text = reverted(text, change);
		};
		walk(this.get(root));
		if (found === null) throw new Error("its current state is not in its history");
		this.current = /** @type {number} */ (current);
		this.text = found;
	}
}

/** @param {unknown} number @returns {number} */
function whole(number) {
	if (Number.isSafeInteger(number) && Number(number) >= 0) return Number(number);
	throw new Error(`expected a whole number in a change, found ${String(number).slice(0, 40)}`);
}

/** @param {unknown} text @returns {string} */
function string(text) {
	if (typeof text !== "string") throw new Error("expected a text in a change");
	if (text.includes("\r")) throw new Error("expected line ends without a carriage return");
	return text;
}

/** @param {unknown} value @returns {Change} */
function checkedChange(value) {
	const given = /** @type {Record<string, unknown>} */ (value ?? {});
	const kind = /** @type {Kind} */ (given.kind);
	if (!KINDS.includes(kind)) {
		throw new Error(`expected one of ${KINDS.join(", ")}, found ${String(kind).slice(0, 40)}`);
	}
	/** @param {unknown} id */
	const optional = (id) => (id == null ? null : whole(id));
	const { id, parent, time, at, next } = given;
	return {
		id: whole(id), parent: optional(parent), kind, time: whole(time), at: whole(at),
		removed: string(given.removed), inserted: string(given.inserted), next: optional(next),
	};
}
