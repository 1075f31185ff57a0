// What of a long text is sent: the context holds so many tokens, and the beginning gives way. Knows
// no document: runs under node as well.

/** More characters than a token has on average in any text. */
export const CHARACTERS_A_TOKEN = 24;

/**
 * A fitting place to begin, near `start`: after a paragraph, else after a sentence, else at a word.
 * @param {string} text
 * @param {number} start
 */
export function beginning(text, start) {
	if (start <= 0) return 0;
	const near = text.slice(start, start + 400);
	for (const pattern of [/\n+/, /[.!?]["'”’)]*\s+/, /\s+(?=\S)/]) {
		const found = pattern.exec(near);
		if (found) return start + found.index + found[0].length;
	}
	// Not between the halves of a character.
	return /^[\uDC00-\uDFFF]/.test(near) ? start + 1 : start;
}

/** @param {string} front @param {string} tail */
const join = (front, tail) => (front && !/\s$/.test(front) ? `${front}\n${tail}` : front + tail);

/**
 * The prompt for a text: all of it if it fits, else `front` and the end of the text. The cut stays
 * where it is as long as that fits, so that the server finds the beginning in its cache.
 * @param {object} given
 * @param {string} given.text
 * @param {string} given.front  kept in front once the beginning is cut
 * @param {number} given.room  tokens
 * @param {number} given.last  where the text was cut last, or 0
 * @param {(text: string) => Promise<number>} given.count
 * @returns {Promise<{ prompt: string, start: number, tokens: number }>}
 */
export async function fit({ text, front, room, last, count }) {
	if (text.length <= room * CHARACTERS_A_TOKEN) {
		const tokens = await count(text);
		if (tokens <= room) return { prompt: text, start: 0, tokens };
	}
	/** @param {number} start */
	const from = async (start) => {
		const prompt = join(front, text.slice(start));
		return { prompt, start, tokens: await count(prompt) };
	};
	if (last > 0 && last < text.length && (text.length - last) < room * CHARACTERS_A_TOKEN) {
		const again = await from(last);
		if (again.tokens <= room) return again;
	}
	const kept = front ? await count(front) : 0;
	if (kept > room / 2) {
		throw new Error(
			`The text kept in front has ${kept} tokens, more than half of the ${room} that there are. ` +
			"Shorten it in the settings.",
		);
	}
	// Three quarters: the next few continuations need no other cut.
	const wanted = Math.max(1, kept + Math.floor((room - kept) * 0.75));
	let length = Math.min(text.length, wanted * 4);
	let best = null;
	for (let round = 0; round < 8; round++) {
		const tried = await from(beginning(text, text.length - length));
		if (tried.tokens <= room && (!best || tried.tokens > best.tokens)) best = tried;
		if (tried.tokens <= room && (tried.tokens >= wanted * 0.7 || tried.start === 0)) break;
		const tokens = Math.max(1, tried.tokens - kept);
		const share = Math.min(4, Math.max(0.1, (wanted - kept) / tokens));
		length = Math.max(1, Math.min(text.length, Math.floor(length * share)));
	}
	return best ?? from(text.length);
}
