// Makes the pictures in docs/images: `node tests/e2e/shots.mjs`, after `cargo xtask build`.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT, ask, stage } from "./page.js";

const images = join(ROOT, "docs", "images");
mkdirSync(images, { recursive: true });
const site = await stage();
try {
  const page = await site.open({ viewport: { width: 1280, height: 1000 }, serviceWorkers: "allow" });
  await page.waitForSelector("html[data-offline]");
  await page.evaluate(() => document.getElementById("settings").setAttribute("open", ""));
  await page.fill("#temperature", "0");
  await page.dispatchEvent("#temperature", "change");
  await page.evaluate(() => document.getElementById("settings").removeAttribute("open"));
  for (const text of ["Hello! Who are you?", "Where do my prompts go?", "What is 47 + 38?", "Make JSON with the keys name and age: age 31, name Nora", "Name three animals", "And the second one?"]) {
    console.log(`${text}\n  ${(await ask(page, text)).replaceAll("\n", "\n  ")}`);
  }
  await page.evaluate(() => (document.getElementById("messages").scrollTop = 0));
  await page.setViewportSize({ width: 1280, height: 1500 });
  await page.screenshot({ path: join(images, "conversation.png") });
} finally {
  await site.close();
}
