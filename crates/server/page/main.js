// The page: its parts are made here and told of each other.

import * as api from "./api.js";
import { announce, byId, debounce, onClick, setText, words } from "./dom.js";
import { Editor } from "./editor.js";
import { Inside } from "./inside.js";
import { askForKey, clear, failed, tell } from "./messages.js";
import { Panels } from "./panels.js";
import { SettingsForm } from "./settings.js";
import { Status } from "./status.js";
import { Suggestions } from "./suggestions.js";
import { TextList } from "./text-list.js";
import { Texts } from "./texts.js";
import { Tree } from "./tree.js";

/** @type {Promise<Model> | null} */
let asked = null;

/** The server's model; asked for again after a failure. */
function model() {
	asked ??= api.model();
	asked.catch(() => { asked = null; });
	return asked;
}

/** Another server may be there by now. @param {unknown} error @param {() => void} again */
function lost(error, again) {
	asked = null;
	failed(error, again);
}

async function connect() {
	try {
		const { id } = await model();
		setText("model", id);
		status.touch();
	} catch (error) {
		failed(error, connect);
	}
}

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
	failed: lost,
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
	const { parent, next } = texts.history.get(texts.history.current);
	byId("undo", HTMLButtonElement).disabled = parent === null;
	byId("redo", HTMLButtonElement).disabled = next === null;
	status.touch();
	showTree();
}

// Look inside

const insideBox = byId("inside");
const inside = new Inside({
	fork: (at, text) => {
		leaveInside();
		editor.fork(at, text);
		announce("The text goes on from here. Undo brings the old one back.");
	},
});
/** @type {AbortController | null} */
let looking = null;
const insideShown = () => !insideBox.hidden;

function hideInside() {
	looking?.abort();
	insideBox.hidden = true;
	byId("writer").hidden = false;
	byId("show-inside").setAttribute("aria-pressed", "false");
	inside.clear();
}

async function showInside() {
	suggestions.close();
	if (area.value === "") return tell("There is nothing to look at yet: write something first.");
	const work = looking = new AbortController();
	insideBox.hidden = false;
	byId("writer").hidden = true;
	byId("show-inside").setAttribute("aria-pressed", "true");
	setText("inside-summary", "The model reads …");
	try {
		await inside.show(area.value, await model(), work.signal);
		clear();
		byId("tokens").focus();
	} catch (error) {
		if (work.signal.aborted) return;
		hideInside();
		lost(error, showInside);
	}
}

function leaveInside() {
	hideInside();
	area.focus();
}

onClick("show-inside", () => (insideShown() ? leaveInside() : showInside()));
insideBox.addEventListener("keydown", (event) => {
	if (event.key !== "Escape") return;
	event.preventDefault();
	leaveInside();
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

/** @param {boolean} now */
function leave(now) {
	leaving = now;
	byId("how").classList.toggle("now", now);
}

/** Whether the key was for the page, and not for the text. @param {KeyboardEvent} event */
function editorKey(event) {
	const { key, ctrlKey, shiftKey, altKey, metaKey } = event;
	if (undoKey(event)) suggestions.close();
	else if (ctrlKey && event.code === "Space") suggestions.others();
	else if (suggestions.key(event)) return true;
	else if (key === "Escape") suggestions.close();
	else if (key !== "Tab" || leaving || ctrlKey || shiftKey || altKey || metaKey) return false;
	else suggestions.ask();
	return true;
}

area.addEventListener("keydown", (event) => {
	if (event.isComposing || ["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
	if (editorKey(event)) event.preventDefault();
	leave(event.key === "Escape");
	if (leaving) announce("Tab moves on now.");
});
for (const name of ["input", "blur"]) {
	area.addEventListener(name, () => {
		// Another window has the focus: nothing changes here.
		if (name === "blur" && document.activeElement === area) return;
		leave(false);
		suggestions.close();
	});
}
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

// The focus, and so a phone's keyboard, stay as they are.
for (const id of ["continue", "undo", "redo"]) {
	byId(id).addEventListener("mousedown", (event) => event.preventDefault());
}

onClick("continue", (event) => {
	if (insideShown()) hideInside();
	// By a key, or by a mouse: the arrow keys shall choose.
	if (event.detail === 0 || matchMedia("(pointer: fine)").matches) area.focus();
	suggestions.others();
});
onClick("undo", () => {
	suggestions.close();
	editor.undo();
});
onClick("redo", () => {
	suggestions.close();
	editor.redo();
});
onClick("set-key", async () => {
	if (!await askForKey()) return;
	asked = null;
	await connect();
});

try {
	await texts.start();
} catch (error) {
	tell(words(error));
}
area.disabled = false;
void connect();
area.focus();
