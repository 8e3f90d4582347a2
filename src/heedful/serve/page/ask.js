// Ask a model for an answer, and fill the answer as it comes.

import { streamChat } from "./api.js";
import { messagesFor, shownAnswer, turnsBefore } from "./conversation.js";
import { t } from "./text.js";
import { keepToken } from "./tokens.js";

const ALTERNATIVES = 5;
const TOO_LONG = ["context_length_exceeded", "body_too_large"]; // what fewer turns may mend

/** Fill an answer. It always ends with a `finish`: stop, length, stopped or error. Returns the error, if there is one. */
export async function ask({ conversation, exchange, lane, answer, sampling, signal, onChange }) {
  const started = performance.now();
  let problem = null;
  for (const [dropped, fields] of attempts(conversation, exchange, lane.model, sampling)) {
    answer.messages = messagesFor(conversation, exchange, lane.model, dropped);
    problem = await attempt(request(lane.model, answer, fields), answer, signal, onChange);
    answer.trimmed = problem ? 0 : dropped;
    if (!TOO_LONG.includes(problem?.code)) break;
  }
  answer.seconds = (performance.now() - started) / 1000;
  if (problem) Object.assign(answer, { finish: "error", error: sentence(problem) });
  answer.finish ??= "stop";
  onChange();
  return problem;
}

/** Give what to try until the request fits: how many of the oldest turns are left out, and how the answer is sampled. */
function attempts(conversation, exchange, model, sampling) {
  const turns = turnsBefore(conversation, exchange, model).length;
  const first = Math.min(droppedBefore(conversation, exchange, model), turns);
  const fewer = Array.from({ length: turns - first + 1 }, (_, more) => [first + more, sampling]);
  return [...fewer, [turns, { ...sampling, max_tokens: undefined }]]; // at last the answer has what room is left
}

/** Tell how many turns the exchange before had to leave out: a conversation grows, so each refusal is heard once. */
function droppedBefore({ exchanges }, exchange, model) {
  const lane = exchanges[exchanges.indexOf(exchange) - 1]?.lanes.find((one) => one.model === model);
  return Number(shownAnswer(lane ?? { answers: [] })?.trimmed ?? 0);
}

const request = (model, { messages }, sampling) => ({ model, messages, ...sampling, logprobs: true, top_logprobs: ALTERNATIVES });

async function attempt(body, answer, signal, onChange) {
  try {
    for await (const { choices } of streamChat(body, signal)) {
      const [choice] = choices;
      if (!choice) continue; // the chunk that only counts
      answer.text += choice.delta?.content ?? "";
      answer.tokens.push(...(choice.logprobs?.content ?? []).map(keepToken));
      answer.finish = choice.finish_reason ?? answer.finish;
      onChange();
    }
    return null;
  } catch (error) {
    if (error.name !== "AbortError") return error;
    answer.finish = "stopped";
    return null;
  }
}

/** Say what went wrong in the user's language where this page knows it, else in the server's words. */
function sentence(error) {
  if (error.status === 0) return t(error.message === "unreachable" ? "unreachable" : "failed", { reason: error.message });
  if (TOO_LONG.includes(error.code)) return t("tooLong");
  if (error.status === 429 && error.wait) return t("busy", { n: error.wait });
  return t("failed", { reason: error.message });
}
