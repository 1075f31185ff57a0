// Where texts are kept: the browser's own database. Who writes over another revision than was read
// is refused, so that no tab writes over what another tab has saved.

const DATABASE = "gpt2-edge";
const TEXTS = "texts";
/** Apart from the texts, so that a list of many texts reads no text. */
const ENTRIES = "entries";

/** Another tab has saved this text since it was read. */
export class Conflict extends Error {}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const answered = (request) => new Promise((resolve, reject) => {
	request.onsuccess = () => resolve(request.result);
	request.onerror = () => reject(request.error);
});

/** @returns {Promise<IDBDatabase>} */
function open() {
	return new Promise((resolve, reject) => {
		const request = indexedDB.open(DATABASE, 1);
		request.onupgradeneeded = () => {
			request.result.createObjectStore(TEXTS, { keyPath: "id" });
			request.result.createObjectStore(ENTRIES, { keyPath: "id" });
		};
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
		request.onblocked = () => reject(new Error("another tab keeps the texts open"));
	});
}

/** @returns {Promise<Store>} */
export async function browserStore() {
	const database = await open();
	/** @param {IDBTransactionMode} mode */
	const begin = (mode) => {
		const transaction = database.transaction([TEXTS, ENTRIES], mode);
		const done = new Promise((resolve, reject) => {
			transaction.oncomplete = () => resolve(null);
			transaction.onabort = () => reject(transaction.error ?? new Error("nothing was saved"));
		});
		const texts = transaction.objectStore(TEXTS);
		return { transaction, done, texts, entries: transaction.objectStore(ENTRIES) };
	};
	return {
		async list() {
			const all = await answered(begin("readonly").entries.getAll());
			return all.sort((one, two) => two.updated - one.updated);
		},
		async read(id) {
			return (await answered(begin("readonly").texts.get(id))) ?? null;
		},
		async write(text) {
			const { transaction, done, texts, entries } = begin("readwrite");
			done.catch(() => {});
			const there = await answered(entries.get(text.id));
			if ((there?.revision ?? 0) !== text.revision - 1) {
				transaction.abort();
				throw new Conflict();
			}
			const { history, ...entry } = text;
			texts.put(text);
			entries.put(entry);
			await done;
		},
		async remove(id) {
			const { done, texts, entries } = begin("readwrite");
			texts.delete(id);
			entries.delete(id);
			await done;
		},
	};
}

/** For a browser that keeps nothing: until the page is closed. @returns {Store} */
export function memoryStore() {
	/** @type {Map<string, Saved>} */
	const texts = new Map();
	return {
		list: async () => [...texts.values()].sort((one, two) => two.updated - one.updated),
		read: async (id) => texts.get(id) ?? null,
		write: async (text) => void texts.set(text.id, text),
		remove: async (id) => void texts.delete(id),
	};
}
