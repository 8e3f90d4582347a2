// What stands around a conversation: the list of conversations, the choice of models, the run.

import { about, feedbackCounts, reportAddress } from "./api.js";
import { titleOf } from "./conversation.js";
import { byId, copyText, h, icon, iconButton } from "./dom.js";
import { t } from "./text.js";

/** List the conversations; the place that is open is marked and named: a conversation, or the run where that is null. */
export function showList(conversations, current, remove) {
  const rows = conversations.map((conversation) => {
    const title = titleOf(conversation);
    const here = conversation.id === current?.id;
    const link = h("a", { href: `#/c/${conversation.id}`, "aria-current": here ? "page" : null }, h("bdi", {}, title));
    return h("li", {}, link, iconButton("trash", t("remove", { title }), () => remove(conversation)));
  });
  byId("list").replaceChildren(...rows);
  if (current) byId("open-run").removeAttribute("aria-current");
  else byId("open-run").setAttribute("aria-current", "page");
  document.title = [current ? titleOf(current) : t("run"), "heedful"].filter(Boolean).join(" · ");
}

/** Offer the models as one choice; with one model there is only its name. */
export function showModels({ tuned, base, only, mode, choose }) {
  const box = byId("models");
  if (only) {
    box.removeAttribute("role");
    box.replaceChildren(h("span.only", {}, only));
    return;
  }
  const modes = [[tuned, t("tuned")], [base, t("base")], ["both", t("both")]]; // prettier-ignore
  const radio = ([value, label]) => {
    const input = h("input", { type: "radio", name: "mode", value, checked: value === mode, onchange: () => choose(value) });
    return h("label", { title: value === "both" ? label : value }, input, h("span", {}, label));
  };
  box.replaceChildren(...modes.map(radio));
}

/** Label the buttons of the frame in the page's language. */
export function labelFrame() {
  const withText = (id, name, text) => byId(id).replaceChildren(icon(name), h("span", {}, text));
  withText("new", "plus", t("newConversation"));
  withText("open-run", "chart", t("run"));
  withText("open-settings", "sliders", t("settings"));
  for (const [id, name, text] of [["menu", "menu", t("menu")], ["export", "download", t("exportThis")]]) {
    byId(id).replaceChildren(icon(name));
    byId(id).title = text;
    byId(id).setAttribute("aria-label", text);
  }
}

/** Show the run: what people said of its answers, and its report in a frame that can reach nothing. */
export async function showRun() {
  const box = byId("run");
  const [{ run, report }, counts] = await Promise.all([about(), feedbackCounts()]);
  const feedback = feedbackLine(run, counts);
  if (!report) {
    const missing = h("div.welcome", {}, h("h1", {}, t("noReport")), h("p", {}, t("noReportMore")), command(`heedful report ${run}`));
    box.replaceChildren(feedback, missing);
    return;
  }
  const frame = h("iframe", { title: t("report"), sandbox: "allow-scripts", referrerPolicy: "no-referrer" });
  frame.src = await reportAddress();
  box.replaceChildren(feedback, frame);
}

function feedbackLine(run, counts) {
  if (!counts.up && !counts.down && !counts.better) return h("p.feedback", {}, t("noFeedback"));
  return h("p.feedback", {}, `${t("feedback", counts)} `, command(`heedful feedback export ${run}`));
}

function command(text) {
  const copy = iconButton("copy", t("copy"), () => copyText(text, copy));
  return h("span.command", {}, h("code", {}, text), copy);
}

/** Let the list of conversations slide in on a narrow screen, and out again by any of the usual ways. */
export function slideSidebar() {
  const [sidebar, veil, menu] = ["sidebar", "veil", "menu"].map(byId);
  const narrow = matchMedia("(max-width: 52rem)");
  const set = (open) => {
    sidebar.classList.toggle("open", open);
    sidebar.inert = narrow.matches && !open;
    veil.hidden = !(narrow.matches && open);
    menu.setAttribute("aria-expanded", String(open));
    if (open) byId("new").focus();
  };
  menu.onclick = () => set(!sidebar.classList.contains("open"));
  veil.onclick = () => set(false);
  narrow.onchange = () => set(false);
  sidebar.addEventListener("click", (event) => event.target.closest("a, .new, .places button") && set(false));
  sidebar.addEventListener("keydown", (event) => event.key === "Escape" && narrow.matches && (set(false), menu.focus()));
  set(false);
}
