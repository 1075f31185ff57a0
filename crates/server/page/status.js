// The line at the bottom: tokens a second, how much of the context is used, whether all is saved.

import { count } from "./api.js";
import { byId, debounce, setText } from "./dom.js";
import { CHARACTERS_A_TOKEN } from "./fit.js";

/** Milliseconds without typing after which the tokens are counted. */
const DELAY = 700;

/** @param {number} value */
const number = (value) => value.toLocaleString("en");

export class Status {
	/** @param {() => Promise<Model>} model @param {() => string} text */
	constructor(model, text) {
		this.model = model;
		this.text = text;
		/** @type {AbortController | null} */
		this.work = null;
		this.soon = debounce(() => void this.#count(), DELAY);
	}

	/** The text is another one. */
	touch() {
		this.work?.abort();
		this.soon();
	}

	async #count() {
		const work = this.work = new AbortController();
		const label = byId("context-text");
		const meter = byId("context-meter", HTMLMeterElement);
		try {
			const { context } = await this.model();
			const tokens = await count(this.text().slice(-context * CHARACTERS_A_TOKEN), work.signal);
			const full = tokens > context;
			label.textContent = full
				? `${number(context)} of ${number(context)} tokens, beginning left out`
				: `${number(tokens)} of ${number(context)} tokens`;
			meter.max = context;
			meter.value = Math.min(tokens, context);
			meter.hidden = false;
		} catch {
			if (work.signal.aborted) return;
			// Whoever asks for a continuation is told what is wrong; nothing is known here.
			label.textContent = "";
			meter.hidden = true;
		}
	}

	/** @param {number} tokens @param {number} seconds */
	speed(tokens, seconds) {
		if (seconds < 0.005) return;
		const rate = tokens / seconds;
		setText("speed", `${rate < 10 ? rate.toFixed(1) : number(Math.round(rate))} tokens/s`);
	}

	/** @param {"saved" | "unsaved" | "off"} state */
	saved(state) {
		const words = { saved: "Saved", unsaved: "Saving …", off: "Not kept" };
		setText("saved", words[state]);
	}
}
