"""Strings that would like to be more than text, in prompts and in answers; and Markdown as it should look."""

from __future__ import annotations

import html

import pytest
from tests.serve.page.pages import Open
from tests.serve.page.standin import Script

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![](http://evil.invalid/?leak)",
    "![x](/v1/models)",
    "<iframe src=http://evil.invalid></iframe>",
    "<style>@import 'http://evil.invalid/x.css'</style>",
    '<a href="http://evil.invalid" ping="http://evil.invalid">x</a>',
    "<svg onload=alert(1)>",
    '"><b>bold</b>',
    "&lt;b&gt; &amp;",
    "\u202egnp.exe\u202c",
    "\x1b]52;c;aGk=\x07 \x1b[31m",
    "{{constructor.constructor('alert(1)')()}}",
    "__proto__ toString constructor",
]

MARKDOWN = [
    ("plain", "<p>plain</p>"),
    ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
    ("# Title\ntext", "<h3>Title</h3><p>text</p>"),
    ("#  A # B ##  \n## \n#no", "<h3>A # B</h3><h4></h4><p>#no</p>"),
    (
        "~~~ \tjs x\na`\n~~~~",
        "<figure><figcaption><span>js</span><button><svg><path></path></svg></button></figcaption><pre><code>a`</code></pre></figure>",
    ),
    (
        "```python\nx = 1\n```js y",
        "<figure><figcaption><span>python</span><button><svg><path></path></svg></button></figcaption>"
        "<pre><code>x = 1\n```js y</code></pre></figure>",
    ),
    ("| a | b\n |:-: | - ", "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody></tbody></table>"),
    ("| a | b\n | --- | x", "<p>| a | b<br>| --- | x</p>"),
    (
        "**bold** *it* __b__ _i_ ~~gone~~",
        "<p><strong>bold</strong> <em>it</em> <strong>b</strong> <em>i</em> <del>gone</del></p>",
    ),
    ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
    ("2 * 3 * 4 and snake_case_name and a*", "<p>2 * 3 * 4 and snake_case_name and a*</p>"),
    ("**open and `open", "<p>**open and `open</p>"),
    (r"\*not\* \\ C:\dir", r"<p>*not* \ C:\dir</p>"),
    ("`<b>` and ``a`b``", "<p><code>&lt;b&gt;</code> and <code>a`b</code></p>"),
    ("`**no**`", "<p><code>**no**</code></p>"),
    ("- a\n- b\n  - c\n\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
    ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("text:\n1. a\n2. b\nafter", "<p>text:</p><ol><li>a</li><li>b<br>after</li></ol>"),
    ("- a\n\nafter", "<ul><li>a</li></ul><p>after</p>"),
    ("- a\n1. b", "<ul><li>a</li></ul><ol><li>b</li></ol>"),
    ("> said\n> so\n\nnot", "<blockquote><p>said<br>so</p></blockquote><p>not</p>"),
    ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
    (
        "| a | b |\n|--|--:|\n| 1 | **2** |\n| 3 |",
        "<table><thead><tr><th>a</th><th>b</th></tr></thead>"
        "<tbody><tr><td>1</td><td><strong>2</strong></td></tr><tr><td>3</td><td></td></tr></tbody></table>",
    ),
    ("a | b\nno table", "<p>a | b<br>no table</p>"),
    (
        "[x](https://a.b/c) (https://d.e/f).",
        '<p><a href="https://a.b/c">x</a> (<a href="https://d.e/f">https://d.e/f</a>).</p>',
    ),
    ("at https://d.e/f_g_h, now", '<p>at <a href="https://d.e/f_g_h">https://d.e/f_g_h</a>, now</p>'),
    ("![i](https://a.b/c.png)", "<p>![i](https://a.b/c.png)</p>"),
    ("世界 **粗体** 。", "<p>世界 <strong>粗体</strong> 。</p>"),
    ("", ""),
]

SHAPE = """
const { showMarkdown } = await import("/page/markdown.js");
const box = document.createElement("div");
const shape = (node) => {
  if (node.nodeType === 3) return node.data.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const inner = [...node.childNodes].map(shape).join("");
  const name = node.localName;
  if (name === "div") return inner;
  const kept = ["href", "start"].filter((a) => node.hasAttribute(a) && !(a === "start" && node.start === 1));
  const open = name + kept.map((a) => ` ${a}="${node.getAttribute(a)}"`).join("");
  return name === "br" || name === "hr" ? `<${name}>` : `<${open}>${inner}</${name}>`;
};
"""


def test_hostile_strings_are_shown_as_they_are(open_page: Open, script: Script) -> None:
    script.say = lambda body: list(body["messages"][-1]["content"])
    page = open_page()
    page.js("window.alert = () => { document.title = 'broken'; };")
    for number, text in enumerate(HOSTILE):
        page.js(
            "document.getElementById('prompt').value = args[0]; document.getElementById('composer').requestSubmit();",
            text,
        )
        page.wait(lambda wanted=number + 1: len(page.all(".answer")) == wanted)
        page.rest()
    said = page.js("return [...document.querySelectorAll('.answer .body')].map((one) => one.textContent)")
    asked = page.js("return [...document.querySelectorAll('.bubble')].map((one) => one.textContent)")
    assert asked == HOSTILE
    assert said == [text.replace("__proto__", "proto") for text in HOSTILE]
    assert (
        page.js("return document.querySelectorAll('#thread :is(script, iframe, img, style, link, object, b)').length")
        == 0
    )
    assert "broken" not in page.browser.title


def test_hostile_names_and_titles(open_page: Open, script: Script) -> None:
    script.models = ("<b>x</b>", "<b>x</b>-base")
    script.refuse = lambda body: (400, {"message": "<img src=x onerror=alert(1)>"})
    page = open_page()
    page.allowed_messages = ["400 (Bad Request)"]
    page.send("<img src=x onerror=alert(1)>")
    assert page.texts(".list a") == ["<img src=x onerror=alert(1)>"]
    assert page.texts(".outcome") == ["That did not work: <img src=x onerror=alert(1)>"]
    assert page.js("return document.querySelectorAll('main :is(img, b)').length") == 0


def test_links_keep_to_themselves(open_page: Open, script: Script) -> None:
    script.say = lambda body: ["See [here](https://example.org/a?b=c)", " or <https://example.org>."]
    page = open_page()
    page.send("Where?")
    links = page.all(".answer a")
    assert [link.get_attribute("href") for link in links] == ["https://example.org/a?b=c", "https://example.org/"]
    assert {link.get_attribute("rel") for link in links} == {"noopener noreferrer nofollow"}


def test_markdown(open_page: Open) -> None:
    code = SHAPE + "return args[0].map((text) => (showMarkdown(box, text), shape(box)));"
    assert open_page().js(code, [text for text, _ in MARKDOWN]) == [wanted for _, wanted in MARKDOWN]


def test_code_blocks_are_copied_as_they_are(open_page: Open, script: Script) -> None:
    code = "if a < b:\n\n    print('**x**')  # `tick`"
    script.say = lambda body: ["So:\n```python\n", code, "\n```\nand ~~~ so"]
    page = open_page()
    page.send("Code?")
    assert page.js("return document.querySelector('.answer pre code').textContent") == code
    assert page.text(".answer figcaption") == "python"
    page.js("navigator.clipboard.writeText = async (text) => { window.copied = text; };")
    page.click(".answer figcaption button")
    page.wait(lambda: page.js("return window.copied") == code)


def test_a_growing_text_ends_as_the_whole_does(open_page: Open) -> None:
    whole = "\n\n".join(text for text, _ in MARKDOWN) + "\n\n```js\nopen"
    code = (
        SHAPE
        + """
    for (let end = 0; end <= args[0].length; end += 7) showMarkdown(box, args[0].slice(0, end));
    showMarkdown(box, args[0]);
    const grown = shape(box);
    box.replaceChildren();
    showMarkdown(box, args[0]);
    return [grown, shape(box)];"""
    )
    grown, at_once = open_page().js(code, whole)
    assert grown == at_once
    assert html.escape("open", quote=False) in grown


REPEATED = ["*a ", "`a", "[a](", "_a ", "**a* ", "> ", "- a\n  ", "- a\n", "a\n", "|a|b|\n", "~~~~", "`" * 3, "a", "h"]
LONG = [*[("", piece, "") for piece in [*REPEATED, "\\"]], ("# a", " ", "b"), ("a|b\n", " ", "x"), ("a|b\n-", " ", "x")]
LONG += [("~~~", " ", "`"), ("~~~", "a", "`"), ("", "~", "`"), ("- ", "- ", "x"), ("1. a\n", " ", "b")]


@pytest.mark.parametrize(("start", "piece", "end"), LONG)
def test_a_megabyte_is_shown(open_page: Open, start: str, piece: str, end: str) -> None:
    """Nothing here takes time that grows with the square of the text: the test's own limit would end it."""
    length = open_page().js(
        """const { showMarkdown } = await import("/page/markdown.js");
        const box = document.createElement("div");
        showMarkdown(box, args[0] + args[1].repeat(args[2]) + args[3]);
        return box.textContent.length;""",
        start,
        piece,
        1_000_000 // len(piece),
        end,
    )
    assert length > 0
