// The panels beside the text: one at a time, opened and closed by a button of the bar.

import { byId, element, onClick } from "./dom.js";

const NAMES = ["texts", "history", "settings", "keys"];

export class Panels {
	/** @param {(name: string) => void} shown  before a panel is seen */
	constructor(shown) {
		this.shown = shown;
		/** @type {string | null} */
		this.open = null;
		for (const name of NAMES) {
			onClick(`show-${name}`, () => this.toggle(name));
			byId(`show-${name}`).setAttribute("aria-controls", `panel-${name}`);
			const panel = byId(`panel-${name}`);
			const title = panel.getAttribute("aria-label") ?? "";
			const close = element("button", { "aria-label": `Close ${title}` }, "Close");
			close.addEventListener("click", () => this.close());
			panel.prepend(element("div", { class: "panel-head" }, element("h2", {}, title), close));
			panel.addEventListener("keydown", (event) => {
				if (event.key !== "Escape") return;
				event.preventDefault();
				this.close();
			});
		}
		this.#set(null);
	}

	/** @param {string} name */
	toggle(name) {
		const was = this.open;
		this.#set(null);
		if (was === name) return;
		this.shown(name);
		this.#set(name);
		byId(`panel-${name}`).focus();
	}

	/** The focus goes back to the button that opened it. */
	close() {
		const was = this.open;
		this.#set(null);
		if (was) byId(`show-${was}`).focus();
	}

	/** @param {string | null} open */
	#set(open) {
		this.open = open;
		document.body.classList.toggle("with-panel", open !== null);
		for (const name of NAMES) {
			byId(`panel-${name}`).hidden = name !== open;
			byId(`show-${name}`).setAttribute("aria-expanded", String(name === open));
		}
	}
}
