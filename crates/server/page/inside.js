// "Look inside": each token of the text in the colour of its probability, and what the model would
// rather have written in its place.

import { count, scores } from "./api.js";
import { announce, byId, element, setText, visible } from "./dom.js";
import { fit } from "./fit.js";

/** Least probability of each colour, and its name. @type {[number, string][]} */
const STEPS = [
	[0.5, "likely"], [0.1, "plausible"], [0.01, "unusual"], [0.001, "rare"], [0, "surprising"],
];
/** How many tokens on each key goes. @type {Record<string, number>} */
const STRIDES = {
	ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, PageDown: 50, PageUp: -50,
	Home: -Infinity, End: Infinity,
};
/** Alternatives shown. */
const SHOWN = 10;
const BYTES = "bytes:";
const END = "<|endoftext|>";

/** @param {number} probability */
function percent(probability) {
	const value = probability * 100;
	if (value < 0.01) return "< 0.01 %";
	return `${value < 10 ? value.toFixed(2) : value.toFixed(1)} %`;
}

/** @param {Token} token */
const chance = ({ probability }) =>
	probability === null ? "the first token, without a probability" : percent(probability);

/** @param {number | null} probability */
function step(probability) {
	if (probability === null) return "none";
	return STEPS.find(([least]) => probability >= least)?.[1] ?? "none";
}

/** A token in words. @param {string} text */
function spoken(text) {
	if (text === END) return "end of text";
	if (text.startsWith(BYTES)) return "part of a character";
	if (/^\n+$/.test(text)) return text.length > 1 ? `${text.length} line ends` : "line end";
	if (/^ +$/.test(text)) return text.length > 1 ? `${text.length} spaces` : "space";
	return visible(text);
}

/**
 * The tokens of a scored text. Some are only bytes of a character: the last of these shows it.
 * @param {string} text
 * @param {Logprobs} logprobs
 * @returns {Token[]}
 */
export function tokensOf(text, logprobs) {
	// Offsets come in code points.
	const units = [0];
	for (const character of text) units.push((units.at(-1) ?? 0) + character.length);
	const last = units.length - 1;
	const starts = logprobs.text_offset.map((at) => units[Math.min(Math.max(at, 0), last)] ?? 0);
	return logprobs.tokens.map((token, index) => {
		const start = starts[index] ?? 0;
		const score = logprobs.token_logprobs[index] ?? null;
		const others = Object.entries(logprobs.top_logprobs[index] ?? {})
			.map(([other, value]) => ({ text: other, probability: Math.exp(value) }))
			.sort((one, two) => two.probability - one.probability)
			.slice(0, SHOWN);
		return {
			start,
			text: text.slice(start, Math.max(start, starts[index + 1] ?? text.length)),
			probability: score === null ? null : Math.exp(score),
			others,
		};
	});
}

export class Inside {
	/** @param {{ fork: (at: number, text: string) => void }} host */
	constructor(host) {
		this.host = host;
		this.list = byId("tokens");
		/** @type {Token[]} */
		this.tokens = [];
		/** The text that is shown, and where it begins in the whole one. */
		this.text = "";
		this.before = 0;
		this.active = -1;
		this.list.addEventListener("keydown", (event) => this.#key(event));
		this.list.addEventListener("click", (event) => {
			const at = event.target instanceof HTMLElement ? event.target.dataset.token : undefined;
			if (at !== undefined) this.#choose(Number(at));
		});
	}

	/** @param {string} whole @param {Model} model @param {AbortSignal} signal */
	async show(whole, model, signal) {
		this.clear();
		const { start } = await fit({
			text: whole, front: "", room: model.context, last: 0,
			count: (part) => count(part, signal),
		});
		const { text, logprobs } = await scores(model.id, whole.slice(start), signal);
		this.before = start;
		this.text = text;
		this.tokens = tokensOf(text, logprobs);
		this.list.replaceChildren(...this.tokens.flatMap((token, index) => this.#token(token, index)));
		this.#summary(start);
		if (this.tokens.length) this.#choose(Math.min(1, this.tokens.length - 1));
	}

	clear() {
		this.tokens = [];
		this.active = -1;
		this.list.replaceChildren();
		this.list.removeAttribute("aria-activedescendant");
		byId("alternatives").replaceChildren();
		setText("inside-summary", "");
		setText("inside-token", "");
	}

	/**
	 * A space before a word stays without a colour: lines break there.
	 * @param {Token} token
	 * @param {number} index
	 */
	#token(token, index) {
		const [, space, rest] = /^( ?)(.*)$/s.exec(token.text) ?? [];
		const row = element("span", {
			role: "option", id: `token-${index}`, class: `token ${step(token.probability)}`,
			"data-token": index, "aria-selected": "false",
			"aria-label": `${spoken(token.text)}, ${chance(token)}`,
		}, rest ? rest.replace(/\n/g, "⏎\n") : space || "·");
		return rest && space ? [space, row] : [row];
	}

	/** @param {number} start */
	#summary(start) {
		const scored = this.tokens.filter(({ probability }) => probability !== null);
		const bits = scored.reduce((sum, token) => sum - Math.log2(token.probability || 1e-30), 0);
		const each = bits / Math.max(1, scored.length);
		const about = `${this.tokens.length} tokens, ${each.toFixed(2)} bits each, ` +
			`perplexity ${(2 ** each).toFixed(1)}.`;
		const cut = start > 0 ? " The beginning is left out: the context holds no more." : "";
		setText("inside-summary", about + cut);
		announce(about + cut);
	}

	/** @param {KeyboardEvent} event */
	#key(event) {
		const last = this.tokens.length - 1;
		if (event.ctrlKey || event.metaKey || event.altKey || last < 0) return;
		if (event.key === "Enter" || event.key === " ") {
			byId("alternatives").querySelector("button")?.focus();
		} else {
			const steps = STRIDES[event.key];
			if (steps === undefined) return;
			this.#choose(Math.min(Math.max(this.active + steps, 0), last));
		}
		event.preventDefault();
	}

	/** @param {number} index */
	#choose(index) {
		const token = this.tokens[index];
		if (!token) return;
		this.list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
		const row = byId(`token-${index}`);
		row.setAttribute("aria-selected", "true");
		row.scrollIntoView({ block: "nearest" });
		this.list.setAttribute("aria-activedescendant", row.id);
		this.active = index;
		setText("inside-token", `“${spoken(token.text).trim() || "·"}”: ${chance(token)}`);
		byId("alternatives").replaceChildren(
			...token.others.map((other) => this.#alternative(token, other)),
		);
	}

	/** @param {Token} token @param {Alternative} other */
	#alternative(token, other) {
		const bar = element("span", { class: "bar", "aria-hidden": "true" });
		bar.style.setProperty("--share", String(Math.min(1, other.probability)));
		const whole = other.text !== END && !other.text.startsWith(BYTES);
		const here = this.text.startsWith(other.text, token.start) && other.text === token.text;
		const button = element(
			"button",
			{ class: here ? "alternative here" : "alternative", disabled: !whole },
			element("span", { class: "word" }, spoken(other.text)),
			element("span", { class: "chance" }, percent(other.probability)), bar,
		);
		if (here) button.append(element("span", { class: "visually-hidden" }, ", in the text"));
		button.addEventListener("click", () => {
			this.host.fork(this.before + token.start, other.text);
		});
		return element("li", {}, button);
	}
}
