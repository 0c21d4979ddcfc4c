// What a person does with the page, with the bundled student only.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { answered, ask, openFile, stage } from "./page.js";

describe("the page", () => {
  let site;
  before(async () => (site = await stage()));
  after(() => site.close());

  test("answers with the bundled student after nothing but typing and sending", async () => {
    const page = await site.open({ wait: false });
    // Typed while the student still loads.
    await page.fill("#prompt", "Hello, who are you?");
    await page.press("#prompt", "Enter");
    const text = await answered(page, 1);
    assert.ok(text.trim().length > 0);
    assert.match(await page.locator(".turn.assistant .stats").innerText(), /tokens?, .* tokens\/s, first after/);
    await page.waitForFunction(() => /^[\d,]+ of [\d,]+ tokens/.test(document.getElementById("meter-words").textContent));
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("stops, regenerates, and begins anew", async () => {
    const page = await site.open();
    await page.fill("#prompt", "Tell me a long story.");
    await page.click("#send");
    await page.waitForFunction(() => document.querySelector(".turn.assistant .body")?.textContent || document.querySelector(".thought-text")?.textContent);
    if (await page.locator("#stop").isVisible()) await page.click("#stop", { timeout: 2000 }).catch(() => {});
    await answered(page, 1);
    await page.click("#regenerate");
    await answered(page, 1);
    assert.equal(await page.locator(".turn.user").count(), 1);
    assert.equal(await page.locator("#regenerate").count(), 1);
    await page.click("#new-chat");
    assert.equal(await page.locator(".turn").count(), 0);
    await page.click("text=Bring the last one back");
    await page.locator(".turn").nth(1).waitFor();
    assert.equal(await page.locator(".turn").count(), 2);
    await page.context().close();
  });

  test("keeps chat, draft and settings over a reload", async () => {
    const page = await site.open();
    const said = await ask(page, "Remember this.");
    await page.evaluate(() => (document.getElementById("settings").open = true));
    await page.fill("#temperature", "0");
    await page.fill("#system", "Be brief.");
    await page.fill("#prompt", "half a thought");
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    assert.equal(await page.locator(".turn.user .body").innerText(), "Remember this.");
    assert.equal((await page.locator(".turn.assistant .body").innerText()).trim(), said.trim());
    assert.equal(await page.inputValue("#prompt"), "half a thought");
    assert.equal(await page.inputValue("#temperature"), "0");
    assert.equal(await page.inputValue("#system"), "Be brief.");
    await page.context().close();
  });

  test("knows after a reload what it has read, until a new chat is begun", async () => {
    const page = await site.open();
    await ask(page, "Remember this.");
    const kept = () => page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const names = [];
      try {
        for await (const name of (await root.getDirectoryHandle("conversations", { create: true })).keys()) if (/^[0-9a-f]{64}$/.test(name)) names.push(name);
      } catch {
        return -1; // The page clears the folder just now.
      }
      return names.length;
    });
    const wait = async (count) => {
      for (let tries = 0; (await kept()) !== count; tries++) {
        assert.ok(tries < 300, `${count} conversations are kept`);
        await page.waitForTimeout(200);
      }
    };
    await wait(1);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    // The page's own next question, which waits until what was read is back: what it was told of it.
    await page.evaluate(() => {
      const { completions } = window.understudy.student.chat;
      const { create } = completions;
      completions.create = (...args) => {
        const stream = create(...args);
        const chunks = async function* () {
          for await (const chunk of stream) {
            if (chunk.usage) window.usage = chunk.usage;
            yield chunk;
          }
        };
        return { stop: () => stream.stop(), [Symbol.asyncIterator]: chunks };
      };
    });
    await ask(page, "And this.");
    const { cached_tokens: cached, prompt_tokens: all } = await page.evaluate(() => window.usage);
    assert.ok(cached > all / 2, `${cached} of ${all} tokens were known`);
    await page.click("#new-chat");
    await wait(0);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("takes the types of the cache, and says when the context is full", async () => {
    const page = await site.open();
    const said = await page.evaluate(async () => {
      const { Understudy } = window.understudy;
      const all = [];
      for (const cache of ["f32", "f16", "q8"]) {
        const student = await Understudy.load("students/understudy-pip.gguf", { context: 128, cache });
        const body = { messages: [{ role: "user", content: "Hello! Who are you?" }], temperature: 0, max_tokens: 16 };
        const first = await student.chat.completions.create(body);
        const state = await student.saveState();
        const again = await student.chat.completions.create(body);
        const restored = await student.restoreState(state);
        const full = await student.chat.completions.create({ ...body, max_tokens: undefined, ignore_eos: true });
        const torn = await student.restoreState(state.slice(1)).catch(({ code }) => code);
        const { words, cache_type, cache_bytes } = student.info();
        all.push({ text: first.choices[0].message, same: again.choices[0].message, restored, used: first.context.used, full: [full.choices[0].finish_reason, full.context], torn, words, cache_type, cache_bytes });
        await student.close();
      }
      return { all, refused: await Understudy.load("students/understudy-pip.gguf", { cache: "q4" }).catch(({ code }) => code) };
    });
    for (const { text, same, restored, used, full, torn, words, cache_type } of said.all) {
      assert.deepEqual(same, text);
      assert.equal(restored, used);
      assert.deepEqual(full, ["length", { used: 127, size: 128 }]);
      assert.equal(torn, "state");
      assert.ok(words.includes(`for 128 tokens in ${cache_type}`), words);
    }
    assert.deepEqual(said.all.map(({ cache_type }) => cache_type), ["f32", "f16", "q8"]);
    assert.ok(said.all[0].cache_bytes === 2 * said.all[1].cache_bytes && said.all[1].cache_bytes > said.all[2].cache_bytes);
    assert.equal(said.refused, "bad-request");
    // In the page: a context that the first answer fills.
    await page.evaluate(() => (document.getElementById("settings").open = true));
    await page.fill("#temperature", "0");
    await page.fill("#context", "64");
    await page.press("#context", "Tab");
    await page.waitForFunction(() => window.understudy.student.info().context === 64);
    await ask(page, "Tell me a story about a fox named Mia.");
    await page.waitForSelector('.notice[data-code="context-full"]');
    await page.context().close();
  });

  test("makes no request during a chat, and chats on when the server is gone", async () => {
    const own = await stage();
    const page = await own.open();
    await ask(page, "One.");
    await page.waitForTimeout(1000);
    const requests = own.server.requests.length;
    const connections = own.server.connections;
    await ask(page, "Two.");
    await page.waitForTimeout(500);
    assert.deepEqual(own.server.requests.slice(requests), []);
    assert.equal(own.server.connections, connections);
    assert.equal(await page.locator("#requests-count").textContent(), "0");
    assert.equal(await page.locator("#bytes-sent").textContent(), "0");
    await own.server.close();
    assert.ok((await ask(page, "Three, alone.")).length > 0);
    await own.browser.close();
  });

  test("gives a prompt back that is longer than the context, with a clear error", async () => {
    const page = await site.open();
    await ask(page, "A first message.");
    const size = await page.evaluate(() => window.understudy.student.info().context);
    const long = "word and another ".repeat(size).trim();
    await page.fill("#prompt", long);
    await page.click("#send");
    await page.waitForSelector('.notice[data-code="prompt-too-long"]');
    assert.match(await page.locator('.notice[data-code="prompt-too-long"]').innerText(), /\d+ tokens.*context.*(Shorten|new chat)/s);
    assert.equal(await page.inputValue("#prompt"), long);
    assert.equal(await page.locator(".turn").count(), 2);
    await page.fill("#prompt", "");
    await ask(page, "Short again.");
    await page.context().close();
  });

  test("gives a prompt back whose settings cannot be served", async () => {
    const page = await site.open();
    await page.evaluate(() => (document.getElementById("settings").open = true));
    await page.fill("#temperature", "-1");
    await page.fill("#prompt", "Keep me.");
    await page.click("#send");
    await page.waitForSelector('.notice[data-code="bad-request"]');
    assert.equal(await page.inputValue("#prompt"), "Keep me.");
    await page.context().close();
  });

  test("answers two generations that are asked for at once one after the other", async () => {
    const page = await site.open();
    const log = await page.evaluate(async () => {
      const { student } = window.understudy;
      const order = [];
      const run = async (name) => {
        for await (const chunk of student.chat.completions.create({ messages: [{ role: "user", content: name }], max_tokens: 12, temperature: 0.7, stream: true })) {
          order.push(chunk.choices[0].finish_reason ? `${name} end` : name);
        }
      };
      await Promise.all([run("first"), run("second")]);
      return order;
    });
    const end = log.indexOf("first end");
    assert.ok(end > 0 && log.length > end + 1, log.join());
    assert.ok(log.slice(0, end).every((name) => name === "first"), log.join());
    assert.ok(log.slice(end + 1).every((name) => name.startsWith("second")), log.join());
    await page.context().close();
  });

  test("takes back a queued and a running generation by AbortSignal, with a typed error", async () => {
    const page = await site.open();
    const codes = await page.evaluate(async () => {
      const { student } = window.understudy;
      const body = { messages: [{ role: "user", content: "Count to a hundred." }], max_tokens: 64 };
      const running = new AbortController();
      const queued = new AbortController();
      const code = (error) => `${error.name} ${error.code}`;
      const stream = student.chat.completions.create({ ...body, stream: true, signal: running.signal });
      const one = (async () => {
        for await (const _ of stream) running.abort();
      })().then(() => "ended", code);
      const two = student.chat.completions.create(body, { signal: queued.signal }).then(() => "ended", code);
      queued.abort();
      const three = await student.chat.completions.create({ ...body, max_tokens: 2 });
      const four = await student.chat.completions.create({ ...body, tools: [{}] }).then(() => "ended", code);
      return [await one, await two, three.choices[0].finish_reason, four];
    });
    assert.deepEqual(codes.slice(0, 2), ["UnderstudyError aborted", "UnderstudyError aborted"]);
    assert.ok(["length", "stop"].includes(codes[2]));
    assert.equal(codes[3], "UnderstudyError bad-request");
    await page.context().close();
  });

  test("speaks the shapes of chat completions", async () => {
    const page = await site.open();
    const { whole, chunks, text } = await page.evaluate(async () => {
      const { student } = window.understudy;
      const body = { messages: [{ role: "user", content: "Hello." }], temperature: 0, max_tokens: 16 };
      const whole = await student.chat.completions.create(body);
      const chunks = [];
      for await (const chunk of await student.chat.completions.create({ ...body, stream: true })) chunks.push(chunk);
      return { whole, chunks, text: chunks.map((c) => c.choices[0].delta.content ?? "").join("") };
    });
    assert.equal(whole.object, "chat.completion");
    assert.equal(whole.choices[0].message.role, "assistant");
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
    assert.equal(text, whole.choices[0].message.content);
    assert.ok(chunks.every((chunk) => chunk.object === "chat.completion.chunk"));
    assert.equal(chunks.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason);
    assert.equal(chunks.at(-1).usage.completion_tokens, whole.usage.completion_tokens);
    await page.context().close();
  });

  test("answers in the form that response_format asks for", async () => {
    const page = await site.open();
    const said = await page.evaluate(async () => {
      const { student } = window.understudy;
      const schema = {
        type: "object",
        properties: { name: { type: "string", maxLength: 12 }, age: { type: "integer", minimum: 0, maximum: 120 } },
        required: ["name", "age"],
        additionalProperties: false,
      };
      const body = { messages: [{ role: "user", content: "Make JSON with the keys name and age: age 31, name Nora" }], temperature: 0 };
      const create = (response_format, more) =>
        student.chat.completions.create({ ...body, response_format, ...more }).then(
          ({ choices: [{ message, finish_reason }] }) => ({ text: message.content, finish_reason }),
          ({ code, hint }) => ({ code, hint }),
        );
      const form = { type: "json_schema", json_schema: { name: "person", schema } };
      return {
        json: await create(form),
        cut: await create(form, { max_tokens: 3 }),
        regex: await create({ type: "regex", regex: "[0-9]{3}-(north|south)" }),
        grammar: await create({ type: "grammar", grammar: 'start: ("yes" | "no") "!"' }),
        refused: await create({ type: "json_schema", json_schema: { schema: { type: "array", uniqueItems: true } } }),
        unknown: await create({ type: "xml" }),
      };
    });
    assert.equal(said.json.finish_reason, "stop");
    const { name, age, ...rest } = JSON.parse(said.json.text);
    assert.ok(typeof name === "string" && name.length <= 12 && Number.isInteger(age) && age >= 0 && age <= 120);
    assert.deepEqual(rest, {});
    assert.equal(said.cut.finish_reason, "length");
    assert.match(said.regex.text, /^[0-9]{3}-(north|south)$/);
    assert.match(said.grammar.text, /^(yes|no)!$/);
    for (const refused of [said.refused, said.unknown]) {
      assert.equal(refused.code, "format");
      assert.ok(refused.hint.length > 0);
    }
    await page.context().close();
  });

  test("serves penalties, biases, typical-p and DRY, and refuses what is out of range by name", async () => {
    const page = await site.open();
    const said = await page.evaluate(async () => {
      const { student } = window.understudy;
      const body = { messages: [{ role: "user", content: "Hello." }], temperature: 0, max_tokens: 12, ignore_eos: true };
      const create = (more) => student.chat.completions.create({ ...body, ...more }).then(({ ids }) => ids, ({ code, message }) => `${code}: ${message}`);
      const [a] = await student.tokenize(" the");
      const free = await create({});
      return {
        a, free,
        forced: await create({ logit_bias: { [a]: 100 } }),
        banned: await create({ logit_bias: { [free[0]]: -100 } }),
        penalized: await create({ logit_bias: { [a]: 30 }, frequency_penalty: 2, presence_penalty: 2, repetition_penalty: 2, repeat_last_n: -1 }),
        dry: await create({ logit_bias: { [a]: 30 }, dry_multiplier: 50, dry_sequence_breakers: [] }),
        typical: await create({ temperature: 1, seed: 3, typical_p: 0.5 }),
        again: await create({ temperature: 1, seed: 3, typical_p: 0.5 }),
        refused: [
          await create({ repeat_penalty: 0 }), await create({ frequency_penalty: 3 }), await create({ presence_penalty: -3 }), await create({ typical_p: 2 }),
          await create({ repeat_last_n: -2 }), await create({ dry_base: 0 }), await create({ dry_allowed_length: 0 }), await create({ logit_bias: { [a]: 101 } }),
          await create({ logit_bias: { the: 1 } }), await create({ n: 0 }), await create({ top_logprobs: 3 }), await create({ logprobs: true, top_logprobs: 21 }),
        ],
        after: await create({}),
      };
    });
    assert.ok(said.forced.length === 12 && said.forced.every((id) => id === said.a), said.forced.join());
    assert.ok(!said.banned.includes(said.free[0]));
    const count = (ids) => ids.filter((id) => id === said.a).length;
    assert.ok(count(said.penalized) < 12, said.penalized.join());
    assert.ok(count(said.dry) < 12, said.dry.join());
    assert.deepEqual(said.typical, said.again);
    const names = ["repeat_penalty", "frequency_penalty", "presence_penalty", "typical_p", "repeat_last_n", "dry_base", "dry_allowed_length", "logit_bias", "logit_bias", "n is", "top_logprobs", "top_logprobs"];
    for (const [i, name] of names.entries()) assert.ok(said.refused[i].startsWith("bad-request") && said.refused[i].includes(name), said.refused[i]);
    assert.deepEqual(said.after, said.free, "nothing is left behind");
    await page.context().close();
  });

  test("tells log-probabilities in both shapes, whole and streamed", async () => {
    const page = await site.open();
    const { whole, streamed, text, ids, pieces } = await page.evaluate(async () => {
      const { student } = window.understudy;
      const body = { messages: [{ role: "user", content: "Hello." }], temperature: 0, max_tokens: 8, logprobs: true, top_logprobs: 2 };
      const whole = await student.chat.completions.create(body);
      const streamed = [];
      for await (const { choices: [{ logprobs }] } of student.chat.completions.create({ ...body, stream: true })) streamed.push(...(logprobs?.content ?? []));
      const raw = { prompt: "Once upon a time", temperature: 0, max_tokens: 6, logprobs: 3, ignore_eos: true };
      const text = await student.completions.create(raw);
      const pieces = [];
      for await (const { choices: [{ logprobs }] } of student.completions.create({ ...raw, stream: true })) pieces.push(...(logprobs?.text_offset ?? []));
      return { whole: whole.choices[0], ids: whole.ids, streamed, text: text.choices[0], pieces };
    });
    const { content } = whole.logprobs;
    assert.ok(content.length > 0 && content.length <= ids.length && content.length >= ids.length - 1);
    assert.deepEqual(streamed.map(({ bytes }) => bytes), content.map(({ bytes }) => bytes));
    // The second time the prompt was in the cache, and its last token ran by itself: sums are rounded in another order.
    for (const [i, { logprob }] of streamed.entries()) assert.ok(Math.abs(logprob - content[i].logprob) < 1e-3);
    for (const { token, bytes, logprob, top_logprobs } of content) {
      // Greedy: the drawn token is the likeliest.
      assert.equal(top_logprobs.length, 2);
      assert.equal(top_logprobs[0].logprob, logprob);
      assert.deepEqual(top_logprobs[0].bytes, bytes);
      assert.ok(logprob <= 0 && top_logprobs[1].logprob <= logprob);
      assert.equal(new TextDecoder().decode(new Uint8Array(bytes)), token);
    }
    assert.equal(content.map(({ token }) => token).join("").trim(), whole.message.content.trim());
    const { tokens, token_logprobs, top_logprobs, text_offset } = text.logprobs;
    // Control tokens have a name, and no place in the text.
    const visible = tokens.map((token) => (/^<\|.*\|>$/.test(token) ? "" : token));
    assert.equal(visible.join(""), text.text);
    assert.equal(tokens.length, 6);
    for (const [i, token] of tokens.entries()) {
      assert.equal(Object.keys(top_logprobs[i]).length, 3);
      assert.equal(top_logprobs[i][token], token_logprobs[i]);
      assert.equal(text_offset[i], [...visible.slice(0, i).join("")].length);
    }
    assert.deepEqual(pieces, text_offset);
    await page.context().close();
  });

  test("gives n choices, each of its own seed, from one prompt", async () => {
    const page = await site.open();
    const { many, single, chunks } = await page.evaluate(async () => {
      const { student } = window.understudy;
      const body = { messages: [{ role: "user", content: "Tell me a story." }], temperature: 1.2, seed: 4294967295, max_tokens: 10, ignore_eos: true };
      const many = await student.chat.completions.create({ ...body, n: 3 });
      const single = [];
      for (const seed of [4294967295, 0, 1]) single.push((await student.chat.completions.create({ ...body, seed })).choices[0].message.content);
      const chunks = [];
      for await (const chunk of student.chat.completions.create({ ...body, n: 2, stream: true })) chunks.push(chunk);
      return { many, single, chunks };
    });
    assert.deepEqual(many.choices.map(({ index }) => index), [0, 1, 2]);
    assert.deepEqual(many.choices.map(({ message }) => message.content), single);
    assert.equal(many.usage.completion_tokens, 30);
    assert.equal(many.usage.total_tokens, many.usage.prompt_tokens + 30);
    assert.equal(many.ids.length, 30);
    const text = (k) => chunks.filter(({ choices: [{ index }] }) => index === k).map(({ choices: [{ delta }] }) => delta.content ?? "").join("");
    assert.deepEqual([text(0), text(1)], single.slice(0, 2));
    const order = chunks.map(({ choices: [{ index }] }) => index);
    assert.deepEqual(order, [...order].sort());
    assert.equal(chunks.filter(({ choices: [{ finish_reason }] }) => finish_reason === "length").length, 2);
    assert.equal(chunks.filter(({ usage }) => usage).length, 1);
    assert.equal(chunks.at(-1).usage.completion_tokens, 20);
    await page.context().close();
  });

  test("shows the prompt to the letter, and says where a template leaves tools out", async () => {
    const page = await site.open();
    const { prompt, count, ids, refused } = await page.evaluate(async () => {
      const { student } = window.understudy;
      const messages = [{ role: "user", content: "Hello." }];
      const tools = [{ type: "function", function: { name: "now" } }];
      const prompt = await student.prompt(messages);
      return {
        prompt, count: await student.count(messages), ids: (await student.tokenize(prompt, { parse_special: true })).length,
        refused: await student.chat.completions.create({ messages, tools }).then(() => "", ({ code, message }) => `${code}: ${message}`),
      };
    });
    assert.match(prompt, /<\|im_start\|>user\nHello\.<\|im_end\|>\n<\|im_start\|>assistant\n/);
    assert.equal(ids, count);
    assert.match(refused, /^bad-request: .*leaves tools out/);
    await page.context().close();
  });

  test("calls tools: forced calls, their results, and calls told apart from text", async () => {
    const page = await site.open();
    const said = await page.evaluate(async () => {
      const { Understudy } = window.understudy;
      // The bundled student with a template that knows tools, in the place of its own.
      const bytes = new Uint8Array(await (await Understudy.blob("students/understudy-pip.gguf")).arrayBuffer());
      const key = new TextEncoder().encode("tokenizer.chat_template");
      const found = bytes.findIndex((_, i) => key.every((byte, j) => bytes[i + j] === byte));
      const at = found + key.length + 4;
      const length = Number(new DataView(bytes.buffer).getBigUint64(at, true));
      const template = `{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}`
        + `{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n`
        + `{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{# `;
      bytes.set(new TextEncoder().encode(template.padEnd(length - 2) + "#}"), at + 8);
      const student = await Understudy.load(new Blob([bytes]), { context: 512 });
      const tools = [{ type: "function", function: { name: "get_weather", parameters: {
        type: "object", properties: { place: { enum: ["Bern", "Oslo"] } }, required: ["place"], additionalProperties: false } } }];
      const messages = [{ role: "user", content: "What is the weather?" }];
      const body = { messages, tools, temperature: 0, max_tokens: 40 };
      const whole = await student.chat.completions.create({ ...body, tool_choice: "required" });
      const chunks = [];
      for await (const chunk of student.chat.completions.create({ ...body, tool_choice: { type: "function", function: { name: "get_weather" } }, stream: true })) chunks.push(chunk.choices[0]);
      const { message } = whole.choices[0];
      const prompt = await student.prompt([...messages, message, { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" }], { tools });
      const mixed = { type: "regex", regex: 'I look\\. <tool_call>\\{"name": "get_weather", "arguments": \\{"place": "Oslo"\\}\\}</tool_call>' };
      const told = await student.chat.completions.create({ ...body, response_format: mixed, max_tokens: 100 });
      const none = await student.chat.completions.create({ ...body, response_format: mixed, max_tokens: 100, tool_choice: "none" });
      const refused = await student.chat.completions.create({ ...body, tool_choice: "always" }).then(() => "", ({ code, message }) => `${code}: ${message}`);
      await student.close();
      return { whole: whole.choices[0], chunks, prompt, told: told.choices[0], none: none.choices[0], refused };
    });
    const { message, finish_reason } = said.whole;
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.content, null);
    const [{ id, type, function: { name, arguments: text } }] = message.tool_calls;
    assert.deepEqual([id, type, name], ["call00000", "function", "get_weather"]);
    assert.ok(["Bern", "Oslo"].includes(JSON.parse(text).place));
    const calls = said.chunks.flatMap(({ delta }) => delta.tool_calls ?? []);
    assert.deepEqual(calls, [{ index: 0, ...message.tool_calls[0] }]);
    assert.equal(said.chunks.map(({ delta }) => delta.content ?? "").join(""), "");
    assert.equal(said.chunks.at(-1).finish_reason, "tool_calls");
    assert.ok(said.prompt.includes(`<tool_call>\n{"name": "get_weather", "arguments": {"place": "${JSON.parse(text).place}"}}\n</tool_call>`), said.prompt);
    assert.ok(said.prompt.includes("<|im_start|>tool\nsunny"), said.prompt);
    assert.deepEqual([said.told.message.content, said.told.finish_reason], ["I look.", "tool_calls"]);
    assert.equal(JSON.parse(said.told.message.tool_calls[0].function.arguments).place, "Oslo");
    assert.deepEqual([said.none.message.tool_calls, said.none.finish_reason], [undefined, "stop"]);
    assert.match(said.none.message.content, /<tool_call>/);
    assert.match(said.refused, /^bad-request: .*tool_choice/);
    await page.context().close();
  });

  test("loads a student for another page through Understudy.load", async () => {
    const page = await site.open();
    const info = await page.evaluate(async () => {
      const seen = [];
      const student = await window.understudy.Understudy.load("students/understudy-pip.gguf", { context: 128, onProgress: ({ phase }) => seen.push(phase) });
      const { context, vocabulary } = student.info();
      const rows = (await student.logits([0, 1])).length;
      await student.close();
      const after = await student.logits([0]).then(() => "open", (error) => error.code);
      return { context, vocabulary, rows, after, phases: [...new Set(seen)] };
    });
    assert.equal(info.context, 128);
    assert.equal(info.rows, 2 * info.vocabulary);
    assert.equal(info.after, "no-student");
    for (const phase of ["engine", "download", "weights"]) assert.ok(info.phases.includes(phase), info.phases.join());
    await page.context().close();
  });

  test("works when storage is blocked, and says that nothing is kept", async () => {
    const page = await site.open({
      prepare: (page) => page.addInitScript(() => {
        StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException("blocked", "SecurityError"));
        Object.defineProperty(window, "localStorage", { get() { throw new DOMException("blocked", "SecurityError"); } });
      }),
    });
    assert.ok((await ask(page, "Hello.")).length > 0);
    assert.match(await page.locator("#students-words").innerText(), /storage is blocked/);
    // A file of one's own: opened, used, and said not to be kept.
    const bytes = await page.evaluate(async () => Array.from(new Uint8Array(await (await window.understudy.Understudy.blob("students/understudy-pip.gguf")).arrayBuffer())));
    assert.equal(await openFile(page, { name: "mine.gguf", mimeType: "application/octet-stream", buffer: Buffer.from(bytes) }), "");
    await page.waitForSelector('.notice[data-code="not-kept"]');
    await ask(page, "Still there?");
    await page.context().close();
  });

  test("works when storage is full, and says that a student is not kept", async () => {
    const page = await site.open();
    const devtools = await page.context().newCDPSession(page);
    const bytes = await page.evaluate(async () => Array.from(new Uint8Array(await (await window.understudy.Understudy.blob("students/understudy-pip.gguf")).arrayBuffer())));
    const { usage } = await page.evaluate(() => navigator.storage.estimate());
    // Room for less than half of the file.
    await devtools.send("Storage.overrideQuotaForOrigin", { origin: site.server.origin, quotaSize: Math.ceil(usage + bytes.length / 2) });
    assert.equal(await openFile(page, { name: "mine.gguf", mimeType: "application/octet-stream", buffer: Buffer.from(bytes) }), "");
    await page.waitForSelector('.notice[data-code="not-kept"]');
    assert.ok((await ask(page, "Hello.")).length > 0);
    assert.ok(!(await page.locator("#students").innerText()).includes("mine.gguf"), "half a file is not listed");
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("keeps an opened student, opens it again after a reload, and deletes it", async () => {
    const page = await site.open();
    const bytes = await page.evaluate(async () => Array.from(new Uint8Array(await (await window.understudy.Understudy.blob("students/understudy-pip.gguf")).arrayBuffer())));
    const file = { name: "mine.gguf", mimeType: "application/octet-stream", buffer: Buffer.from(bytes) };
    assert.equal(await openFile(page, file), "");
    await page.waitForSelector('#students [aria-label="Delete mine.gguf"]');
    assert.equal(await openFile(page, file), "", "the same file again takes the place of its copy");
    await page.waitForFunction(() => document.querySelector("#students li[aria-current]")?.textContent.includes("mine.gguf"));
    await page.waitForSelector('#students [aria-label="Delete mine.gguf"]');
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await page.waitForFunction(() => document.querySelector("#students li[aria-current]")?.textContent.includes("mine.gguf"));
    await ask(page, "Hello.");
    await page.click('#students [aria-label="Delete mine.gguf"]');
    await page.waitForFunction(() => !document.getElementById("students").textContent.includes("mine.gguf"));
    await ask(page, "Still open?");
    await page.context().close();
  });

  test("opens a file that is dropped on it", async () => {
    const page = await site.open();
    await page.evaluate(async () => {
      window.before = window.understudy.student;
      const blob = await window.understudy.Understudy.blob("students/understudy-pip.gguf");
      const data = new DataTransfer();
      data.items.add(new File([blob], "dropped.gguf"));
      document.body.dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    });
    await page.waitForFunction(() => window.understudy.student !== window.before);
    assert.equal(await page.locator("#drop").isVisible(), false);
    await page.context().close();
  });

  test("survives a lost device: a notice, the same student, and the chat goes on", async () => {
    const page = await site.open();
    await ask(page, "Before.");
    await page.evaluate(() => window.understudy.student.destroyDevice());
    await ask(page, "After.");
    await page.waitForSelector('.notice[data-code="device-lost"]');
    assert.match(await page.locator("#notices").innerText(), /student is loaded again/);
    // And in the middle of an answer: it goes on from where it was, and comes out whole.
    await page.fill("#prompt", "Tell me a story.");
    await page.click("#send");
    await page.waitForFunction(() => document.querySelectorAll(".turn.assistant").length === 3 && [...[...document.querySelectorAll(".turn.assistant")].at(-1).querySelectorAll(".body, .thought-text")].some((node) => node.textContent));
    await page.evaluate(() => window.understudy.student.destroyDevice());
    const text = await answered(page, 3);
    assert.ok(text.trim().length > 0);
    assert.equal(await page.locator(".turn.assistant .stats").last().innerText().then((words) => words.includes("broke off")), false);
    assert.ok((await ask(page, "And once more.")).length > 0);
    await page.context().close();
  });

  test("takes the CPU engine where there is no WebGPU, and says so", async () => {
    const page = await site.open({ hash: "#gpu=off" });
    assert.equal(await page.locator("#device").getAttribute("data-kind"), "cpu");
    assert.match(await page.locator("#device").innerText(), /CPU engine has taken over/);
    assert.ok((await ask(page, "Hello.")).length > 0);
    await page.context().close();
  });
});

test("the CPU engine takes over in a browser without WebGPU", async () => {
  const site = await stage({ flags: ["--disable-features=WebGPU", "--disable-gpu"] });
  const page = await site.open();
  const gpu = await page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
  if (!gpu) assert.equal(await page.locator("#device").getAttribute("data-kind"), "cpu");
  assert.ok((await ask(page, "Hello.")).length > 0);
  await site.close();
});
