// How the page looks and reads: widths, roles, labels, contrast, and what an answer may not do.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, poorContrast, stage } from "./page.js";

describe("the page's look", () => {
  let site;
  before(async () => (site = await stage()));
  after(() => site.close());

  for (const width of [320, 375, 768, 1280]) {
    test(`has no sideways scrolling at ${width} px`, async () => {
      const page = await site.open({ viewport: { width, height: 700 } });
      await ask(page, "A rather long message with averyveryveryveryveryveryveryveryveryveryveryveryveryveryverylongword in it.");
      const over = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok((await over()) <= 0);
      if (await page.locator("#panel-toggle").isVisible()) {
        await page.click("#panel-toggle");
        assert.equal(await page.locator("#panel-toggle").getAttribute("aria-expanded"), "true");
      }
      await page.evaluate(() => document.querySelectorAll("details").forEach((node) => (node.open = true)));
      assert.ok((await over()) <= 0);
      const inside = await page.evaluate(() => {
        const panel = document.getElementById("panel");
        return panel.scrollWidth - panel.clientWidth;
      });
      assert.ok(inside <= 0, "the panel scrolls sideways");
      await page.keyboard.press("Escape");
      await page.context().close();
    });
  }

  test("is mirrored where the language is written from right to left", async () => {
    const page = await site.open({ hash: "#gpu=off" });
    await ask(page, "A rather long message with averyveryveryveryveryveryveryveryveryveryveryveryveryveryverylongword in it.");
    await page.evaluate(() => (document.documentElement.dir = "rtl"));
    await page.evaluate(() => document.querySelectorAll("#panel details").forEach((node) => (node.open = true)));
    for (const width of [320, 1280]) {
      await page.setViewportSize({ width, height: 700 });
      const over = await page.evaluate(() => ["#panel", "#messages", "#chats"].map((id) => document.querySelector(id)).filter((node) => node.checkVisibility())
        .concat(document.documentElement).filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.id || node.tagName));
      assert.deepEqual(over, [], `${width} px`);
    }
    const sides = await page.evaluate(() => Object.fromEntries(["#chats", "#panel", ".turn.user .body", ".turn.assistant .copy", "#send", "#prompt"].map((name) => {
      const { left, right } = document.querySelector(name).getBoundingClientRect();
      return [name, (left + right) / 2];
    })));
    assert.ok(sides["#chats"] > sides["#panel"], "the chats stand at the beginning of a line, the panel at its end");
    assert.ok(sides["#send"] < sides["#prompt"], "and so do the parts of the message box");
    assert.ok(sides[".turn.user .body"] < sides[".turn.assistant .copy"], "questions stand at the end, answers at the beginning");
    // What the engine says and the Teach view keep their direction.
    assert.equal(await page.evaluate(() => getComputedStyle(document.getElementById("teach")).direction), "ltr");
    await page.context().close();
  });

  test("has one h1, landmarks, names for every control, and unique ids", async () => {
    const page = await site.open();
    const found = await page.evaluate(() => {
      const named = (node) => (node.ariaLabel || node.labels?.[0]?.textContent || node.textContent || "").trim();
      return {
        h1: document.querySelectorAll("h1").length,
        landmarks: ["header", "main", "aside[aria-label]"].filter((tag) => !document.querySelector(tag)),
        nameless: [...document.querySelectorAll("button, input, select, textarea, meter, iframe")].filter((node) => !named(node) && !node.title).map((node) => node.outerHTML),
        doubles: [...document.querySelectorAll("[id]")].map((node) => node.id).filter((id, at, all) => all.indexOf(id) !== at),
        lang: document.documentElement.lang,
        log: document.getElementById("messages").getAttribute("role"),
        status: document.getElementById("status").getAttribute("role"),
        firstInHead: document.head.firstElementChild.getAttribute("http-equiv"),
        firstScript: document.querySelector("script").getAttribute("src"),
        inline: document.querySelectorAll("script:not([src]), style, [style*=';'], [onclick]").length,
      };
    });
    assert.equal(found.h1, 1);
    assert.deepEqual(found.landmarks, []);
    assert.deepEqual(found.nameless, []);
    assert.deepEqual(found.doubles, []);
    assert.equal(found.lang, "en");
    assert.equal(found.log, "log");
    assert.equal(found.status, "status");
    assert.equal(found.firstInHead, "Content-Security-Policy");
    assert.equal(found.firstScript, "www/lock.js");
    await page.context().close();
  });

  test("can be worked from the keyboard, with a visible focus", async () => {
    const page = await site.open();
    await page.focus("body");
    await page.evaluate(() => document.activeElement?.blur());
    const path = [];
    for (let step = 0; step < 30; step++) {
      await page.keyboard.press("Tab");
      path.push(await page.evaluate(() => {
        const node = document.activeElement;
        const box = node.closest(".box") ?? node;
        const style = getComputedStyle(node.id === "prompt" ? box : node);
        return { id: node.id || node.className || node.tagName, seen: style.outlineStyle !== "none" || style.boxShadow !== "none" };
      }));
    }
    // The round begins at the skip link, wherever the focus was.
    const all = path.map(({ id }) => id);
    const ids = all.slice(all.indexOf("skip"));
    for (const id of ["skip", "new-chat", "messages", "prompt", "send", "open-file"]) assert.ok(ids.includes(id), `${id} is not reached: ${ids.join(" ")}`);
    assert.ok(ids.indexOf("prompt") < ids.indexOf("send") && ids.indexOf("send") < ids.indexOf("open-file"));
    assert.deepEqual(path.filter(({ id, seen }) => !seen && id !== "BODY").map(({ id }) => id), []);
    await page.context().close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`has text of enough contrast in ${colorScheme}`, async () => {
      const page = await site.open({ colorScheme });
      await ask(page, "Hello.");
      await page.evaluate(() => document.querySelectorAll("details").forEach((node) => (node.open = true)));
      assert.deepEqual(await poorContrast(page), []);
      await page.context().close();
    });
  }

  test("shows an answer's Markdown without letting it do anything", async () => {
    const page = await site.open();
    const requests = site.server.requests.length;
    const result = await page.evaluate(async () => {
      const { Answer } = await import("/www/markdown.js");
      const root = document.createElement("div");
      root.className = "body";
      document.body.append(root);
      const answer = new Answer(root);
      const text = [
        "# Title", "<script>window.hit = 1</script>", '<img src="/x.png?q=1" onerror="window.hit = 1">', "![alt](/y.png?q=1)", '<iframe src="/z?q=1"></iframe>',
        "[bad](javascript:window.hit=1) [data](data:text/html,hi) [rel](/way?q=1) [good](https://example.org/a?b=c) <https://example.org>",
        '<a href="https://example.org" ping="/p" style="position:fixed">raw</a>', "<svg><style>@import '/s.css?q=1'</style></svg>", '<form action="/f"><input name=q></form>',
        "```html", "<b>code</b>", "```", "", "| a | b |", "|---|---|", "| 1 | <u>2</u> |", "", "- [x] done", "", "<style>body{display:none}</style>", '<link rel=prefetch href="/l?q=1"> <meta http-equiv=refresh content="0;url=/m?q=1"> <base href="/b/">',
      ].map((line) => (/^[`|]|code/.test(line) ? `${line}\n` : `${line}\n\n`)).join("");
      for (let end = 1; end <= text.length; end += 7) answer.show(text.slice(0, end));
      answer.show(text);
      await new Promise((resolve) => setTimeout(resolve, 300));
      const whole = root.innerHTML;
      root.replaceChildren();
      const fresh = new Answer(root);
      fresh.show(text);
      return {
        same: whole === root.innerHTML, hit: window.hit,
        tags: [...new Set([...root.querySelectorAll("*")].map((node) => node.localName))],
        links: [...root.querySelectorAll("a")].map((a) => [a.getAttribute("href"), a.target, a.rel, a.textContent]),
        odd: [...root.querySelectorAll("*")].flatMap((node) => node.getAttributeNames()).filter((name) => !["href", "target", "rel", "class", "type", "aria-label", "tabindex", "align", "start"].includes(name)),
      };
    });
    assert.equal(result.same, true, "growing and whole text differ");
    assert.equal(result.hit, undefined);
    for (const tag of ["script", "img", "iframe", "svg", "style", "form", "input", "link", "meta", "base", "u"]) assert.ok(!result.tags.includes(tag), tag);
    assert.deepEqual(result.odd, []);
    assert.deepEqual(result.links, [
      ["https://example.org/a?b=c", "_blank", "noopener noreferrer", "good (example.org/a?b=c)"],
      ["https://example.org", "_blank", "noopener noreferrer", "https://example.org"],
    ]);
    assert.deepEqual(site.server.requests.slice(requests).map(({ url }) => url).filter((url) => url.includes("q=1")), []);
    await page.context().close();
  });
});
