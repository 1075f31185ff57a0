// What the page's modules hand to each other. Read by `tsc` alone.

// dom.js

/** What is used of a browser's storage. */
type Kept = Pick<Storage, "length" | "key" | "getItem" | "setItem" | "removeItem">;

// history.js

type Kind = "start" | "typed" | "suggestion" | "fork" | "restored";

/** A range of a text that becomes another. Offsets are in UTF-16 units. */
interface Replaced {
  at: number;
  removed: string;
  inserted: string;
}

/** A state of a text, as a change of its parent's. */
interface Change extends Replaced {
  id: number;
  /** null for the first state, whose `inserted` is the whole text. */
  parent: number | null;
  kind: Kind;
  /** Milliseconds since 1970. */
  time: number;
  /** The child that redo goes to. */
  next: number | null;
}

// api.js

interface Model {
  id: string;
  /** Most tokens of a text. */
  context: number;
}

/** What a request for continuations holds beside the prompt, under OpenAI's names. */
type Sampling = Record<string, unknown> & { n: number; max_tokens: number };

/** A piece of one of several continuations. */
interface Chunk {
  index: number;
  text: string;
  finish: string | null;
}

/** OpenAI's log-probabilities of completions. */
interface Logprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  /** In code points. */
  text_offset: number[];
}

// settings.js

interface Settings {
  temperature: number;
  topP: number;
  /** 0: all tokens. */
  topK: number;
  /** Tokens of a continuation. */
  length: number;
  /** Seconds. */
  time: number;
  /** null: another one each time. */
  seed: number | null;
  /** A stop string in each line, `\n` written out. */
  stop: string;
  /** Kept in front once the text is longer than the context. */
  front: string;
}

// suggestions.js

/** One of the continuations that are shown. */
interface Shown {
  row: HTMLElement;
  body: HTMLElement;
  /** What was written so far, without what was taken. */
  text: string;
  done: boolean;
}

/** What the list of continuations needs of the page. */
interface SuggestionsHost {
  settings: () => Settings;
  model: () => Promise<Model>;
  /** false when the text would be too long. */
  insert: (at: number, text: string) => boolean;
  failed: (error: unknown, again: () => void) => void;
  speed: (tokens: number, seconds: number) => void;
}

// inside.js

/** A token of a scored text. */
interface Token {
  /** Where it is in the text, in UTF-16 units. */
  start: number;
  text: string;
  /** null for the first. */
  probability: number | null;
  /** Likeliest first. */
  others: Alternative[];
}

interface Alternative {
  text: string;
  probability: number;
}

// store.js, texts.js

/** A text in the list of texts. */
interface Entry {
  id: string;
  revision: number;
  /** Milliseconds since 1970. */
  updated: number;
  title: string;
  /** Characters. */
  length: number;
}

interface Saved extends Entry {
  history: unknown;
}

interface Store {
  /** Newest first. */
  list: () => Promise<Entry[]>;
  read: (id: string) => Promise<Saved | null>;
  /** The revision must be the one after that which is there. */
  write: (text: Saved) => Promise<void>;
  remove: (id: string) => Promise<void>;
}

interface TextsHost {
  /** Another text is there. */
  opened: () => void;
  state: (state: "saved" | "unsaved" | "off") => void;
  tell: (message: string) => void;
}
