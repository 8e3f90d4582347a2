// The settings: how answers are sampled, and how the page looks. What is changed holds at once.

import { byId, h, iconButton } from "./dom.js";
import { SAMPLED, halfOf, inForce } from "./sampling.js";
import { DEFAULTS } from "./store.js";
import { LANGUAGES, t } from "./text.js";

/** Open the settings. `served` is how the server samples, with room for `positions` tokens; `change(name, value)` takes
 * each change; `exportAll` saves every conversation. */
export function openSettings({ settings, served, positions, conversation, change, exportAll }) {
  const dialog = byId("settings");
  const redraw = () => fill(dialog, { settings, served, positions, conversation, change, exportAll }, redraw);
  redraw();
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.showModal();
}

function fill(dialog, context, redraw) {
  const { settings, served, positions, conversation, change } = context;
  const held = inForce(settings, served, positions);
  const longest = Math.min(Math.max(1024, served.max_tokens), halfOf(positions));
  const number = (name, limits) => numberField(name, held, limits, change);
  const reset = () => {
    for (const name of SAMPLED) change(name, DEFAULTS[name]);
    redraw();
  };
  const system = h("textarea", { id: "system", rows: 3, value: conversation.system, oninput: () => change("system", system.value) });
  dialog.replaceChildren(
    h("header", {}, h("h2", { id: "settings-title" }, t("settings")), iconButton("close", t("close"), () => dialog.close())),
    field("system", t("system"), system, t("systemHint")),
    h("h3", {}, t("sampling"), h("button.link", { type: "button", onclick: reset }, t("reset"))),
    number("temperature", { min: 0, max: 2, step: 0.1, hint: t("temperatureHint") }),
    number("topP", { min: 0.05, max: 1, step: 0.05 }),
    number("repetition", { min: 1, max: 2, step: 0.05 }),
    number("maxTokens", { min: held.maxTokens % 16 || 16, max: longest, step: 16 }), // in steps that meet what holds
    seedField(settings, change),
    h("h3", {}, t("appearance")),
    h("div.pair", {}, themeField(settings, change), languageField(settings, change, redraw)),
    h("button.quiet", { type: "button", onclick: context.exportAll }, t("exportAll")),
  );
}

const field = (id, label, input, hint = null) =>
  h("div.setting", {}, h("label", { htmlFor: id }, label), input, hint && h("p.quiet", {}, hint));

function numberField(name, settings, { hint = null, ...limits }, change) {
  const value = h("output", { htmlFor: name }, String(settings[name]));
  const oninput = () => {
    value.textContent = input.value;
    change(name, Number(input.value));
  };
  const input = h("input", { type: "range", id: name, ...limits, oninput });
  input.value = settings[name]; // after the limits: before them it would be held to 0 to 100
  return h("div.setting.range", {}, h("label", { htmlFor: name }, t(name)), value, input, hint && h("p.quiet", {}, hint));
}

function seedField(settings, change) {
  const oninput = () => input.validity.valid && change("seed", input.value === "" ? null : Number(input.value));
  const input = h("input", { type: "number", id: "seed", min: 0, max: 2 ** 31 - 1, step: 1, value: settings.seed ?? "", oninput });
  return field("seed", t("seed"), input, t("seedHint"));
}

function choice(id, label, options, current, onchange) {
  const select = h("select", { id, onchange: () => onchange(select.value) });
  select.append(...options.map(([value, text]) => h("option", { value, selected: value === current }, text)));
  return field(id, label, select);
}

function themeField(settings, change) {
  const themes = [["auto", t("themeAuto")], ["light", t("themeLight")], ["dark", t("themeDark")]]; // prettier-ignore
  return choice("theme", t("theme"), themes, settings.theme, (value) => change("theme", value));
}

function languageField(settings, change, redraw) {
  const languages = Object.entries(LANGUAGES).map(([code, { name }]) => [code, name]);
  return choice("language", t("language"), languages, settings.language, (value) => (change("language", value), redraw()));
}

/** Ask for the server's key until something is given. */
export function askKey(wrong) {
  const dialog = byId("key");
  const input = h("input", { type: "password", id: "key-field", required: true, autocomplete: "current-password" });
  const form = h("form", { method: "dialog" },
    h("h2", { id: "key-title" }, t("keyTitle")),
    h("p.quiet", {}, t("keyText")),
    h("input", { type: "text", autocomplete: "username", value: "heedful", hidden: true }), // for password managers
    field("key-field", t("key"), input),
    wrong && h("p.error", { role: "alert" }, t("keyWrong")),
    h("div.row", {}, h("button.primary", { type: "submit" }, t("enter"))));
  dialog.replaceChildren(form);
  dialog.oncancel = (event) => event.preventDefault(); // without a key there is nothing behind the dialog
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(input.value), { once: true }));
}
