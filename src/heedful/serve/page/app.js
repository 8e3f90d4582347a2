// heedful's page: what it knows, and what happens when something is asked for. The screen follows from the data.

import * as api from "./api.js";
import { ask } from "./ask.js";
import { addAnswer, answersOf, newConversation, newExchange, saidBy, shownAnswer, toOpinion } from "./conversation.js";
import { byId, fit, icon, speak, toast } from "./dom.js";
import { exportRows } from "./export.js";
import { labelFrame, showList, showModels, showRun, slideSidebar } from "./frame.js";
import { NEUTRAL, fieldsOf, inForce } from "./sampling.js";
import { askKey, openSettings } from "./settings.js";
import { loadSettings, openStore, saveSettings } from "./store.js";
import { speakLanguage, t } from "./text.js";
import { Thread } from "./thread.js";

const FREER = 0.7; // the temperature of another try, where the setting would give the same answer again

class App {
  async start() {
    this.settings = loadSettings();
    this.runs = new Map(); // answer -> AbortController
    this.removed = new Set(); // conversations that are not to be kept, whatever still goes on in them
    this.applyAppearance();
    this.store = await openStore();
    if (!this.store.lasting) toast(t("forgetful"));
    await this.meetServer();
    this.thread = new Thread(this);
    this.conversation = newConversation(this.settings.system);
    this.listen();
    this.store.follow({
      isWriting: (exchange) => answersOf({ exchanges: [exchange] }).some((answer) => this.isRunning(answer)),
      onChange: (conversation) => (conversation === this.conversation ? this.show(this.thread.follows) : this.showList()),
      onRemove: (conversation) => this.leave(conversation),
    });
    await this.store.load();
    slideSidebar();
    this.route();
  }

  /** Ask the server what it is; a key is asked for as long as it wants one. */
  async meetServer(wrong = false) {
    try {
      this.about = await api.about();
      this.meetModels(await api.models());
    } catch (error) {
      if (error.status !== 401) return this.serverIsAway(error);
      api.setKey(await askKey(wrong));
      return this.meetServer(true);
    }
    const base = this.models.find((name) => this.models.includes(name.replace(/-base$/, "")) && name.endsWith("-base"));
    this.pair = base ? { tuned: base.replace(/-base$/, ""), base } : null;
    return null;
  }

  meetModels(described) {
    this.models = described.map(({ id }) => id);
    this.positions = new Map(described.map(({ id, max_model_len: most }) => [id, most ?? Infinity]));
  }

  serverIsAway(error) {
    this.meetModels([{ id: "" }]);
    Object.assign(this, { about: { run: null, report: false }, pair: null });
    toast(error.status ? t("failed", { reason: error.message }) : t("unreachable"));
  }

  /** Which model answers: a name, or "both". */
  get mode() {
    const { mode } = this.settings;
    if (!this.pair) return this.models[0];
    return mode === "both" || this.models.includes(mode) ? mode : this.pair.tuned;
  }

  /** The models that answer a new message. */
  get answering() {
    return this.mode === "both" ? [this.pair.tuned, this.pair.base] : [this.mode];
  }

  /** How the server samples where it is told nothing. */
  get served() {
    return this.about.sampling ?? NEUTRAL;
  }

  labelOf(model) {
    if (!this.pair) return null;
    return { [this.pair.tuned]: t("tuned"), [this.pair.base]: t("base") }[model] ?? model;
  }

  isRunning(answer) {
    return this.runs.has(answer);
  }

  // What the screen shows

  show(follows = true) {
    labelFrame();
    byId("open-run").hidden = !this.about.run;
    showModels({ ...this.pair, only: this.pair ? null : this.models[0], mode: this.mode, choose: (mode) => this.change("mode", mode) });
    this.showList();
    this.thread.show(this.conversation, follows);
    this.showComposer();
  }

  showList() {
    showList(this.store.list(), byId("run").hidden ? this.conversation : null, (one) => this.remove(one));
  }

  showComposer() {
    const running = this.thread.running(this.conversation).length > 0;
    const [send, prompt] = [byId("send"), byId("prompt")];
    send.replaceChildren(icon(running ? "stop" : "send"));
    send.title = running ? t("stop") : t("send");
    send.setAttribute("aria-label", send.title);
    send.disabled = !running && !prompt.value.trim();
    prompt.placeholder = t("ask");
    byId("export").disabled = !this.conversation.exchanges.length;
  }

  applyAppearance() {
    this.settings.language = speakLanguage(this.settings.language);
    document.documentElement.dataset.theme = this.settings.theme;
  }

  /** Go where the address says: a conversation, the run, or a new conversation. */
  route() {
    const [, place, id] = location.hash.split("/");
    const run = place === "run" && this.about.run;
    byId("run").hidden = !run;
    for (const part of ["thread", "composer", "models", "export", "skip"]) byId(part).hidden = Boolean(run);
    if (place === "c" && this.store.kept.has(id)) this.conversation = this.store.kept.get(id);
    else if (!run && this.conversation.exchanges.length) this.conversation = newConversation(this.settings.system);
    this.show();
    if (run) showRun().catch((error) => this.tell(error));
    else byId("prompt").focus({ preventScroll: true });
  }

  // What can be asked for

  send(prompt) {
    this.begin(newExchange(prompt, this.answering));
  }

  /** Ask a changed prompt in place of an exchange and of all that followed it. */
  resend(exchange, prompt) {
    this.stop();
    const { conversation } = this;
    const at = conversation.exchanges.indexOf(exchange);
    const removed = conversation.exchanges.splice(at);
    const known = exchange.lanes.map((lane) => lane.model).filter((model) => this.models.includes(model));
    this.begin(newExchange(prompt, known.length ? known : this.answering));
    const undo = () => {
      this.stop(conversation);
      conversation.exchanges.splice(at, 1, ...removed); // what was sent since stays
      this.keep(conversation);
      if (conversation === this.conversation) this.show();
    };
    toast(t("replaced"), { label: t("undo"), run: undo });
  }

  begin(exchange) {
    const { conversation } = this;
    conversation.exchanges.push(exchange);
    const answers = exchange.lanes.map((lane) => this.run(exchange, lane, this.settings.temperature));
    history.replaceState(null, "", `#/c/${conversation.id}`);
    this.keep(); // with its prompt, should the tab be closed before the answer is whole
    this.show();
    speak(exchange.lanes.map((lane) => t("thinks", { model: this.nameOf(lane) })).join(" "));
    return Promise.all(answers);
  }

  /** Give another answer in a lane; where its model is no longer served, by one that is. */
  retry(exchange, lane) {
    const { temperature } = this.settings;
    if (!this.models.includes(lane.model)) {
      for (const answer of lane.answers) answer.model ??= lane.model;
      lane.model = this.answering[exchange.lanes.indexOf(lane)] ?? this.answering[0];
    }
    const done = this.run(exchange, lane, (temperature ?? this.served.temperature) > 0 ? temperature : FREER);
    this.show();
    return done;
  }

  /** Fill a new answer in a lane, at the server's temperature where that is null. The seed moves on with each try, so a
   * fixed one does not repeat an answer. */
  async run(exchange, lane, temperature) {
    const { conversation, served } = this;
    const seed = this.settings.seed === null ? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1 : this.settings.seed + lane.answers.length;
    const [settings, positions] = [{ ...this.settings, temperature, seed }, this.positions.get(lane.model)];
    const [answer, controller] = [addAnswer(lane, { ...inForce(settings, served, positions), seed }), new AbortController()];
    this.runs.set(answer, controller);
    const onChange = () => this.thread.changed(lane);
    const sampling = fieldsOf(settings, served, positions);
    const problem = await ask({ conversation, exchange, lane, answer, sampling, signal: controller.signal, onChange });
    this.runs.delete(answer);
    this.thread.changed(lane);
    this.showComposer();
    if (conversation.exchanges.includes(exchange)) await this.keep(conversation);
    speak(t("says", { model: this.nameOf(lane), text: answer.error ?? saidBy(lane) }));
    if (problem?.status === 401) await this.meetServer().then(() => this.show());
  }

  nameOf(lane) {
    return this.labelOf(lane.model) ?? lane.model;
  }

  stop(conversation = this.conversation) {
    for (const answer of this.thread.running(conversation)) this.runs.get(answer).abort();
  }

  /** Keep what somebody thinks of an answer: here, and beside the run. */
  async judge(exchange, lane, opinion) {
    const { conversation, about } = this; // another one may be looked at before the server has answered
    const answer = shownAnswer(lane);
    const before = { rating: answer.rating, better: answer.better };
    Object.assign(answer, opinion);
    this.thread.changed(lane);
    try {
      await api.sendFeedback(toOpinion(conversation, exchange, lane), about.run_id);
      Object.assign(answer, opinion, { beside: { id: about.run_id, run: about.run } }); // what another tab kept meanwhile knows nothing of it
      if (answer.better && opinion.better) toast(t("thanks"));
    } catch (error) {
      Object.assign(answer, before);
      this.thread.changed(lane);
      if (error.status === 409) await this.meetServer().then(() => this.show()); // the server was started anew, with another run
      this.tell(error);
    }
    await this.keep(conversation);
  }

  /** Keep a conversation in the browser. */
  async keep(conversation = this.conversation) {
    if (conversation.exchanges.length && !this.removed.has(conversation)) await this.store.put(conversation).catch(() => toast(t("full")));
    this.showList();
  }

  async remove(conversation) {
    const removed = this.store.remove(conversation.id);
    this.leave(conversation);
    await removed;
    toast(t("deleted"), { label: t("undo"), run: () => (this.removed.delete(conversation), this.keep(conversation)) });
  }

  /** End what goes on in a conversation that was deleted, here or in another tab, and show it no longer. */
  leave(conversation) {
    this.removed.add(conversation);
    this.stop(conversation);
    if (conversation === this.conversation) location.hash = "#/";
    else this.showList();
  }

  change(name, value) {
    this.settings[name] = value;
    if (name === "system") this.conversation.system = value;
    saveSettings(this.settings);
    if (name === "theme" || name === "language") this.applyAppearance();
    if (name === "language" || name === "mode") this.show();
    if (name === "system") this.keep();
  }

  tell(error) {
    toast(error.status === 0 ? t("unreachable") : t("failed", { reason: error.message }));
  }

  listen() {
    const prompt = byId("prompt");
    prompt.addEventListener("input", () => (fit(prompt), this.showComposer()));
    prompt.addEventListener("keydown", (event) => {
      const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing; // Enter also chooses among characters
      if (!sends) return;
      event.preventDefault();
      if (!this.thread.running(this.conversation).length) byId("composer").requestSubmit(); // a typed Enter stops nothing
    });
    byId("composer").addEventListener("submit", (event) => (event.preventDefault(), this.submit(prompt)));
    document.addEventListener("keydown", (event) => event.key === "Escape" && !event.defaultPrevented && this.stop());
    addEventListener("hashchange", () => this.route());
    byId("skip").onclick = (event) => (event.preventDefault(), prompt.focus());
    byId("new").onclick = () => (location.hash === "#/" || location.hash === "" ? this.route() : (location.hash = "#/"));
    byId("open-run").onclick = () => (location.hash === "#/run" ? this.route() : (location.hash = "#/run"));
    byId("export").onclick = () => exportRows([this.conversation]);
    byId("open-settings").onclick = () => openSettings({
      settings: this.settings,
      served: this.served,
      positions: Math.min(...this.positions.values()),
      conversation: this.conversation,
      change: (name, value) => this.change(name, value),
      exportAll: () => exportRows(this.store.list()),
    }); // prettier-ignore
  }

  submit(prompt) {
    if (this.thread.running(this.conversation).length) return this.stop();
    const text = prompt.value.trim();
    if (!text) return null;
    prompt.value = "";
    fit(prompt);
    return this.send(text);
  }
}

new App().start();
