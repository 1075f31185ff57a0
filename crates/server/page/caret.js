// Where the caret of a textarea is, in pixels: a textarea does not tell, so a copy of its text in a
// box of the same form does.

import { element } from "./dom.js";

/**
 * The top of the line at an offset of the text, within the textarea's content, and its height.
 * @param {HTMLTextAreaElement} area
 * @param {number} at
 */
export function caretLine(area, at) {
	const marker = element("span", {}, "\u200b");
	const mirror = element("div", { class: "writing mirror", "aria-hidden": "true" });
	mirror.append(area.value.slice(0, at), marker, area.value.slice(at, at + 200));
	mirror.style.width = `${area.clientWidth}px`;
	area.after(mirror);
	const line = { top: marker.offsetTop, height: marker.offsetHeight };
	mirror.remove();
	return line;
}
