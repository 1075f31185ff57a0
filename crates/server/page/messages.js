// What goes wrong, said above the text, and the field for a key.

import { ApiError, key, setKey } from "./api.js";
import { byId } from "./dom.js";

const box = () => byId("alert", HTMLElement);
const action = () => byId("alert-action", HTMLButtonElement);

/** @type {(() => void) | null} */
let again = null;

/** Once, when the page begins. */
export function prepareMessages() {
  byId("alert-close", HTMLButtonElement).addEventListener("click", () => {
    clear();
    byId("text", HTMLTextAreaElement).focus();
  });
  action().addEventListener("click", () => {
    const repeat = again;
    clear();
    repeat?.();
  });
}

/**
 * @param {string} message
 * @param {(() => void) | null} [repeat]  what another try does
 */
export function tell(message, repeat = null) {
  again = repeat;
  byId("alert-text", HTMLElement).textContent = message;
  action().hidden = repeat === null;
  box().hidden = false;
}

export function clear() {
  again = null;
  box().hidden = true;
}

/**
 * An error in words; a missing key is asked for, and then it is tried again.
 * @param {unknown} error
 * @param {() => void} repeat
 */
export function failed(error, repeat) {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof ApiError && error.status === 401) {
    void askForKey().then((given) => (given ? repeat() : tell(message, repeat)));
  } else tell(message, error instanceof ApiError ? repeat : null);
}

/** @returns {Promise<boolean>}  whether one was given */
export function askForKey() {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const field = byId("key-value", HTMLInputElement);
  field.value = key() ?? "";
  if (!dialog.open) dialog.showModal();
  field.select();
  return new Promise((resolve) => {
    const form = byId("key-form", HTMLFormElement);
    /** @param {SubmitEvent} event */
    const submit = (event) => {
      event.preventDefault();
      const { submitter } = event;
      dialog.close(submitter instanceof HTMLButtonElement ? submitter.value : "ok");
    };
    form.addEventListener("submit", submit);
    dialog.addEventListener("close", () => {
      form.removeEventListener("submit", submit);
      const given = dialog.returnValue === "ok";
      if (given) setKey(field.value.trim());
      dialog.returnValue = "";
      field.value = "";
      resolve(given);
    }, { once: true });
  });
}
