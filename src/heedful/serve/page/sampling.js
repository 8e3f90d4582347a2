// How answers are sampled: as the server does it where a request says nothing, until that is changed here.

const FIELDS = { temperature: "temperature", topP: "top_p", repetition: "repetition_penalty", maxTokens: "max_tokens" };

export const NEUTRAL = { temperature: 0, top_p: 1, repetition_penalty: 1, max_tokens: 256 }; // of a server that does not say

/** Give the settings that hold: what was changed here, else what is `served`; an answer may take half the context. */
export function inForce(settings, served, positions = Infinity) {
  const held = Object.fromEntries(Object.entries(FIELDS).map(([name, field]) => [name, settings[name] ?? served[field]]));
  return { ...held, maxTokens: Math.min(held.maxTokens, halfOf(positions)) };
}

/** Give the fields of a request. What was not changed is left to the server, but for the answer's length: a conversation
 * that leaves no room for what is asked for is refused, and one that leaves too little would only be cut off. */
export function fieldsOf(settings, served, positions) {
  const { temperature, maxTokens } = inForce(settings, served, positions);
  const changed = Object.keys(FIELDS).filter((name) => settings[name] !== null);
  const fields = Object.fromEntries(changed.map((name) => [FIELDS[name], settings[name]]));
  return { ...fields, max_tokens: maxTokens, ...(temperature > 0 && { seed: settings.seed }) };
}

export const halfOf = (positions) => Math.max(1, Math.floor(positions / 2));

export const SAMPLED = [...Object.keys(FIELDS), "seed"]; // the settings that are meant here
