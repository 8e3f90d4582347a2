"use strict";
// Shows the rows that lie in the page, packed, a screenful at a time. Text of rows is only ever set as text.
(() => {
  const ROWS = 20;
  const LONGEST = 600; // tokens of a text that are compared; a longer one is shown unmarked

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  }

  async function unpack(element) {
    const bytes = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const tokensOf = (text) => text.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) || [];

  // Mark the tokens of `text` that are not in its longest common subsequence with `other`.
  function marked(text, other) {
    if (other === null || text === other) return [text];
    const a = tokensOf(text), b = tokensOf(other);
    if (a.length > LONGEST || b.length > LONGEST) return [text];
    const width = b.length + 1;
    const common = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        common[i * width + j] = a[i] === b[j]
          ? common[(i + 1) * width + j + 1] + 1
          : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    const parts = [];
    const add = (token, differs) => {
      const last = parts[parts.length - 1];
      if (last && last.differs === differs) last.text += token;
      else parts.push({ text: token, differs });
    };
    for (let i = 0, j = 0; i < a.length; ) {
      if (j < b.length && a[i] === b[j]) { add(a[i], false); i++; j++; }
      else if (j < b.length && common[i * width + j + 1] > common[(i + 1) * width + j]) j++;
      else { add(a[i], true); i++; }
    }
    return parts.flatMap(({ text, differs }) => {
      if (!differs || !text.trim()) return [text];
      const [, before, inner, after] = text.match(/^(\s*)([^]*?)(\s*)$/);
      return [before, make("mark", "", inner), after];
    });
  }

  const first = (row) => row.scores && row.scores[0];
  const last = (row) => row.scores && row.scores[row.scores.length - 1];
  const gain = (row) => last(row) - first(row);
  const exact = (row, k) => row.answers[k].trim() === row.reference.trim();
  const endless = (row) => !["stop", ""].includes(row.finish[row.finish.length - 1]); // "": it was not told
  const FILTERS = {
    all: () => true,
    gained: (row) => gain(row) > 0,
    lost: (row) => gain(row) < 0,
    exact: (row) => exact(row, row.answers.length - 1),
    wrong: (row) => !exact(row, row.answers.length - 1),
    same: (row) => row.answers[0].trim() === row.answers[row.answers.length - 1].trim(),
    endless,
  };
  const ORDERS = {
    file: () => 0,
    gained: (x, y) => gain(y) - gain(x),
    lost: (x, y) => gain(x) - gain(y),
    longest: (x, y) => y.answers[y.answers.length - 1].length - x.answers[x.answers.length - 1].length,
  };

  // A paragraph of a row's text, from right to left where it is written so.
  function paragraph(className, text, ...children) {
    const shown = make("p", text.length > 700 ? `${className} long` : className, ...children);
    shown.dir = "auto";
    if (text.length > 700) shown.tabIndex = 0; // so that a keyboard can scroll it
    return shown;
  }

  function cell(name, text, other) {
    const shown = paragraph("text", text, ...marked(text, other));
    if (!text.trim()) shown.append(make("span", "soft", "(empty)"));
    return make("div", "", make("h3", "", name), shown);
  }

  function card(row, columns, against) {
    const end = row.answers.length - 1;
    const meta = make("div", "meta", make("span", "", row.place));
    if (exact(row, end)) meta.append(make("span", "badge", "exact"));
    if (endless(row)) meta.append(make("span", "badge bad", "did not stop"));
    if (row.scores)
      meta.append(make("span", "", `ROUGE-L ${row.scores.map((s) => s.toFixed(2)).join(" → ")}`));
    const texts = make("div", "texts", cell("Reference", row.reference, null));
    row.answers.forEach((text, k) => {
      const others = { reference: row.reference, other: row.answers[k === end ? 0 : end], none: null };
      texts.append(cell(columns[k], text, others[against]));
    });
    const [question, ...more] = row.question.split("\n\n");
    const rest = more.join("\n\n");
    const head = make("div", "", paragraph("question text", question, question));
    if (more.length) head.append(paragraph("more text", rest, rest));
    head.append(meta);
    return make("article", "answer", head, texts);
  }

  async function showAnswers() {
    const packed = document.getElementById("rows");
    if (!packed) return;
    const { columns, rows } = await unpack(packed);
    const at = (id) => document.getElementById(id);
    const list = at("answer-list");
    for (const row of rows)
      row.hay = [row.question, row.reference, row.place, ...row.answers].join("\n").toLowerCase();
    let page = 0;
    const show = () => {
      const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = FILTERS[at("filter").value];
      const found = rows.filter((row) => wanted(row) && words.every((word) => row.hay.includes(word)));
      if (at("order").value !== "file") found.sort(ORDERS[at("order").value]);
      const pages = Math.max(1, Math.ceil(found.length / ROWS));
      page = Math.min(page, pages - 1);
      const against = at("against").value;
      const shown = found.slice(page * ROWS, (page + 1) * ROWS);
      list.replaceChildren(...shown.map((row) => card(row, columns, against)));
      if (!found.length) list.append(make("p", "soft", "No row fits."));
      at("count").textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
      at("page").textContent = `page ${page + 1} of ${pages}`;
      at("previous").disabled = page === 0;
      at("next").disabled = page === pages - 1;
    };
    const restart = () => { page = 0; show(); };
    at("search").addEventListener("input", restart);
    for (const id of ["filter", "order", "against"]) at(id).addEventListener("change", restart);
    const turn = (by) => { page += by; show(); at("answers").scrollIntoView(); };
    at("previous").addEventListener("click", () => turn(-1));
    at("next").addEventListener("click", () => turn(1));
    show();
  }

  async function asked(path) {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
    return answer.text();
  }

  // Put a new page in this one's place; what was typed, chosen, opened and scrolled to stays.
  async function takeOver(fresh) {
    const chosen = [...document.querySelectorAll("input, select")].map(({ id, value }) => [id, value]);
    const opened = [...document.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent);
    const [focused, top] = [document.activeElement.id, window.scrollY];
    for (const name of ["header", "nav", "main"]) {
      const [old, now] = [document, fresh].map((page) => page.querySelector(name));
      if (!old.isEqualNode(now)) old.replaceWith(document.adoptNode(now)); // links that stay keep the focus
    }
    document.documentElement.dataset.live = fresh.documentElement.dataset.live;
    document.title = fresh.title;
    for (const [id, value] of chosen) {
      const field = document.getElementById(id);
      if (field && (field.tagName === "INPUT" || [...field.options].some((option) => option.value === value)))
        field.value = value;
    }
    for (const summary of document.querySelectorAll("details > summary"))
      summary.parentElement.open = opened.includes(summary.textContent);
    await showAnswers();
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    window.scrollTo(0, top);
  }

  // A page that is served while its run goes on asks for news; where none come, it asks again.
  async function follow() {
    try {
      if ((await asked("/state")) !== document.documentElement.dataset.live)
        await takeOver(new DOMParser().parseFromString(await asked("/"), "text/html"));
    } catch {
      // the server is away, or a file is just being written
    } finally {
      setTimeout(follow, 2000);
    }
  }

  showAnswers();
  if (document.documentElement.dataset.live) setTimeout(follow, 2000);
})();
