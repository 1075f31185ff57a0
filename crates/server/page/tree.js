// The history as a tree to walk in. A way without branches is one column: only branches are set in.

import { byId, element, setText, visible } from "./dom.js";

/** @typedef {import("./history.js").History} History */

/** Most states listed. */
const SHOWN = 500;

/** @type {Record<Kind, string>} */
const NAMES = {
	start: "Beginning", typed: "Written", suggestion: "Taken", fork: "Forked", restored: "Restored",
};

/**
 * Depth first, side branches before the way that redo goes.
 * @param {History} history
 * @returns {{ id: number, level: number }[]}
 */
export function rows(history) {
	const found = [];
	const stack = [{ id: history.root, level: 1 }];
	for (let top = stack.pop(); top; top = stack.pop()) {
		found.push(top);
		const { next } = history.get(top.id);
		const { id, level } = top;
		if (next !== null) stack.push({ id: next, level });
		for (const child of history.children(id)) {
			if (child !== next) stack.push({ id: child, level: level + 1 });
		}
	}
	return found;
}

/** @param {Change} change */
function summary(change) {
	const { kind, inserted, removed } = change;
	if (inserted.trim() !== "") return visible(inserted.trim());
	if (removed !== "" && inserted === "") return `− ${visible(removed.trim()) || "white space"}`;
	return kind === "start" ? "(empty)" : "(white space)";
}

export class Tree {
	/** @param {(id: number) => void} go */
	constructor(go) {
		this.tree = byId("tree");
		this.go = go;
		this.focused = 0;
		/** @type {{ id: number, level: number }[]} */
		this.rows = [];
		this.tree.addEventListener("keydown", (event) => this.#key(event));
		this.tree.addEventListener("click", (event) => {
			const row = event.target instanceof Element ? event.target.closest("[role=treeitem]") : null;
			if (row instanceof HTMLElement) this.go(Number(row.dataset.id));
		});
	}

	/** @param {History} history */
	show(history) {
		const all = rows(history);
		const here = all.findIndex(({ id }) => id === history.current);
		const first = Math.max(0, Math.min(here - SHOWN / 2, all.length - SHOWN));
		this.rows = all.slice(first, first + SHOWN);
		this.focused = this.rows.findIndex(({ id }) => id === history.current);
		const hadFocus = this.tree.contains(document.activeElement);
		this.tree.replaceChildren(...this.rows.map(({ id, level }, index) => {
			const change = history.get(id);
			const current = id === history.current;
			const time = new Date(change.time).toLocaleTimeString([], { timeStyle: "short" });
			const text = summary(change);
			const row = element(
				"li",
				{
					role: "treeitem", class: `change ${change.kind}`, "data-id": id, "aria-level": level,
					"aria-selected": String(current), "aria-current": current ? "true" : null,
					tabindex: index === this.focused ? 0 : -1,
				},
				element("span", { class: "kind" }, NAMES[change.kind]),
				element("span", { class: "time" }, time),
				element("span", { class: "what" }, text.length > 90 ? `${text.slice(0, 90)}…` : text),
			);
			row.style.setProperty("--level", String(Math.min(level - 1, 8)));
			return row;
		}));
		setText("tree-note", all.length > SHOWN
			? `${all.length} states; the ${SHOWN} around this one are listed.`
			: `${all.length} ${all.length === 1 ? "state" : "states"}.`);
		if (hadFocus) this.#focus(this.focused);
		else this.#row(this.focused)?.scrollIntoView({ block: "nearest" });
	}

	/** @param {number} index */
	#row(index) {
		const row = this.tree.children[index];
		return row instanceof HTMLElement ? row : null;
	}

	/** @param {number} index */
	#focus(index) {
		const row = this.#row(index);
		if (!row) return;
		this.#row(this.focused)?.setAttribute("tabindex", "-1");
		row.setAttribute("tabindex", "0");
		row.focus();
		this.focused = index;
	}

	/** @param {KeyboardEvent} event */
	#key(event) {
		if (event.ctrlKey || event.metaKey || event.altKey) return;
		const { focused: at, rows } = this;
		if (event.key === "Enter" || event.key === " ") this.go(rows[at]?.id ?? 0);
		else if (event.key === "ArrowDown" || event.key === "ArrowRight") this.#focus(at + 1);
		else if (event.key === "ArrowUp") this.#focus(at - 1);
		else if (event.key === "Home") this.#focus(0);
		else if (event.key === "End") this.#focus(rows.length - 1);
		else if (event.key === "ArrowLeft") {
			// What this branch hangs on.
			const level = rows[at]?.level ?? 1;
			this.#focus(Math.max(0, rows.slice(0, at).findLastIndex((row) => row.level < level)));
		} else return;
		event.preventDefault();
	}
}
