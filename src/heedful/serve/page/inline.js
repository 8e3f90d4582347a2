// The marks inside a line: code, emphasis, links. What is not closed or not allowed stays the text that it is.

import { h } from "./dom.js";

const LINK = /\[([^[\]\n]{1,500})\]\(([^\s()<>]{1,2000})\)/y;
const ADDRESS = /https?:\/\/[^\s<>"'`|\\^{}]{1,2000}/y;
const SAFE = /^(?:https?:\/\/|mailto:)/i;
const ESCAPED = /[\\`*_{}[\]()#+\-.!~|>]/;
const WORD = /[\p{L}\p{N}]/u;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]]; // prettier-ignore
const DEEPEST = 6;

/** Give the nodes of a stretch of text; a line break is kept. */
export function inline(text, depth = 0) {
  const scan = { text, at: 0, plain: "", nodes: [], hopeless: new Set(), depth };
  while (scan.at < text.length) {
    if (!(code(scan) || emphasis(scan) || link(scan) || address(scan) || lineBreak(scan))) character(scan);
  }
  flush(scan);
  return scan.nodes;
}

function flush(scan) {
  if (scan.plain) scan.nodes.push(document.createTextNode(scan.plain));
  scan.plain = "";
}

function push(scan, node, end) {
  flush(scan);
  scan.nodes.push(node);
  scan.at = end;
  return true;
}

function character(scan) {
  const { text } = scan;
  if (text[scan.at] === "\\" && ESCAPED.test(text[scan.at + 1] ?? "")) scan.at += 1;
  scan.plain += text[scan.at];
  scan.at += 1;
}

const lineBreak = (scan) => scan.text[scan.at] === "\n" && push(scan, h("br"), scan.at + 1);

function code(scan) {
  const { text, at, hopeless } = scan;
  if (text[at] !== "`") return false;
  let start = at;
  while (text[start] === "`") start += 1;
  const marks = text.slice(at, start);
  const end = hopeless.has(marks) ? -1 : codeEnd(text, start, marks);
  if (end < 0) {
    hopeless.add(marks); // nor will a later one of this length be closed
    scan.plain += marks;
    scan.at = start;
    return true;
  }
  return push(scan, h("code", {}, text.slice(start, end).replace(/^ (.*) $/s, "$1")), end + marks.length);
}

/** Find the run of backticks that is exactly as long as the one that opened. */
function codeEnd(text, start, marks) {
  let end = text.indexOf(marks, start);
  while (end >= 0) {
    let after = end;
    while (text[after] === "`") after += 1;
    if (after - end === marks.length) return end;
    end = text.indexOf(marks, after);
  }
  return -1;
}

function emphasis(scan) {
  const { text, at, depth, hopeless } = scan;
  const found = depth < DEEPEST && MARKS.find(([mark]) => text.startsWith(mark, at));
  if (!found || hopeless.has(found[0])) return false;
  const [mark, tag] = found;
  const opens = /\S/.test(text[at + mark.length] ?? "") && !(mark[0] === "_" && WORD.test(text[at - 1] ?? ""));
  const end = opens ? emphasisEnd(text, at + mark.length, mark) : -1;
  if (opens && end < 0) hopeless.add(mark); // whether a mark closes depends on its own place alone
  if (end < 0) {
    scan.plain += mark;
    scan.at += mark.length;
    return true;
  }
  return push(scan, h(tag, {}, inline(text.slice(at + mark.length, end), depth + 1)), end + mark.length);
}

function emphasisEnd(text, start, mark) {
  for (let end = text.indexOf(mark, start + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
    const double = mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark); // part of ** or __
    const inWord = mark[0] === "_" && WORD.test(text[end + mark.length] ?? "");
    if (/\S/.test(text[end - 1]) && !double && !inWord) return end;
  }
  return -1;
}

function link(scan) {
  if (scan.text[scan.at] !== "[" || scan.text[scan.at - 1] === "!") return false; // an image would be fetched: it stays text
  LINK.lastIndex = scan.at;
  const found = LINK.exec(scan.text);
  return Boolean(found) && SAFE.test(found[2]) && push(scan, anchor(found[2], found[1]), LINK.lastIndex);
}

function address(scan) {
  const before = scan.text.slice(Math.max(0, scan.at - 2), scan.at);
  if (scan.text[scan.at] !== "h" || /\w$/.test(before) || before === "](") return false; // the last: an image's
  ADDRESS.lastIndex = scan.at;
  const found = ADDRESS.exec(scan.text)?.[0].replace(/[.,;:!?)\]*_]+$/, "");
  return Boolean(found) && push(scan, anchor(found, found), scan.at + found.length);
}

const anchor = (address, text) => h("a", { href: address, title: address, target: "_blank", rel: "noopener noreferrer nofollow" }, text);
