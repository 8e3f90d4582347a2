// A conversation as plain data, and what can be read out of it. Nothing here touches the page.
//
// conversation  { id, updated, system, exchanges }
// exchange      { id, prompt, lanes }            one prompt; a lane for each model that was asked
// lane          { model, answers, shown }        the versions of its answer, and which is looked at
// answer        { id, messages, text, tokens, finish, error, trimmed, seconds, temperature, seed, rating, better, model, length }
//               `model` gave it, where the lane has gone on with another one; `length` counts its tokens, where they were given up for room;
//               `trimmed` is how many of the oldest turns were left out; `messages` are those that the model saw; what stands before an answer may change later

const id = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");

export const newConversation = (system) => ({ id: id(), updated: Date.now(), system, exchanges: [] });

export const newExchange = (prompt, models) => ({
  id: id(),
  prompt,
  lanes: models.map((model) => ({ model, answers: [], shown: 0 })),
});

/** Begin an answer in a lane; it is what the lane shows from now on. */
export function addAnswer(lane, { temperature, seed }) {
  const answer = { id: id(), messages: null, text: "", tokens: [], finish: null, error: null, trimmed: 0, seconds: 0, temperature, seed, rating: null, better: null };
  lane.shown = lane.answers.push(answer) - 1;
  return answer;
}

export const shownAnswer = (lane) => lane.answers[lane.shown];

/** Give what counts as said: the user's better answer before the model's own. */
export const saidBy = (lane) => shownAnswer(lane)?.better ?? shownAnswer(lane)?.text ?? "";

/** Give how many tokens an answer has: of those whose probabilities made room, only their number was kept. */
export const lengthOf = (answer) => answer.length ?? answer.tokens.length;

/** Give all answers of a conversation, in every version. */
export const answersOf = ({ exchanges }) => exchanges.flatMap(({ lanes }) => lanes).flatMap(({ answers }) => answers);

/** Choose the lane that a conversation goes on with: what the user liked, else the first. */
function preferredLane(exchange) {
  const liked = (lane) => shownAnswer(lane)?.better || shownAnswer(lane)?.rating === "up";
  return exchange.lanes.find(liked) ?? exchange.lanes[0];
}

const system = (conversation) => (conversation.system.trim() ? [{ role: "system", content: conversation.system }] : []);

/** Give the turns before an exchange as pairs of messages: a model sees its own answers where it gave some. */
export function turnsBefore(conversation, exchange, model) {
  const earlier = conversation.exchanges.slice(0, conversation.exchanges.indexOf(exchange));
  return earlier
    .map((one) => [one.prompt, saidBy(one.lanes.find((lane) => lane.model === model) ?? preferredLane(one))])
    .filter(([, answer]) => answer.trim())
    .map(([prompt, answer]) => [
      { role: "user", content: prompt },
      { role: "assistant", content: answer },
    ]);
}

/** Give the messages that ask for an answer to an exchange, without the oldest `dropped` turns. */
export function messagesFor(conversation, exchange, model, dropped = 0) {
  const turns = turnsBefore(conversation, exchange, model).slice(dropped);
  return [...system(conversation), ...turns.flat(), { role: "user", content: exchange.prompt }];
}

/** Give a conversation as a row that `heedful train` reads, or null. Learned is what the user wrote, and what the model
 * said to its end and was not rated bad. */
export function toRow(conversation) {
  const finished = conversation.exchanges.map((one) => [one, preferredLane(one)]).filter(([, lane]) => saidBy(lane).trim());
  const learned = ([, lane]) => {
    const { better, finish, rating } = shownAnswer(lane);
    return better || (finish === "stop" && rating !== "down");
  };
  if (!finished.some(learned)) return null;
  const turns = finished.flatMap((turn) => [
    { role: "user", content: turn[0].prompt },
    { role: "assistant", content: saidBy(turn[1]), ...(!learned(turn) && { weight: 0 }) },
  ]);
  return { messages: [...system(conversation), ...turns] };
}

/** Give what is kept of an answer beside the run. */
export function toOpinion(conversation, exchange, lane) {
  const answer = shownAnswer(lane);
  return {
    id: answer.id,
    model: answer.model ?? lane.model,
    messages: answer.messages ?? messagesFor(conversation, exchange, lane.model), // answers kept long ago lack them
    answer: answer.text,
    finish: answer.finish,
    rating: answer.rating,
    better: answer.better,
  };
}

/** Name the other run beside which what was said of an answer is kept: here it could not be taken back. */
export function ratedElsewhere({ rating, better, beside }, about) {
  const said = rating !== null || better !== null;
  return said && about.run && beside && beside.id !== about.run_id ? beside.run : null;
}

/** Bring what another tab kept of a conversation into this tab's, in place: views and answers that are being written
 * hold on to theirs. An exchange that `stays` gives nothing up. */
export function merge(mine, theirs, stays) {
  const own = new Map(mine.exchanges.map((exchange) => [exchange.id, exchange]));
  const more = mine.exchanges.filter((one) => stays(one) && !theirs.exchanges.some(({ id }) => id === one.id));
  const exchanges = theirs.exchanges.map((exchange) => {
    const known = own.get(exchange.id);
    return known ? joined(known, exchange, stays(known)) : exchange;
  });
  Object.assign(mine, theirs, { exchanges: [...exchanges, ...more] });
}

/** Take another tab's answers into an exchange: all of them as they are there, or if it `stays` what is new in them. */
function joined(exchange, theirs, stays) {
  for (const [i, lane] of exchange.lanes.entries()) {
    const [own, others] = [new Map(lane.answers.map((answer) => [answer.id, answer])), theirs.lanes[i]?.answers ?? []];
    if (!stays) {
      const answers = others.map((answer) => Object.assign(own.get(answer.id) ?? {}, answer));
      Object.assign(lane, theirs.lanes[i], { answers });
      continue;
    }
    for (const answer of others.filter(({ finish }) => finish)) {
      const known = own.get(answer.id);
      if (!known) lane.answers.push(answer);
      else if (!known.finish) Object.assign(known, answer);
      else Object.assign(known, { rating: answer.rating ?? known.rating, better: answer.better ?? known.better, beside: answer.beside ?? known.beside });
    }
  }
  return exchange;
}

/** Name a conversation by its first words. */
export function titleOf(conversation) {
  const first = conversation.exchanges[0]?.prompt.replace(/\s+/g, " ").trim() ?? "";
  return first.length > 60 ? `${[...first].slice(0, 60).join("")}…` : first;
}
