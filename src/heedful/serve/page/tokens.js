// The token view: an answer as the model made it, each token coloured by how unsure it was, with what else it could
// have said. One token at a time is in the tab order; the arrow keys go along the answer.

import { h } from "./dom.js";
import { t } from "./text.js";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** Give what is kept of one entry of `logprobs.content`: its text, its log probability, its alternatives. */
export function keepToken({ token, bytes, logprob, top_logprobs }) {
  return { text: textOf(token, bytes), logprob, top: (top_logprobs ?? []).map((one) => [textOf(one.token, one.bytes), one.logprob]) };
}

/** A token can be part of a character: its bytes are shown then. */
function textOf(token, bytes) {
  if (!bytes) return token;
  try {
    return decoder.decode(new Uint8Array(bytes));
  } catch {
    return `⟨${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}⟩`;
  }
}

const visible = (text) => text.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";

function percent(logprob) {
  const share = 100 * Math.exp(logprob);
  return share > 0 && share < 0.1 ? "<0.1%" : `${share.toFixed(share < 10 || share > 99 ? 1 : 0)}%`;
}

/** Build the token view of an answer. */
export function tokenView(tokens) {
  if (!tokens.length) return h("p.quiet", {}, t("noTokens"));
  const card = h("div.alternatives", { role: "tooltip", hidden: true });
  const spans = tokens.map((token, index) => tokenSpan(token, index));
  const view = h("div.tokens", { role: "group", "aria-label": t("tokens") }, spans, card);
  const show = (span) => showCard(card, view, span, tokens[span.index]);
  view.addEventListener("mouseover", (event) => event.target.matches(".token") && show(event.target));
  view.addEventListener("focusin", (event) => event.target.matches(".token") && show(event.target));
  view.addEventListener("mouseleave", () => (card.hidden = !view.contains(document.activeElement)));
  view.addEventListener("focusout", () => (card.hidden = true));
  view.addEventListener("keydown", (event) => move(event, spans, card));
  return h("div", {}, h("p.quiet", {}, t("tokensShort")), view);
}

function tokenSpan(token, index) {
  const label = t("probability", { token: token.text.trim() || t("space"), percent: percent(token.logprob) });
  const span = h("span.token", { tabIndex: index ? -1 : 0, role: "img", "aria-label": label }, token.text.replaceAll("\n", "↵\n"));
  span.index = index;
  span.style.setProperty("--doubt", (1 - Math.exp(token.logprob)).toFixed(3));
  return span;
}

function move(event, spans, card) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const here = spans.indexOf(document.activeElement);
  if (event.key === "Escape") card.hidden = true;
  if (here < 0 || !(event.key in steps)) return;
  const there = spans[here + steps[event.key]];
  if (!there) return;
  event.preventDefault();
  spans[here].tabIndex = -1;
  there.tabIndex = 0;
  there.focus();
}

function showCard(card, view, span, token) {
  const listed = token.top.some(([text]) => text === token.text) ? token.top : [[token.text, token.logprob], ...token.top];
  card.replaceChildren(h("p", {}, t("otherwise")), h("ol", {}, listed.map((one) => alternative(one, token))));
  card.hidden = false;
  const [around, box] = [view.getBoundingClientRect(), span.getClientRects()[0] ?? span.getBoundingClientRect()];
  const left = Math.min(box.left - around.left, around.width - card.offsetWidth);
  card.style.left = `${Math.max(0, left)}px`;
  card.style.top = `${box.bottom - around.top + 6}px`;
}

function alternative([text, logprob], token) {
  const bar = h("span.share");
  bar.style.setProperty("--share", Math.exp(logprob).toFixed(3));
  return h(text === token.text ? "li.chosen" : "li", {}, h("code", {}, visible(text)), bar, h("span.number", {}, percent(logprob)));
}
