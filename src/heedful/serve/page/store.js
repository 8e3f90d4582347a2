// What the browser keeps: conversations in IndexedDB, settings in localStorage. Without either, the tab's memory.

const SETTINGS = "heedful-page"; // "heedful-settings" held numbers that nobody chose, from when all were kept

const promised = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

function open() {
  const request = indexedDB.open("heedful", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
  return promised(request);
}

/** Open the store; `lasting` tells whether it outlives the tab. */
export async function openStore() {
  try {
    return new Store(await open());
  } catch {
    return new Store(null);
  }
}

class Store {
  constructor(database) {
    this.database = database;
    this.lasting = database !== null;
    this.kept = new Map(); // id -> conversation: all of them, so that lists need no waiting
  }

  /** Read everything that was kept; newest first. */
  async load() {
    const all = this.lasting ? await promised(this.table("readonly").getAll()) : [];
    for (const conversation of all) this.kept.set(conversation.id, conversation);
    return this.list();
  }

  list() {
    return [...this.kept.values()].sort((a, b) => b.updated - a.updated);
  }

  /** Keep a conversation as it is now. Raises QuotaExceededError if there is no room even without old probabilities. */
  async put(conversation) {
    conversation.updated = Date.now();
    this.kept.set(conversation.id, conversation);
    try {
      await this.write(conversation);
    } catch (error) {
      if (error?.name !== "QuotaExceededError") throw error;
      await this.forgetTokens(conversation);
      await this.write(conversation);
    }
  }

  async remove(id) {
    this.kept.delete(id);
    if (this.lasting) await finished(this.table("readwrite").delete(id));
  }

  async write(conversation) {
    if (this.lasting) await finished(this.table("readwrite").put(structuredClone(conversation)));
  }

  /** Give up the probabilities of all other conversations: most of what is stored, and the least missed. */
  async forgetTokens(except) {
    for (const conversation of this.list().filter((one) => one.id !== except.id)) {
      for (const exchange of conversation.exchanges) {
        for (const lane of exchange.lanes) for (const answer of lane.answers) answer.tokens = [];
      }
      await this.write(conversation);
    }
  }

  table(mode) {
    return this.database.transaction("conversations", mode).objectStore("conversations");
  }
}

/** Wait until a write is on the disk: the quota is told at the transaction's end, not at the request's. */
function finished(request) {
  return new Promise((resolve, reject) => {
    request.transaction.oncomplete = () => resolve();
    request.transaction.onabort = () => reject(request.transaction.error ?? request.error);
  });
}

export const DEFAULTS = {
  system: "",
  temperature: null, // as the server samples; so are the next three
  topP: null,
  maxTokens: null,
  repetition: null,
  seed: null, // a new one for each answer
  theme: "auto",
  language: null,
  mode: null, // which model answers, or "both"
};

export function loadSettings() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function saveSettings(settings) {
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
  } catch {
    // The settings hold for this tab then.
  }
}
