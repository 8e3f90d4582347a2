// One lane of an exchange: a model's answer, its other versions, and what can be done with it.

import { lengthOf, saidBy, shownAnswer } from "./conversation.js";
import { copyText, fit, h, iconButton } from "./dom.js";
import { showMarkdown } from "./markdown.js";
import { countTokens, t } from "./text.js";
import { tokenView } from "./tokens.js";

export class AnswerView {
  /** `act` does what buttons ask for: retry, rate, improve, keep; `label` names the model, or is null where there is one;
   * `drafts` holds what is being typed. */
  constructor(lane, { label, rates, elsewhere, act, drafts, isRunning }) {
    Object.assign(this, { lane, label, rates, elsewhere, act, drafts, isRunning, timer: null, cost: 0 });
    this.mode = drafts.has(this.answer.id) ? "improve" : "text";
    this.head = h("header");
    this.body = h("div.body");
    this.foot = h("footer");
    this.element = h("article.answer", { "aria-label": label ?? lane.model }, this.head, this.body, this.foot);
    this.show();
  }

  get answer() {
    return shownAnswer(this.lane);
  }

  /** Whether what is shown is the text that a person wrote: the tokens are always the model's. */
  get isImproved() {
    return this.answer.better !== null && this.mode !== "tokens";
  }

  /** The answer grew: show it soon, and the slower that is, the less often. */
  changed() {
    if (!this.isRunning(this.answer)) this.show();
    else this.timer ??= setTimeout(() => this.grow(), Math.max(30, 4 * this.cost));
  }

  grow() {
    const started = performance.now();
    this.timer = null;
    this.showBody();
    this.cost = performance.now() - started;
    this.act.grown();
  }

  show() {
    clearTimeout(this.timer);
    this.timer = null;
    const running = this.isRunning(this.answer);
    this.element.setAttribute("aria-busy", String(running));
    this.head.replaceChildren(...this.headParts());
    this.head.hidden = !this.head.childElementCount;
    this.showBody();
    this.foot.replaceChildren(...(running || this.mode === "improve" ? [] : [this.outcome(), this.buttons()]));
  }

  headParts() {
    const { answers, shown } = this.lane;
    const by = this.answer?.model ?? this.lane.model; // an old version may be another model's
    const label = by === this.lane.model ? this.label : by;
    const parts = this.label ? [h("span.label", { title: by }, label)] : [];
    if (answers.length < 2 || this.isRunning(this.answer)) return parts;
    const go = (step) => {
      this.lane.shown += step;
      this.mode = "text";
      this.show();
      this.act.keep();
    };
    const versions = [
      iconButton("left", t("before"), () => go(-1), { disabled: shown === 0 }),
      h("span.number", {}, `${shown + 1} / ${answers.length}`),
      iconButton("right", t("after"), () => go(1), { disabled: shown === answers.length - 1 }),
    ];
    return [...parts, h("span.versions", {}, versions)];
  }

  showBody() {
    const kind = this.mode === "text" ? "markdown" : this.mode;
    if (kind !== "markdown" || !this.body.classList.contains(kind)) this.body.replaceChildren();
    this.body.className = `body ${kind}`;
    if (kind === "tokens") this.body.append(tokenView(this.answer.tokens));
    else if (kind === "improve") this.body.append(this.improveForm());
    else this.showText();
  }

  showText() {
    if (this.isRunning(this.answer) && !this.answer.text) this.body.replaceChildren(h("span.dots", { role: "img", "aria-label": t("thinking") }));
    else showMarkdown(this.body, saidBy(this.lane));
  }

  /** Say whose text is shown if there are two, and how the model's ended, where that is not plain to see. */
  outcome() {
    const { finish, error, text, better, trimmed } = this.answer;
    const ending = [
      finish === "error" && h("span.error", { role: "alert" }, error),
      finish === "stopped" && h("span", {}, t("stopped")),
      finish === "length" && h("span", {}, t("lengthEnd", { tokens: countTokens(lengthOf(this.answer)) })),
      finish === "stop" && !text.trim() && h("span", {}, t("empty")),
      trimmed && h("span", {}, t("trimmed")),
    ];
    const whose = better !== null && h("span.tag", {}, t(this.isImproved ? "improved" : "own"));
    const run = this.elsewhere(this.answer);
    const elsewhere = run && h("span", {}, t("ratedElsewhere", { run }));
    return h("p.outcome", {}, whose, this.isImproved ? [] : ending.filter(Boolean), elsewhere);
  }

  buttons() {
    const { rating, text, better, error } = this.answer;
    const says = this.rates && !this.elsewhere(this.answer);
    const rates = says && !this.isImproved;
    const copy = iconButton("copy", t("copy"), () => copyText(this.isImproved ? better : text, copy));
    const pressed = (on) => ({ "aria-pressed": String(on) });
    const rate = (value) => this.act.rate(rating === value ? null : value);
    const tokens = () => this.turn(this.mode === "tokens" ? "text" : "tokens");
    const retry = iconButton("retry", t("retry"), this.act.retry);
    if (error || !text.trim()) return h("div.actions.kept", {}, retry);
    return h("div.actions", {}, [
      copy,
      retry,
      rates && iconButton("up", t("good"), () => rate("up"), pressed(rating === "up")),
      rates && iconButton("down", t("bad"), () => rate("down"), pressed(rating === "down")),
      says && iconButton("pen", t("better"), () => this.turn("improve")),
      iconButton("tokens", t("tokens"), tokens, pressed(this.mode === "tokens")),
      !this.isImproved && h("span.facts", { title: this.how() }, this.facts()),
    ]);
  }

  facts() {
    return t("facts", { tokens: countTokens(lengthOf(this.answer)), seconds: this.answer.seconds.toFixed(1) });
  }

  how() {
    const { temperature, seed } = this.answer;
    return t("factsFree", { temperature, seed: temperature > 0 ? seed : "-" });
  }

  turn(mode) {
    this.mode = mode;
    this.show();
  }

  improveForm() {
    const { drafts, answer } = this;
    const field = draftField(drafts, answer.id, saidBy(this.lane), t("betterField"));
    const save = (event) => {
      event.preventDefault();
      drafts.delete(answer.id);
      const text = field.value.trim();
      this.mode = "text";
      this.act.improve(text && text !== this.answer.text.trim() ? text : null);
    };
    return editForm(field, t("betterField"), t("save"), save, () => (drafts.delete(answer.id), this.turn("text")));
  }
}

/** A text field whose text is held under an id until it is sent or given up: what stands around it may be drawn anew. */
export function draftField(drafts, id, text, label) {
  const opened = !drafts.has(id);
  const hold = () => (fit(field), drafts.set(id, field.value));
  const field = h("textarea", { value: drafts.get(id) ?? text, "aria-label": label, "data-draft": id, oninput: hold });
  drafts.set(id, field.value);
  requestAnimationFrame(() => (fit(field), opened && field.focus()));
  return field;
}

/** A text field with the two ways to leave it; Escape is the second. */
export function editForm(field, hint, action, onsubmit, oncancel) {
  const onkeydown = (event) => {
    if (event.key === "Escape") oncancel();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  };
  const buttons = [
    h("button.quiet", { type: "button", onclick: oncancel }, t("cancel")),
    h("button.primary", { type: "submit" }, action),
  ];
  const form = h("form.edit", { onsubmit, onkeydown }, field, h("div.row", {}, h("span.quiet", {}, hint), buttons));
  return form;
}
