// What goes wrong, said above the text, and the field for a key.

import { ApiError, key, setKey } from "./api.js";
import { byId, onClick, setText, words } from "./dom.js";

const box = byId("alert");
const action = byId("alert-action", HTMLButtonElement);

/** @type {(() => void) | null} */
let again = null;

onClick("alert-close", () => {
	clear();
	byId("text").focus();
});
onClick("alert-action", () => {
	const repeat = again;
	clear();
	repeat?.();
});

/** @param {string} message @param {(() => void) | null} [repeat]  what another try does */
export function tell(message, repeat = null) {
	again = repeat;
	setText("alert-text", message);
	action.hidden = repeat === null;
	box.hidden = false;
}

export function clear() {
	again = null;
	box.hidden = true;
}

/**
 * An error in words; a missing key is asked for, and then it is tried again.
 * @param {unknown} error
 * @param {() => void} repeat
 */
export function failed(error, repeat) {
	const message = words(error);
	if (error instanceof ApiError && error.status === 401) {
		void askForKey().then((given) => (given ? repeat() : tell(message, repeat)));
	} else tell(message, error instanceof ApiError ? repeat : null);
}

/** @returns {Promise<boolean>}  whether one was given */
export function askForKey() {
	const dialog = byId("key-dialog", HTMLDialogElement);
	const field = byId("key-value", HTMLInputElement);
	field.value = key() ?? "";
	dialog.returnValue = "";
	if (!dialog.open) dialog.showModal();
	return new Promise((resolve) => {
		dialog.addEventListener("close", () => {
			const given = dialog.returnValue === "ok";
			if (given) setKey(field.value.trim());
			field.value = "";
			resolve(given);
		}, { once: true });
	});
}
