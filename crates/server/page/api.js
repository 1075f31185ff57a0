// The server's endpoints, and what goes wrong with them, in words.

import { session } from "./dom.js";
import { events } from "./sse.js";

const KEY = "gpt2-edge.key";

/** A failure that can be told to whoever writes. */
export class ApiError extends Error {
	/**
	 * @param {string} message
	 * @param {number} status  0 when there was no answer
	 * @param {number | null} [retryAfter]  seconds after which another try may succeed
	 */
	constructor(message, status, retryAfter = null) {
		super(message);
		this.status = status;
		this.retryAfter = retryAfter;
	}
}

export const GONE = "The server does not answer. It may have been stopped, or the network is down.";

export const key = () => session.getItem(KEY);

/** Kept until the tab is closed, and nowhere else. @param {string} value */
export function setKey(value) {
	if (value) session.setItem(KEY, value);
	else session.removeItem(KEY);
}

/**
 * @param {string} path  relative, so that a proxy may serve the page below a path
 * @param {object | null} body
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
async function call(path, body, signal) {
	/** @type {Record<string, string>} */
	const headers = {};
	if (body) headers["content-type"] = "application/json";
	const secret = key();
	if (secret) headers.authorization = `Bearer ${secret}`;
	let response;
	try {
		response = await fetch(path, {
			method: body ? "POST" : "GET",
			headers,
			body: body ? JSON.stringify(body) : null,
			signal: signal ?? null,
			cache: "no-store",
			credentials: "same-origin",
			redirect: "error",
		});
	} catch (error) {
		if (signal?.aborted) throw error;
		// What no header can hold fails like the network.
		if (secret && !/^[\x21-\x7e]+$/.test(secret)) throw new ApiError("This is not a key.", 401);
		throw new ApiError(GONE, 0);
	}
	if (!response.ok) throw await failure(response);
	return response;
}

/** @param {Response} response */
async function failure(response) {
	let said = "";
	try {
		const { error } = JSON.parse((await response.text()).slice(0, 100_000));
		said = String(error?.message ?? error ?? "").slice(0, 1_000);
	} catch {
		// No JSON: the status says enough.
	}
	const { status } = response;
	const seconds = Number(response.headers.get("retry-after") ?? NaN);
	const retry = Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 60) : 2;
	if (status === 401) return new ApiError("The server wants a key.", status);
	if (status === 429) return new ApiError("The server has too much to do just now.", status, retry);
	if (status === 503) return new ApiError(said || "The server is not ready.", status, retry);
	if (said) return new ApiError(`The server refused: ${said}`, status);
	return new ApiError(`The server answered with status ${status}.`, status);
}

/** @param {Response} response @returns {Promise<any>} */
async function json(response) {
	try {
		return await response.json();
	} catch {
		throw new ApiError("The server's answer was cut off.", 0);
	}
}

/** @returns {Promise<Model>} */
export async function model() {
	const { data } = await json(await call("v1/models", null));
	const found = Array.isArray(data) ? data[0] : null;
	if (typeof found?.id !== "string") throw new ApiError("The server has no model.", 0);
	const context = Number(found.max_model_len);
	return { id: found.id, context: context > 0 ? context : 1024 };
}

/**
 * The number of tokens of a text.
 * @param {string} prompt
 * @param {AbortSignal} [signal]
 * @returns {Promise<number>}
 */
export async function count(prompt, signal) {
	if (prompt === "") return 0;
	const answer = await json(await call("tokenize", { prompt: wellFormed(prompt) }, signal));
	const tokens = Number(answer?.count);
	if (!Number.isFinite(tokens)) throw new ApiError("The server counted no tokens.", 0);
	return tokens;
}

/**
 * The log-probabilities of each token of a text, and the ten likeliest in its place.
 * @param {string} id
 * @param {string} prompt
 * @param {AbortSignal} signal
 * @returns {Promise<{ text: string, logprobs: Logprobs }>}
 */
export async function scores(id, prompt, signal) {
	const body = { model: id, prompt: wellFormed(prompt), echo: true, max_tokens: 0, logprobs: 10 };
	const answer = await json(await call("v1/completions", body, signal));
	const choice = answer?.choices?.[0];
	const found = choice?.logprobs;
	const lists = [found?.tokens, found?.token_logprobs, found?.top_logprobs, found?.text_offset];
	const same = lists.every((list) => Array.isArray(list) && list.length === lists[0].length);
	if (!same || typeof choice.text !== "string") {
		throw new ApiError("The server sent no probabilities.", 0);
	}
	return { text: choice.text, logprobs: found };
}

/**
 * Continuations of a prompt, piece by piece.
 * @param {string} id
 * @param {string} prompt
 * @param {Sampling} sampling
 * @param {AbortSignal} signal
 * @param {(chunk: Chunk) => void} take
 * @returns {Promise<number | null>}  how many tokens were written, when the server says it
 */
export async function continuations(id, prompt, sampling, signal, take) {
	const body = {
		model: id, ...(prompt && { prompt: wellFormed(prompt) }), stream: true,
		stream_options: { include_usage: true }, ...sampling,
	};
	const response = await call("v1/completions", body, signal);
	if (!response.body) throw new ApiError(GONE, 0);
	let tokens = null;
	try {
		for await (const data of events(response.body)) {
			if (data === "[DONE]") return tokens;
			const event = JSON.parse(data);
			if (event.error) {
				throw new ApiError(`The server stopped: ${String(event.error.message).slice(0, 1_000)}`, 0);
			}
			tokens = event.usage?.completion_tokens ?? tokens;
			for (const { index, text, finish_reason } of event.choices ?? []) {
				if (Number.isInteger(index) && index >= 0 && index < sampling.n) {
					take({ index, text: String(text ?? ""), finish: finish_reason ?? null });
				}
			}
		}
	} catch (error) {
		if (signal.aborted || error instanceof ApiError) throw error;
		throw new ApiError("The connection to the server broke.", 0);
	}
	throw new ApiError("The connection to the server broke.", 0);
}

/** Half a surrogate pair, which no reader of JSON has to take. */
const HALVES = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;

/** @param {string} text */
const wellFormed = (text) => text.replace(HALVES, "\uFFFD");
