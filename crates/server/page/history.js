// The history of a text: a tree of changes. Undo goes to the parent, redo to the child visited
// last; whatever is written after an undo is another child, so nothing written is ever lost.
//
// A node keeps what its change removed and inserted, not the whole text. Knows no document and no
// store: runs under node as well.

/**
 * @typedef {"start" | "typed" | "suggestion" | "fork" | "restored"} Kind
 *
 * A state of the text, as a change of its parent's. Offsets are in UTF-16 units.
 * @typedef {object} Change
 * @property {number} id
 * @property {number | null} parent  null for the first state, whose `inserted` is the whole text
 * @property {Kind} kind
 * @property {number} time  milliseconds since 1970
 * @property {number} at
 * @property {string} removed
 * @property {string} inserted
 * @property {number | null} next  the child that redo goes to
 */

/** Most characters of a text. */
export const MOST_TEXT = 500_000;
/** Most states of a text; the oldest that are on no way to the current one are dropped first. */
export const MOST_STATES = 2_000;
/** Most characters in all changes together. */
const MOST_CHARACTERS = 4_000_000;
/** A pause in typing that begins a new change, in milliseconds. */
const PAUSE = 1_500;
/** Characters typed without a pause that make one change. */
const BURST = 400;

const KINDS = ["start", "typed", "suggestion", "fork", "restored"];

/**
 * What makes `after` of `before`: the smallest range that differs.
 * @param {string} before
 * @param {string} after
 */
export function difference(before, after) {
  const shortest = Math.min(before.length, after.length);
  let at = 0;
  while (at < shortest && before.charCodeAt(at) === after.charCodeAt(at)) at++;
  let end = 0;
  while (
    end < shortest - at &&
    before.charCodeAt(before.length - 1 - end) === after.charCodeAt(after.length - 1 - end)
  ) end++;
  return {
    at,
    removed: before.slice(at, before.length - end),
    inserted: after.slice(at, after.length - end),
  };
}

/** @param {string} text @param {number} at @param {string} out @param {string} into */
const replace = (text, at, out, into) => text.slice(0, at) + into + text.slice(at + out.length);

export class History {
  /** @param {string} [text] @param {number} [time] */
  constructor(text = "", time = Date.now()) {
    /** @type {Map<number, Change>} */
    this.changes = new Map();
    /** @type {Map<number, number[]>} */
    this.childrenOf = new Map();
    this.text = text;
    this.current = 0;
    this.root = 0;
    this.#characters = text.length;
    this.#put({
      id: 0, parent: null, kind: "start", time, at: 0, removed: "", inserted: text, next: null,
    });
  }

  #characters = 0;

  /** @param {Change} change */
  #put(change) {
    this.changes.set(change.id, change);
    if (change.parent === null) return;
    const siblings = this.childrenOf.get(change.parent);
    if (siblings) siblings.push(change.id);
    else this.childrenOf.set(change.parent, [change.id]);
  }

  /** @param {number} id @returns {Change} */
  get(id) {
    const change = this.changes.get(id);
    if (!change) throw new Error(`internal error: no change ${id}`);
    return change;
  }

  /** @param {number} id */
  children(id) {
    return this.childrenOf.get(id) ?? [];
  }

  get canUndo() {
    return this.get(this.current).parent !== null;
  }

  get canRedo() {
    return this.get(this.current).next !== null;
  }

  /**
   * The text is now `text`. Typing without a pause makes one change.
   * @param {Exclude<Kind, "start">} kind
   * @param {string} text
   * @param {number} [time]
   */
  record(kind, text, time = Date.now()) {
    if (text === this.text) return;
    const last = this.get(this.current);
    const joins = kind === "typed" && last.kind === "typed" && last.parent !== null &&
      this.children(last.id).length === 0 && time - last.time < PAUSE &&
      last.inserted.length < BURST;
    if (joins && last.parent !== null) {
      const before = replace(this.text, last.at, last.inserted, last.removed);
      this.#characters -= last.inserted.length + last.removed.length;
      Object.assign(last, difference(before, text), { time });
      this.#characters += last.inserted.length + last.removed.length;
      this.text = text;
      // Written and deleted again: as if it had never been.
      if (text === before) {
        this.current = last.parent;
        this.#remove(last.id);
      }
      return;
    }
    const id = Math.max(...this.changes.keys()) + 1;
    const change = { id, parent: this.current, kind, time, ...difference(this.text, text) };
    this.#put({ ...change, next: null });
    this.#characters += change.inserted.length + change.removed.length;
    last.next = id;
    this.current = id;
    this.text = text;
    this.#prune();
  }

  /**
   * Back by one change.
   * @returns {number | null} where the caret belongs, or null at the first state
   */
  undo() {
    const change = this.get(this.current);
    if (change.parent === null) return null;
    this.text = replace(this.text, change.at, change.inserted, change.removed);
    this.get(change.parent).next = change.id;
    this.current = change.parent;
    return change.at + change.removed.length;
  }

  /** Forward by one change; as `undo`. */
  redo() {
    const { next } = this.get(this.current);
    if (next === null) return null;
    const change = this.get(next);
    this.text = replace(this.text, change.at, change.removed, change.inserted);
    this.current = next;
    return change.at + change.inserted.length;
  }

  /** The ids from a state up to the first one. @param {number} id */
  #path(id) {
    const path = [id];
    for (let parent = this.get(id).parent; parent !== null; parent = this.get(parent).parent) {
      path.push(parent);
    }
    return path;
  }

  /**
   * To any state. Returns where the caret belongs.
   * @param {number} id
   */
  go(id) {
    const path = this.#path(id);
    const ways = new Set(path);
    let caret = null;
    while (!ways.has(this.current)) caret = this.undo();
    for (let step = path.indexOf(this.current) - 1; step >= 0; step--) {
      this.get(this.current).next = path[step] ?? null;
      caret = this.redo();
    }
    return caret ?? this.text.length;
  }

  /** A state without children. @param {number} id */
  #remove(id) {
    const { parent, inserted, removed } = this.get(id);
    this.#characters -= inserted.length + removed.length;
    this.changes.delete(id);
    if (parent === null) return;
    const siblings = this.children(parent).filter((child) => child !== id);
    if (siblings.length) this.childrenOf.set(parent, siblings);
    else this.childrenOf.delete(parent);
    const above = this.get(parent);
    if (above.next === id) above.next = siblings.at(-1) ?? null;
  }

  #prune() {
    const full = () =>
      this.changes.size > MOST_STATES || this.#characters > MOST_CHARACTERS;
    if (!full()) return;
    const ways = new Set(this.#path(this.current));
    while (full()) {
      let oldest = null;
      for (const change of this.changes.values()) {
        const leaf = !ways.has(change.id) && !this.childrenOf.has(change.id);
        if (leaf && (oldest === null || change.time < oldest.time)) oldest = change;
      }
      if (oldest) this.#remove(oldest.id);
      else if (!this.#dropFirst()) return;
    }
  }

  /** One way is left: its second state becomes the first. */
  #dropFirst() {
    const root = this.get(this.root);
    const [second] = this.children(root.id);
    if (second === undefined || root.id === this.current) return false;
    const change = this.get(second);
    const text = replace(root.inserted, change.at, change.removed, change.inserted);
    this.#characters += text.length - root.inserted.length;
    this.#characters -= change.inserted.length + change.removed.length;
    this.changes.delete(root.id);
    this.childrenOf.delete(root.id);
    Object.assign(change, { parent: null, kind: "start", at: 0, removed: "", inserted: text });
    this.root = second;
    return true;
  }

  /** What is saved and exported. */
  toJSON() {
    return { current: this.current, changes: [...this.changes.values()] };
  }

  /**
   * Checks everything: a file may say anything, and a change that does not fit its parent would
   * show a text that nobody wrote.
   * @param {unknown} saved
   * @returns {History}
   */
  static fromJSON(saved) {
    const { current, changes } = /** @type {Record<string, unknown>} */ (saved ?? {});
    if (!Array.isArray(changes) || changes.length === 0) throw new Error("it has no history");
    if (changes.length > MOST_STATES) {
      throw new Error(`its history has ${changes.length} states, more than ${MOST_STATES}`);
    }
    const history = new History();
    history.changes.clear();
    history.#characters = 0;
    let root = null;
    for (const value of changes) {
      const change = checkedChange(value);
      if (history.changes.has(change.id)) throw new Error(`change ${change.id} is there twice`);
      if (change.parent === null) {
        if (root !== null) throw new Error("its history has two beginnings");
        root = change;
      }
      history.#put(change);
      history.#characters += change.inserted.length + change.removed.length;
    }
    if (root === null) throw new Error("its history has no beginning");
    if (history.#characters > MOST_CHARACTERS + MOST_TEXT) {
      throw new Error(`its history has more than ${MOST_CHARACTERS} characters`);
    }
    history.root = root.id;
    history.#verify(root, current);
    return history;
  }

  /**
   * Walks the whole tree with one text, then stays at `current`.
   * @param {Change} root
   * @param {unknown} current
   */
  #verify(root, current) {
    let text = root.inserted;
    let found = root.id === current ? text : null;
    let seen = 1;
    /** @type {{ id: number, child: number }[]} */
    const stack = [{ id: root.id, child: 0 }];
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const id = this.children(top.id)[top.child++];
      if (id !== undefined) {
        const { at, removed, inserted } = this.get(id);
        if (text.slice(at, at + removed.length) !== removed || at > text.length) {
          throw new Error(`change ${id} does not fit the text before it`);
        }
        text = replace(text, at, removed, inserted);
        if (text.length > MOST_TEXT) throw new Error(`a text has more than ${MOST_TEXT} characters`);
        if (id === current) found = text;
        seen++;
        stack.push({ id, child: 0 });
        continue;
      }
      const { at, removed, inserted, parent } = this.get(top.id);
      if (parent !== null) text = replace(text, at, inserted, removed);
      stack.pop();
    }
    if (seen !== this.changes.size) throw new Error("changes hang on no beginning");
    if (found === null) throw new Error("its current state is not in its history");
    for (const change of this.changes.values()) {
      const ways = this.children(change.id);
      if (change.next === null || !ways.includes(change.next)) change.next = ways.at(-1) ?? null;
    }
    this.current = /** @type {number} */ (current);
    this.text = found;
  }
}

/** @param {unknown} value @returns {Change} */
function checkedChange(value) {
  const { id, parent, kind, time, at, removed, inserted, next } =
    /** @type {Record<string, unknown>} */ (value ?? {});
  /** @param {unknown} number @returns {number} */
  const whole = (number) => {
    if (!Number.isSafeInteger(number) || Number(number) < 0) {
      throw new Error(`expected a whole number in a change, found ${String(number).slice(0, 40)}`);
    }
    return Number(number);
  };
  /** @param {unknown} text @returns {string} */
  const string = (text) => {
    if (typeof text !== "string") throw new Error("expected a text in a change");
    if (text.includes("\r")) throw new Error("expected line ends without a carriage return");
    return text;
  };
  if (typeof kind !== "string" || !KINDS.includes(kind)) {
    throw new Error(`expected one of ${KINDS.join(", ")}, found ${String(kind).slice(0, 40)}`);
  }
  const checked = {
    id: whole(id), parent: parent === null ? null : whole(parent),
    kind: /** @type {Kind} */ (kind), time: whole(time), at: whole(at),
    removed: string(removed), inserted: string(inserted),
    next: next === null || next === undefined ? null : whole(next),
  };
  if (checked.parent === null && (checked.at !== 0 || checked.removed !== "")) {
    throw new Error("its first state removes something");
  }
  if (checked.inserted.length > MOST_TEXT) {
    throw new Error(`a text has more than ${MOST_TEXT} characters`);
  }
  return checked;
}
