// Server-sent events from a response's body, as the standard reads them. Knows no document and no
// protocol: runs under node as well.

/** Most bytes of one event. */
const MOST_EVENT = 1 << 20;

/**
 * The data of each event.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string, void, void>}
 */
export async function* events(body) {
	const reader = body.getReader();
	const decoder = new TextDecoder();
	let rest = "";
	/** @type {string[]} */
	let data = [];
	let size = 0;
	try {
		for (;;) {
			const { value, done } = await reader.read();
			rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
			size += value?.length ?? 0;
			if (size > MOST_EVENT) throw new Error("the server sent an event without an end");
			// A carriage return at the end may be half of a line end.
			const whole = rest.endsWith("\r") && !done ? rest.slice(0, -1) : rest;
			const lines = whole.split(/\r\n|\r|\n/);
			rest = (lines.pop() ?? "") + rest.slice(whole.length);
			for (const line of lines) {
				if (line === "") {
					if (data.length) yield data.join("\n");
					data = [];
					size = 0;
				} else if (line.startsWith("data:")) {
					data.push(line.slice(line[5] === " " ? 6 : 5));
				}
			}
			if (done) return;
		}
	} finally {
		// Also when the caller has enough: the server stops writing.
		reader.cancel().catch(() => {});
	}
}
