// Small helpers over the document.

/**
 * The element with this id, of this type.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {{ new (): T }} [type]
 * @returns {T}
 */
export function byId(id, type) {
	const found = document.getElementById(id);
	if (!(found instanceof (type ?? HTMLElement))) throw new Error(`internal error: no #${id}`);
	return /** @type {T} */ (found);
}

/** @param {string} id @param {string} text */
export function setText(id, text) {
	byId(id).textContent = text;
}

/** @param {string} id @param {(event: MouseEvent) => unknown} action */
export function onClick(id, action) {
	byId(id).addEventListener("click", (event) => void action(event));
}

/** @param {"localStorage" | "sessionStorage"} name @returns {Kept} */
function storage(name) {
	try {
		return window[name];
	} catch {
		// A browser that allows none: nothing is kept.
		const nothing = () => null;
		return { length: 0, key: nothing, getItem: nothing, setItem: nothing, removeItem: nothing };
	}
}
export const local = storage("localStorage");
export const session = storage("sessionStorage");

/**
 * A new element. Text is always text: nothing here reads HTML.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, attributes = {}, ...children) {
	const made = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (value === true) made.setAttribute(name, "");
		else if (value !== false && value != null) made.setAttribute(name, String(value));
	}
	made.append(...children);
	return made;
}

/** Acts once calls have stopped. @param {() => void} action @param {number} wait */
export function debounce(action, wait) {
	/** @type {ReturnType<typeof setTimeout> | undefined} */
	let timer;
	const later = () => {
		clearTimeout(timer);
		timer = setTimeout(action, wait);
	};
	later.cancel = () => clearTimeout(timer);
	return later;
}

/** A second, unless the signal aborts first. @param {AbortSignal} signal */
export function second(signal) {
	return new Promise((resolve, reject) => {
		setTimeout(resolve, 1_000);
		signal.addEventListener("abort", () => reject(signal.reason), { once: true });
	});
}

/** @param {unknown} error */
export const words = (error) => (error instanceof Error ? error.message : String(error));

/** Says something to a screen reader. @param {string} message */
export const announce = (message) => setText("live", message);

/** White space made visible, for a text on one line. @param {string} text */
export const visible = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
