// A conversation on the screen: its prompts, and beside or below each the answers.

import { AnswerView, draftField, editForm } from "./answer.js";
import { ratedElsewhere, shownAnswer } from "./conversation.js";
import { byId, copyText, h, iconButton } from "./dom.js";
import { t } from "./text.js";

const NEAR_END = 120; // pixels from the end within which the thread follows an answer

export class Thread {
  /** `app` says how models are called and what is running, and does what is asked for. */
  constructor(app) {
    this.app = app;
    this.element = byId("thread");
    this.views = new Map(); // lane -> AnswerView
    this.drafts = new Map(); // id of an exchange or an answer -> what is being typed in its place
    this.follows = true;
    this.element.addEventListener("scroll", () => (this.follows = this.distance() < NEAR_END), { passive: true });
  }

  distance() {
    return this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight;
  }

  follow() {
    if (this.follows) this.element.scrollTop = this.element.scrollHeight;
  }

  /** Show a conversation from its data and the drafts; nothing else is remembered but where one is typing. */
  show(conversation, follows = true) {
    const typing = document.activeElement;
    this.views.clear();
    this.element.classList.toggle("wide", conversation.exchanges.some((exchange) => exchange.lanes.length > 1));
    const parts = conversation.exchanges.map((exchange) => this.exchange(exchange));
    this.element.replaceChildren(...(parts.length ? parts : [this.welcome()]));
    const field = typing?.dataset.draft && this.element.querySelector(`[data-draft="${typing.dataset.draft}"]`);
    field?.focus({ preventScroll: true });
    field?.setSelectionRange(typing.selectionStart, typing.selectionEnd);
    this.follows = follows;
    this.follow();
  }

  /** An answer changed; it may not be on the screen. */
  changed(lane) {
    this.views.get(lane)?.changed();
    this.follow();
  }

  exchange(exchange) {
    const lanes = exchange.lanes.map((lane) => this.lane(exchange, lane));
    return h("section.exchange", {}, this.prompt(exchange), h(lanes.length > 1 ? "div.lanes.two" : "div.lanes", {}, lanes));
  }

  lane(exchange, lane) {
    const { app } = this;
    const view = new AnswerView(lane, {
      label: app.labelOf(lane.model),
      rates: Boolean(app.about.run),
      elsewhere: (answer) => ratedElsewhere(answer, app.about),
      drafts: this.drafts,
      isRunning: (answer) => app.isRunning(answer),
      act: {
        retry: () => app.retry(exchange, lane),
        rate: (rating) => app.judge(exchange, lane, { rating }),
        improve: (better) => app.judge(exchange, lane, { better }),
        keep: () => app.keep(),
        grown: () => this.follow(),
      },
    });
    this.views.set(lane, view);
    return view.element;
  }

  prompt(exchange) {
    const copy = iconButton("copy", t("copy"), () => copyText(exchange.prompt, copy));
    const edit = iconButton("pen", t("edit"), () => this.edit(exchange, article));
    const bubble = h("div.bubble", { dir: "auto" }, exchange.prompt);
    const article = h("article.prompt", { "aria-label": t("you") }, bubble, h("div.actions", {}, copy, edit));
    if (this.drafts.has(exchange.id)) this.edit(exchange, article);
    return article;
  }

  edit(exchange, article) {
    const field = draftField(this.drafts, exchange.id, exchange.prompt, t("edit"));
    const leave = () => (this.drafts.delete(exchange.id), article.replaceWith(this.prompt(exchange)));
    const send = (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      this.drafts.delete(exchange.id);
      this.app.resend(exchange, field.value.trim());
    };
    article.replaceChildren(editForm(field, t("editHint"), t("resend"), send, leave));
  }

  welcome() {
    const examples = t("examples").map((text) => h("button", { type: "button", dir: "auto", onclick: () => this.app.send(text) }, text));
    const more = this.app.mode === "both" ? t("welcomeBoth") : t("welcomeMore");
    return h("div.welcome", {}, h("h1", {}, t("welcome")), h("p", {}, more), h("div.examples", {}, examples));
  }

  /** Tell which answers are being written, for the stop button and for Escape. */
  running(conversation) {
    const lanes = conversation.exchanges.flatMap((exchange) => exchange.lanes);
    return lanes.map(shownAnswer).filter((answer) => answer && this.app.isRunning(answer));
  }
}
