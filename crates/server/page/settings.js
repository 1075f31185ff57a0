// The settings: what they are called, what they may be, where they are kept.

import { byId, element, local, onClick, setText } from "./dom.js";

const KEPT = "gpt2-edge.settings";

/** @type {Readonly<Settings>} */
export const DEFAULTS = Object.freeze({
	temperature: 0.9, topP: 0.9, topK: 0, length: 24, time: 10, seed: null, stop: "", front: "",
});

/**
 * The settings that are numbers: name, least, most, step, label, help.
 * @type {[Exclude<keyof Settings, "stop" | "front">, number, number, number, string, string][]}
 */
const NUMBERS = [
	["temperature", 0, 2, 0.05, "Temperature", "0 takes the likeliest token always; more is bolder."],
	["topP", 0.01, 1, 0.01, "Top-p", "Only the likeliest tokens that have this share together."],
	["topK", 0, 1000, 1, "Top-k", "Only this many of the likeliest tokens; 0: all."],
	["length", 1, 256, 1, "Length", "Tokens of a continuation; others are twice as long each time."],
	["time", 0.5, 120, 0.5, "Most time", "Seconds, then it ends with what there is."],
	["seed", 0, 4294967295, 1, "Seed", "The same seed, the same continuations; empty: a new one."],
];
/** @param {number} number @param {typeof NUMBERS[number]} of */
const fits = (number, [, least, most, step]) =>
	number >= least && number <= most && (step !== 1 || Number.isInteger(number));

/** Most stop strings that are sent, and most characters of the texts. */
const MOST_STOPS = 4;
const MOST_FRONT = 20_000;

/** Only what a setting may be, else its default. @param {unknown} value @returns {Settings} */
export function checked(value) {
	const given = /** @type {Record<string, unknown>} */ (value ?? {});
	const made = { ...DEFAULTS };
	for (const row of NUMBERS) {
		const number = given[row[0]];
		if (typeof number === "number" && fits(number, row)) made[row[0]] = number;
	}
	if (typeof given.stop === "string") made.stop = given.stop.slice(0, 1_000);
	if (typeof given.front === "string") made.front = given.front.slice(0, MOST_FRONT);
	return made;
}

/** The stop strings. @param {Settings} settings */
export function stops({ stop }) {
	const lines = stop.split("\n").filter((line) => line !== "");
	return lines.slice(0, MOST_STOPS).map((line) => line.replace(/\\n/g, "\n"));
}

/**
 * What is sent for a round of continuations. Each further round is longer, may take longer, and has
 * another seed.
 * @param {Settings} settings
 * @param {number} round  from 0
 * @param {number} room  most tokens
 * @returns {Sampling}
 */
export function sampling(settings, round, room) {
	const stop = stops(settings);
	const factor = 2 ** Math.min(round, 3);
	return {
		// The likeliest token every time: there is one such text.
		n: settings.temperature === 0 ? 1 : 3,
		max_tokens: Math.max(1, Math.min(settings.length * factor, 512, room)),
		temperature: settings.temperature,
		top_p: settings.topP,
		max_time: Math.min(settings.time * factor, 240),
		...(settings.topK > 0 && { top_k: settings.topK }),
		...(settings.seed !== null && { seed: (settings.seed + round) % 4294967296 }),
		...(stop.length && { stop }),
	};
}

/** @returns {Settings} */
function read() {
	try {
		return checked(JSON.parse(local.getItem(KEPT) ?? "null"));
	} catch {
		return { ...DEFAULTS };
	}
}

/** The form and its values. */
export class SettingsForm {
	constructor() {
		this.values = read();
		this.form = byId("settings-form", HTMLFormElement);
		byId("numbers").append(...NUMBERS.flatMap(numberField));
		this.#show();
		this.form.addEventListener("input", () => this.#take());
		this.form.addEventListener("submit", (event) => event.preventDefault());
		onClick("settings-reset", () => {
			this.values = { ...DEFAULTS };
			this.#show();
			this.#take();
		});
	}

	/** @param {string} name */
	#field(name) {
		return /** @type {HTMLInputElement} */ (this.form.elements.namedItem(name));
	}

	#show() {
		for (const [name, value] of Object.entries(this.values)) {
			this.#field(name).value = value === null ? "" : String(value);
		}
	}

	/** A field that holds no valid value says so, and what was valid before stays. */
	#take() {
		/** @type {Record<string, unknown>} */
		const given = { ...this.values };
		for (const row of NUMBERS) {
			const [name, least, most, step] = row;
			const field = this.#field(name);
			const none = name === "seed" && field.value === "" && !field.validity.badInput;
			const good = none || (field.value !== "" && fits(Number(field.value), row));
			const kind = step === 1 ? "a whole number" : "a number";
			field.setAttribute("aria-invalid", String(!good));
			setText(`${name}-wrong`, good ? "" : `Expected ${kind} from ${least} to ${most}.`);
			if (good) given[name] = none ? null : Number(field.value);
		}
		given.stop = this.#field("stop").value;
		given.front = this.#field("front").value;
		this.values = checked(given);
		try {
			local.setItem(KEPT, JSON.stringify(this.values));
		} catch {
			// They hold until the page is closed.
		}
	}
}

/** @param {typeof NUMBERS[number]} row */
function numberField([name, min, max, step, label, help]) {
	const described = `${name}-help ${name}-wrong`;
	const inputmode = step === 1 ? "numeric" : "decimal";
	const field = element("input", {
		name, type: "number", inputmode, min, max, step, "aria-describedby": described,
	});
	return [
		element("label", {}, label, " ", field),
		element("p", { class: "small", id: `${name}-help` }, help),
		element("p", { class: "wrong", id: `${name}-wrong` }),
	];
}
