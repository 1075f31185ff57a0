// The page: its parts are made here and told of each other.

import * as api from "./api.js";
import { announce, byId, debounce, isAbort } from "./dom.js";
import { Editor } from "./editor.js";
import { Inside } from "./inside.js";
import { askForKey, clear, failed, prepareMessages, tell } from "./messages.js";
import { Panels } from "./panels.js";
import { SettingsForm } from "./settings.js";
import { Status } from "./status.js";
import { Suggestions } from "./suggestions.js";
import { TextList } from "./text-list.js";
import { Texts } from "./texts.js";
import { Tree } from "./tree.js";

/** @type {Promise<api.Model> | null} */
let asked = null;

/** The server's model; asked for again after a failure. */
function model() {
  asked ??= api.model();
  asked.catch(() => { asked = null; });
  return asked;
}

async function connect() {
  try {
    const { id } = await model();
    byId("model", HTMLElement).textContent = id;
    status.touch();
  } catch (error) {
    failed(error, connect);
  }
}

prepareMessages();
const settings = new SettingsForm();
const status = new Status(model, () => area.value);
const texts = new Texts({
  opened: () => {
    editor.show();
    if (panels.open === "texts") void list.show();
  },
  state: (state) => status.saved(state),
  tell,
});
const editor = new Editor(() => texts, changed);
const { area } = editor;
const suggestions = new Suggestions(area, {
  settings: () => settings.values,
  model,
  insert: (at, text) => editor.insert(at, text),
  failed: (error, again) => {
    asked = null;
    failed(error, again);
  },
  speed: (tokens, seconds) => {
    clear();
    status.speed(tokens, seconds);
  },
});
const list = new TextList(texts, tell);
const tree = new Tree((id) => editor.go(id));
const panels = new Panels((name) => {
  if (name === "history") tree.show(texts.history);
  if (name === "texts") void texts.save().then(() => list.show());
});
const showTree = debounce(() => {
  if (panels.open === "history") tree.show(texts.history);
}, 100);

/** The text is another one. */
function changed() {
  if (insideShown()) hideInside();
  byId("undo", HTMLButtonElement).disabled = !texts.history.canUndo;
  byId("redo", HTMLButtonElement).disabled = !texts.history.canRedo;
  status.touch();
  showTree();
}

// Look inside

const insideButton = byId("show-inside", HTMLButtonElement);
const insideBox = byId("inside", HTMLElement);
const inside = new Inside({
  fork: (text) => {
    hideInside();
    editor.fork(text);
    area.focus();
    announce("The text goes on from here. Undo brings the old one back.");
  },
});
/** @type {AbortController | null} */
let looking = null;
const insideShown = () => !insideBox.hidden;

function hideInside() {
  looking?.abort();
  insideBox.hidden = true;
  byId("writer", HTMLElement).hidden = false;
  insideButton.setAttribute("aria-pressed", "false");
  inside.clear();
}

async function showInside() {
  suggestions.close();
  if (area.value === "") return tell("There is nothing to look at yet: write something first.");
  const work = looking = new AbortController();
  insideBox.hidden = false;
  byId("writer", HTMLElement).hidden = true;
  insideButton.setAttribute("aria-pressed", "true");
  byId("inside-summary", HTMLElement).textContent = "The model reads …";
  try {
    await inside.show(area.value, await model(), work.signal);
    clear();
    byId("tokens", HTMLElement).focus();
  } catch (error) {
    if (isAbort(error) || work.signal.aborted) return;
    asked = null;
    hideInside();
    failed(error, showInside);
  }
}

insideButton.addEventListener("click", () => {
  if (insideShown()) {
    hideInside();
    area.focus();
  } else void showInside();
});
insideBox.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.preventDefault();
  hideInside();
  area.focus();
});

// Keys

/** Escape was pressed: the next Tab moves the focus. */
let leaving = false;

/** Ctrl Z and its like. @param {KeyboardEvent} event */
function undoKey(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return false;
  const letter = event.key.toLowerCase();
  if (letter === "z" && !event.shiftKey) editor.undo();
  else if (letter === "y" || letter === "z") editor.redo();
  else return false;
  return true;
}

/** Whether the key was for the page, and not for the text. @param {KeyboardEvent} event */
function editorKey(event) {
  const tab = event.key === "Tab" && !event.ctrlKey && !event.altKey && !event.metaKey;
  if (undoKey(event)) suggestions.close();
  else if (event.ctrlKey && event.code === "Space") suggestions.others();
  else if (suggestions.key(event)) return true;
  else if (event.key === "Escape") {
    suggestions.close();
    leaving = true;
    announce("Tab moves on now.");
    byId("how", HTMLElement).classList.add("now");
    return true;
  } else if (tab && !event.shiftKey && !leaving) suggestions.ask();
  else return false;
  return true;
}

area.addEventListener("keydown", (event) => {
  if (event.isComposing || ["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
  const taken = editorKey(event);
  if (taken) event.preventDefault();
  if (event.key === "Escape") return;
  leaving = false;
  byId("how", HTMLElement).classList.remove("now");
});
area.addEventListener("input", () => suggestions.close());
area.addEventListener("blur", () => {
  // Another window has the focus: nothing changes here.
  if (document.activeElement === area) return;
  leaving = false;
  byId("how", HTMLElement).classList.remove("now");
  suggestions.close();
});
document.addEventListener("selectionchange", () => {
  if (suggestions.isOpen && area.selectionEnd !== suggestions.at) suggestions.close();
});
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.target === area) return;
  if (event.key === "Escape" && suggestions.isOpen) suggestions.close();
  const field = event.target instanceof HTMLElement && event.target.closest("input, textarea");
  if (!field && undoKey(event)) event.preventDefault();
});

// Buttons

/** On a phone, the focus and so the keyboard stay as they are. @param {string} id */
function keepsFocus(id) {
  byId(id, HTMLButtonElement).addEventListener("mousedown", (event) => event.preventDefault());
}
for (const id of ["continue", "undo", "redo"]) keepsFocus(id);

byId("continue", HTMLButtonElement).addEventListener("click", (event) => {
  if (insideShown()) hideInside();
  // By a key, or by a mouse: the arrow keys shall choose.
  if (event.detail === 0 || matchMedia("(pointer: fine)").matches) area.focus();
  suggestions.others();
});
byId("undo", HTMLButtonElement).addEventListener("click", () => {
  suggestions.close();
  editor.undo();
});
byId("redo", HTMLButtonElement).addEventListener("click", () => {
  suggestions.close();
  editor.redo();
});
byId("set-key", HTMLButtonElement).addEventListener("click", () => {
  void askForKey().then((given) => {
    if (!given) return;
    asked = null;
    void connect();
  });
});

area.disabled = true;
await texts.start();
area.disabled = false;
void connect();
area.focus();
