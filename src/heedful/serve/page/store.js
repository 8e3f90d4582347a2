// What the browser keeps: conversations in IndexedDB, settings in localStorage. Without either, the tab's memory.
// Tabs share it: each tells the others what it wrote, and none writes over what it has not seen.

import { answersOf, lengthOf, merge } from "./conversation.js";

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

/** Answers that a closed tab left unfinished were stopped. */
function stopUnfinished(conversation) {
  for (const answer of answersOf(conversation)) answer.finish ??= "stopped";
  return conversation;
}

class Store {
  constructor(database) {
    this.database = database;
    this.lasting = database !== null;
    this.kept = new Map(); // id -> conversation: all of them, so that lists need no waiting
    this.isWriting = () => false;
    this.onChange = () => null;
    this.tabs = this.lasting && new BroadcastChannel("heedful"); // ids of conversations that were written or deleted
  }

  /** Follow what other tabs do, from before the load: `onChange(conversation)` once it is here, `onRemove(conversation)` once it is gone.
   * Exchanges in which this tab `isWriting` stay as they are here. */
  follow({ isWriting, onChange, onRemove }) {
    Object.assign(this, { isWriting, onChange });
    if (!this.lasting) return;
    this.tabs.onmessage = async ({ data: id }) => {
      const theirs = await promised(this.table("readonly").get(id));
      const mine = this.kept.get(id);
      if (theirs && mine) merge(mine, theirs, isWriting);
      else if (theirs) this.kept.set(id, theirs);
      else this.kept.delete(id);
      if (theirs) onChange(this.kept.get(id));
      else if (mine) onRemove(mine);
    };
  }

  /** Read everything that was kept; newest first. */
  async load() {
    const all = this.lasting ? await promised(this.table("readonly").getAll()) : [];
    for (const conversation of all) this.kept.set(conversation.id, stopUnfinished(conversation));
    return this.list();
  }

  list() {
    return [...this.kept.values()].sort((a, b) => b.updated - a.updated);
  }

  /** Keep a conversation as it is now. Raises QuotaExceededError if there is no room even without old probabilities. */
  async put(conversation) {
    this.kept.set(conversation.id, conversation);
    try {
      await this.write(conversation, touch);
    } catch (error) {
      if (error?.name !== "QuotaExceededError") throw error;
      await this.forgetTokens(conversation);
      await this.write(conversation, touch);
    }
  }

  async remove(id) {
    this.kept.delete(id);
    if (!this.lasting) return;
    await finished(this.table("readwrite").delete(id));
    this.tabs.postMessage(id);
  }

  /** Write a changed conversation, and with it what another tab has kept of it since this one last read or wrote it. */
  async write(conversation, change) {
    if (!this.lasting) return change(conversation);
    const table = this.table("readwrite");
    const theirs = await promised(table.get(conversation.id));
    const missed = theirs?.updated > conversation.updated;
    const isWhole = (exchange) => answersOf({ exchanges: [exchange] }).every(({ finish }) => finish);
    if (missed) merge(conversation, theirs, (exchange) => this.isWriting(exchange) || isWhole(exchange));
    change(conversation);
    await finished(table.put(structuredClone(conversation)));
    this.tabs.postMessage(conversation.id);
    return missed && this.onChange(conversation);
  }

  /** Give up the probabilities of all other conversations: most of what is stored, and the least missed. */
  async forgetTokens(except) {
    const forget = (conversation) => {
      for (const answer of answersOf(conversation)) Object.assign(answer, { length: lengthOf(answer), tokens: [] });
    };
    for (const conversation of this.list().filter((one) => one.id !== except.id)) {
      if (this.kept.has(conversation.id)) await this.write(conversation, forget);
    }
  }

  table(mode) {
    return this.database.transaction("conversations", mode).objectStore("conversations");
  }
}

/** Note that a conversation changed just now, later than ever before: by this tabs know what they have missed. */
function touch(conversation) {
  conversation.updated = Math.max(Date.now(), conversation.updated + 1);
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
