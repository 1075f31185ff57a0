// Texts as files: out as .txt and .json, in with everything checked. A file may come from anyone.

import { element } from "./dom.js";
import { History, MOST_TEXT } from "./history.js";

const FORMAT = "gpt2-edge text";
const VERSION = 1;
/** Most bytes of a file that is read. */
const MOST_BYTES = 32 << 20;

/** @param {History} history */
export const asJson = (history) =>
	JSON.stringify({ format: FORMAT, version: VERSION, history: history.toJSON() }, null, 1);

/** @param {string} content @returns {History} */
export function fromJson(content) {
	let value;
	try {
		value = JSON.parse(content);
	} catch {
		throw new Error("it is not JSON");
	}
	if (value?.format !== FORMAT) throw new Error(`it does not say "format": "${FORMAT}"`);
	if (value.version !== VERSION) {
		throw new Error(`expected version ${VERSION}, found ${String(value.version).slice(0, 20)}`);
	}
	return History.fromJSON(value.history);
}

/** @param {string} content @returns {History} */
export function fromText(content) {
	const text = content.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
	if (text.includes("\0")) throw new Error("it is not a text");
	if (text.length > MOST_TEXT) {
		throw new Error(`it has ${text.length} characters, more than ${MOST_TEXT}`);
	}
	return new History(text);
}

/** @param {File} file @returns {Promise<History>} */
export async function fromFile(file) {
	if (file.size > MOST_BYTES) throw new Error(`it has ${file.size} bytes, more than ${MOST_BYTES}`);
	let content;
	try {
		content = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
	} catch {
		throw new Error("it is not a text in UTF-8");
	}
	return /\.json$/i.test(file.name) ? fromJson(content) : fromText(content);
}

/**
 * Hands a file to whoever uses the page.
 * @param {string} name
 * @param {string} type
 * @param {string} content
 */
export function download(name, type, content) {
	const url = URL.createObjectURL(new Blob([content], { type }));
	const link = element("a", { href: url, download: name });
	document.body.append(link);
	link.click();
	link.remove();
	setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A file's name from a title. @param {string} title @param {string} ending */
export function fileName(title, ending) {
	const plain = title.normalize("NFKD").replace(/[^\p{L}\p{N} _-]/gu, "").trim().slice(0, 40).trim();
	return `${plain || "text"}.${ending}`;
}
