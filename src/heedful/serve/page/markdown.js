// Markdown as models write it -> elements. Built node by node: HTML in an answer is text, an image is text, and a link
// leads to http, https or mail or is text. Every scan is bounded or remembered, so long answers cost linear time.

import { copyText, h, iconButton } from "./dom.js";
import { inline } from "./inline.js";
import { t } from "./text.js";

const FENCE = /^ {0,3}(`{3,}(?!`)|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/;
const RULE = /^ {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}>\s?/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])(\s+|$)/;
const DIVIDER = /^\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?)?$/; // of a trimmed line
const DEEPEST = 8;

/** Show a text in an element; blocks that are as before stay as they are, so a growing answer changes only its end. */
export function showMarkdown(element, text) {
  const found = blocks(text.split(/\r?\n/), 0);
  const shown = [...element.children];
  found.forEach((block, index) => {
    const old = shown[index];
    if (old?.shows === block.source) return;
    const built = block.build();
    built.shows = block.source;
    if (old) old.replaceWith(built);
    else element.append(built);
  });
  for (const old of shown.slice(found.length)) old.remove();
}

/** Cut lines into blocks: { source, build }, where equal sources build equal elements. */
function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [kind, end] = blockAt(lines, at, depth);
    const own = lines.slice(at, end);
    found.push({ source: `${kind.name} ${own.join("\n")}`, build: () => kind(own, depth) });
    at = end;
  }
  return found;
}

/** Tell what begins at a line, and where it ends. */
function blockAt(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return [code, fenceEnd(lines, at, fence[1])];
  if (HEADING.test(line)) return [heading, at + 1];
  if (RULE.test(line)) return [rule, at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return [quote, endOf(lines, at, (next) => QUOTE.test(next))];
  if (depth < DEEPEST && ITEM.test(line)) return [list, listEnd(lines, at)];
  if (isTable(lines, at)) return [table, endOf(lines, at, (next) => next.includes("|"))];
  return [paragraph, endOf(lines, at, (next, index) => next.trim() && !interrupts(lines, index, depth))];
}

function endOf(lines, at, belongs) {
  let end = at + 1;
  while (end < lines.length && belongs(lines[end], end)) end += 1;
  return end;
}

/** Tell whether a line closes the fence that a mark opened: as many of its signs or more, and nothing else. */
const closes = (line, mark) => line.trim().startsWith(mark) && !line.trim().replaceAll(mark[0], "");

function fenceEnd(lines, at, mark) {
  let end = at + 1;
  while (end < lines.length && !closes(lines[end], mark)) end += 1;
  return Math.min(end + 1, lines.length);
}

/** A list goes on over blank lines as long as another item or an indented line follows. */
function listEnd(lines, at) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const indent = ITEM.exec(lines[at])[1].length;
  let end = at + 1;
  for (let next = end; next < lines.length; next += 1) {
    const item = ITEM.exec(lines[next]);
    const inside = /^\s{2,}\S/.test(lines[next]) && /^\s*/.exec(lines[next])[0].length > indent;
    const sibling = item && !RULE.test(lines[next]) && (/\d/.test(item[2]) === ordered || item[1].length > indent);
    if (inside || sibling) end = next + 1;
    else if (lines[next].trim() && (next > end || interrupts(lines, next, DEEPEST) || item)) break;
    else if (lines[next].trim()) end = next + 1; // a lazy line of the item's paragraph
  }
  return end;
}

const isTable = (lines, at) => lines[at].includes("|") && DIVIDER.test((lines[at + 1] ?? "").trim());

function interrupts(lines, at, depth) {
  const line = lines[at];
  const nests = depth < DEEPEST && (QUOTE.test(line) || ITEM.test(line));
  return nests || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || isTable(lines, at);
}

const inside = (lines, depth) => blocks(lines, depth + 1).map((block) => block.build());

const rule = () => h("hr");

function heading(lines) {
  const [, marks, text] = HEADING.exec(lines[0]);
  return h(`h${Math.min(marks.length + 2, 6)}`, { dir: "auto" }, inline(text.trim().replace(/\s#+$/, "").trim())); // the page has an h1 and h2 of its own
}

function paragraph(lines) {
  const text = lines.map((line) => line.trim()).join("\n");
  return h("p", { dir: "auto" }, inline(text));
}

const quote = (lines, depth) => h("blockquote", { dir: "auto" }, inside(lines.map((line) => line.replace(QUOTE, "")), depth));

function code(lines) {
  const [, mark, info] = FENCE.exec(lines[0]);
  const [language] = /^[\w+#.-]*/.exec(info.trim());
  const closed = lines.length > 1 && closes(lines.at(-1), mark);
  const text = lines.slice(1, closed ? -1 : undefined).join("\n");
  const copy = iconButton("copy", t("copy"), () => copyText(text, copy));
  return h("figure.code", {}, h("figcaption", {}, h("span", {}, language || t("code")), copy),
    h("pre", { tabIndex: 0, dir: "ltr" }, h("code", {}, text)));
}

function list(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= first[1].length + 1) items.push([line.slice(item[0].length)]);
    else items.at(-1).push(line);
  }
  const ordered = /\d/.test(first[2]);
  const start = ordered ? { start: Number.parseInt(first[2], 10) } : {};
  return h(ordered ? "ol" : "ul", start, items.map((item) => listItem(item, depth)));
}

function listItem([first, ...rest], depth) {
  const indents = rest.filter((line) => line.trim()).map((line) => /^\s*/.exec(line)[0].length);
  const margin = indents.reduce((least, indent) => Math.min(least, indent), 12);
  const built = inside([first, ...rest.map((line) => line.slice(Math.min(margin, /^\s*/.exec(line)[0].length)))], depth);
  const plain = built.length && built[0].tagName === "P" ? [...built.shift().childNodes] : []; // a tight list has no paragraphs
  return h("li", { dir: "auto" }, plain, built);
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const [head, divider, ...rows] = lines.map(cells);
  const aligned = (index) => (divider[index]?.endsWith(":") ? (divider[index].startsWith(":") ? "middle" : "end") : "start");
  const row = (tag, values) => h("tr", {}, head.map((_, index) => h(`${tag}.${aligned(index)}`, { dir: "auto" }, inline(values[index] ?? ""))));
  return h("div.table", { tabIndex: 0 }, h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, rows.map((values) => row("td", values)))));
}
