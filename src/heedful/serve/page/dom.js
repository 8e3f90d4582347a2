// Elements from code. Text only ever becomes a text node: nothing in this page parses HTML.

import { t } from "./text.js";

/** Build an element: h("button.quiet", { title, onclick }, "text", child). */
export function h(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  const shown = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  for (const child of shown) element.append(child); // before dir="auto", which would look at all of them for each
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else if (value !== null) element.setAttribute(name, value);
  }
  return element;
}

export const byId = (id) => document.getElementById(id);

const PATHS = {
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h10",
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M8 8h8v8H8z",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "m5 12.5 4.5 4.5L19 7.5",
  retry: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3M19.5 4v4h-4",
  pen: "M4.5 19.5 5.5 15 15.8 4.8a1.8 1.8 0 0 1 2.5 0l.9.9a1.8 1.8 0 0 1 0 2.5L9 18.5zM14 6.5l3.5 3.5",
  up: "M7.5 10.5v9H5a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1zm0 0L11 3.5a2 2 0 0 1 2 2V9h5.2a1.8 1.8 0 0 1 1.8 2.1l-1.2 7a1.8 1.8 0 0 1-1.8 1.4H7.5",
  down: "M16.5 13.5v-9H19a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1zm0 0L13 20.5a2 2 0 0 1-2-2V15H5.8A1.8 1.8 0 0 1 4 12.9l1.2-7A1.8 1.8 0 0 1 7 4.5h9.5",
  tokens: "M4 6h6v5H4zM13 6h7v5h-7zM4 14h9v5H4zM16 14h4v5h-4z",
  left: "m14 6-6 6 6 6",
  right: "m10 6 6 6-6 6",
  close: "m6 6 12 12M18 6 6 18",
  trash: "M5 7h14M10 7V5h4v2M7 7l.8 12h8.4L17 7",
  chart: "M4 4v16h16M8 15l3.5-4 3 2.5L19 8",
  sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
};

/** Draw an icon in the colour of the text beside it; screen readers pass it over. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Build a button that is only an icon; its label is its tooltip too. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h("button.icon", { type: "button", title: label, "aria-label": label, onclick, ...attributes }, icon(name));
}

/** Show a short notice that leaves by itself, with one thing that can still be done about it. */
export function toast(text, action = null) {
  const notice = h("div.toast", {}, h("span", {}, text));
  const leave = () => notice.remove();
  if (action) notice.append(h("button", { type: "button", onclick: () => (leave(), action.run()) }, action.label));
  byId("toasts").append(notice);
  setTimeout(leave, action ? 9000 : 5000);
}

/** Say something to a screen reader alone. */
export function speak(text) {
  byId("spoken").replaceChildren(text);
}

/** Put a text on the clipboard, and say on the button that asked for it that it is there. */
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    toast(t("copyFailed"));
    return;
  }
  speak(t("copied"));
  button.replaceChildren(icon("check"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1600);
}

/** Grow a text field with its text. */
export function fit(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/** Offer a text as a file. */
export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
