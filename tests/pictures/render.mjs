// Draws what Belay wrote on GitHub as GitHub shows it: each Markdown page, and the list of deployments, as one PNG.
//
//   node render.mjs PAGES PICTURES
//
//   PAGES      a folder with the files of SOURCES
//   PICTURES   an existing folder; gets a picture for each of them
//
// Needs what package-lock.json pins, and Debian's chromium. Nothing is fetched: the browser may open local files only.
// Exit 1 when a file is missing, when a page asks for something that is not here, or when mermaid does not understand a
// diagram; GitHub would show an error there too.

import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Marked } from "marked";
import { chromium } from "playwright-core";

// A page that is higher than `highest` pixels is cut where a section ends.
const SOURCES = [
  { name: "checklist.md" },
  { name: "summary-deployed.md" },
  { name: "summary-rolled-back.md", highest: 2600 },
  { name: "deployments.json" },
];
const WIDTH = 1000;
const SCALE = 1.5;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const modules = path.join(path.dirname(fileURLToPath(import.meta.url)), "node_modules");
const MERMAID = path.join(modules, "mermaid/dist/mermaid.min.js");
const GITHUB_STYLE = path.join(modules, "github-markdown-css/github-markdown-light.css");

const FRAME_STYLE = `
  body { margin: 0; background: #fff; }
  #picture {
    position: relative; box-sizing: border-box; width: ${WIDTH}px; padding: 32px; overflow: hidden;
    border: 1px solid #d1d9e0; border-radius: 6px;
  }
  #picture.cut { border-bottom: 2px dashed #818b98; border-radius: 6px 6px 0 0; }
  .diagram { margin-bottom: 16px; text-align: center; }
  .deployments { padding: 0 !important; margin: 0 !important; list-style: none; }
  .deployments > li { display: flex; gap: 12px; padding: 14px 0; border-top: 1px solid #d1d9e0; }
  .deployments > li:first-child { border-top: 0; }
  .deployments svg { flex: none; margin-top: 4px; }
  .deployments .text { flex: auto; min-width: 0; overflow-wrap: anywhere; }
  .deployments .muted, .deployments time { color: #59636e; font-size: 14px; }
  .deployments time { flex: none; }
  .label { border: 1px solid #d1d9e0; border-radius: 2em; padding: 1px 8px; margin-left: 4px; font-size: 12px; }
`;

// --- HTML ------------------------------------------------------------------------------------------------------------

const escaped = (text) =>
  String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

// What marked does otherwise than GitHub: the classes of task lists, boxes that can be ticked, and diagrams.
const githubRenderer = {
  listitem(item) {
    return item.task && `<li class="task-list-item">${this.parser.parse(item.tokens)}</li>\n`;
  },
  checkbox({ checked }) {
    return `<input type="checkbox" class="task-list-item-checkbox"${checked ? " checked" : ""}> `;
  },
  code({ lang, text }) {
    return lang === "mermaid" && `<div class="diagram">${escaped(text)}</div>\n`;
  },
};

const marked = new Marked({ gfm: true, renderer: githubRenderer });

// --- deployments -----------------------------------------------------------------------------------------------------

const GREY = "#59636e";
const CHECK = "M5 8.2 7.2 10.4 11.2 6";
const CROSS = "M5.5 5.5 10.5 10.5 M10.5 5.5 5.5 10.5";
const DOTS = "M5 8h.01 M8 8h.01 M11 8h.01";
const ICONS = {
  success: ["#1a7f37", CHECK],
  failure: ["#d1242f", CROSS],
  error: ["#d1242f", CROSS],
  inactive: [GREY, CHECK],
  in_progress: ["#9a6700", DOTS],
};

function icon(state) {
  const [colour, shape] = ICONS[state] ?? [GREY, DOTS];
  return (
    `<svg width="20" height="20" viewBox="0 0 16 16"><circle cx="8" cy="8" r="8" fill="${colour}"/>` +
    `<path d="${shape}" fill="none" stroke="#fff" stroke-width="1.8" stroke-linecap="round"/></svg>`
  );
}

const shortRef = ({ ref, sha }) => (ref === sha ? sha.slice(0, 7) : ref);

const shortTime = (time) => `${time.slice(0, 10)} ${time.slice(11, 19)} UTC`;

const lastDescription = (statuses) => statuses.findLast((status) => status.description)?.description ?? "";

// Of a deployment that was replaced, both how it ended and what replaced it.
function deploymentItem(deployment) {
  const { statuses } = deployment;
  const state = statuses.at(-1)?.state ?? "pending";
  const replaced = state === "inactive" ? lastDescription(statuses) : "";
  const ended = lastDescription(statuses.filter((status) => status.state !== "inactive"));
  return `
    <li>
      ${icon(state)}
      <div class="text">
        <strong>${escaped(deployment.environment)}</strong> <code>${escaped(shortRef(deployment))}</code>
        <span class="label">${escaped(deployment.task)}</span> <span class="label">${escaped(state)}</span>
        <div>${escaped(ended)}</div>
        <div class="muted">by ${escaped(deployment.creator)}${replaced && `; ${escaped(replaced)}`}</div>
      </div>
      <time>${escaped(shortTime(deployment.created_at))}</time>
    </li>`;
}

function deploymentsPage(deployments) {
  const newestFirst = deployments.toSorted((a, b) => b.created_at.localeCompare(a.created_at) || b.id - a.id);
  return `<h2>Deployments</h2><ul class="deployments">${newestFirst.map(deploymentItem).join("")}</ul>`;
}

// --- the browser -----------------------------------------------------------------------------------------------------

async function openBrowser() {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  const context = await browser.newContext({
    viewport: { width: WIDTH, height: 800 },
    deviceScaleFactor: SCALE,
    colorScheme: "light",
  });
  await context.route("**/*", (route) =>
    route.request().url().startsWith("file://") ? route.continue() : route.abort(),
  );
  return { browser, context };
}

// Runs in the page. mermaid throws on what it cannot read; what it draws instead of throwing is looked for as well.
async function drawDiagrams() {
  mermaid.initialize({ startOnLoad: false, securityLevel: "strict", suppressErrorRendering: true });
  for (const [index, element] of document.querySelectorAll(".diagram").entries()) {
    const source = element.textContent;
    element.textContent = "";
    const { svg } = await mermaid.render(`diagram-${index}`, source, element);
    element.innerHTML = svg;
    if (!element.querySelector("svg") || element.querySelector('[aria-roledescription="error"], .error-icon')) {
      throw new Error(`mermaid drew an error for: ${source}`);
    }
  }
}

// Runs in the page.
function cutWhenHigher(highest) {
  const picture = document.getElementById("picture");
  if (picture.offsetHeight <= highest) return;
  const sections = [...picture.querySelectorAll("h2, h3")].map((heading) => heading.offsetTop);
  const end = sections.findLast((top) => top > 100 && top <= highest) ?? highest;
  picture.style.height = `${end}px`;
  picture.classList.add("cut");
}

async function takePicture(context, html, highest, file) {
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.setContent(`<!doctype html><article id="picture" class="markdown-body">${html}</article>`);
  await page.addStyleTag({ path: GITHUB_STYLE });
  await page.addStyleTag({ content: FRAME_STYLE });
  await page.addScriptTag({ path: MERMAID });
  await page.evaluate(drawDiagrams);
  if (highest) await page.evaluate(cutWhenHigher, highest);
  await page.locator("#picture").screenshot({ path: file });
  await page.close();
  if (errors.length > 0) throw new Error(errors.join("\n"));
}

// --- main ------------------------------------------------------------------------------------------------------------

async function toHtml(file) {
  const text = await readFile(file, "utf8");
  return file.endsWith(".json") ? deploymentsPage(JSON.parse(text)) : marked.parse(text);
}

async function main(pages, pictures) {
  const { browser, context } = await openBrowser();
  try {
    for (const { name, highest } of SOURCES) {
      const picture = path.join(pictures, `${path.parse(name).name}.png`);
      try {
        await takePicture(context, await toHtml(path.join(pages, name)), highest, picture);
      } catch (error) {
        throw new Error(`${name}: ${error.message}`, { cause: error });
      }
    }
  } finally {
    await browser.close();
  }
}

if (process.argv.length !== 4) {
  console.error("usage: node render.mjs PAGES PICTURES");
  process.exit(2);
}
try {
  await main(process.argv[2], process.argv[3]);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
