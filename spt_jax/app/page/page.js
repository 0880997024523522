// What is on the page, what was chosen, and the way to the program and back.

import { el, series } from "./plot.js";
import { card, short, sure, whole } from "./said.js";

const FIRST = ["OS", "CN", "MBL"]; // in the list; all others stand beside it
const AT_ONCE = 27, BYTES_AT_ONCE = 16e6; // of files in a request: what is done is told in between
const WATCHING_MS = 300, IDLE_MS = 3000;
const MANY = 200, MANY_MS = 1000; // from so many on the list is drawn anew at most so often

const $ = (id) => document.getElementById(id);
const rows = new Map(); // by number, in the order in which they came
let run = null, changed = 0, chosen = null, given = [], meanings = {}, drawn = "", asked = 0, last = 0, later, sought = null;

async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.detail ?? `${answer.status} ${answer.statusText}`);
  }
  return answer.json();
}

function trouble(line) {
  $("trouble").textContent = line;
  $("trouble").hidden = !line;
}

// --- what is new -----------------------------------------------------------------------------------------------------

function take(told) {
  const news = told.filter((row) => JSON.stringify(rows.get(row.number)) !== JSON.stringify(row)); // what was sent is told again
  for (const row of news) rows.set(row.number, row);
  if (!news.length) return;
  const follow = $("follow").querySelector("input").checked;
  const watched = news.filter((row) => row.watched);
  if (chosen === null || !rows.has(chosen)) choose(news[0].number);
  else if (follow && watched.length) choose(watched.at(-1).number);
  else if (news.some((row) => row.number === chosen)) choose(chosen);
}

async function look() {
  let wait = IDLE_MS;
  try {
    const news = await ask(`board?since=${changed}`);
    if (news.run !== run) {
      const first = run === null;
      run = news.run;
      rows.clear();
      chosen = null;
      if (!first || changed) { changed = 0; drawn = ""; return setTimeout(look, 0); }
    }
    changed = news.changed;
    news.gone.forEach((number) => rows.delete(number));
    take(news.rows);
    draw();
    if (news.watch) {
      const { folder, files, trouble: why } = news.watch;
      $("watch").hidden = false;
      $("watch").className = why ? "bad" : "";
      $("watch").textContent = why || `watching ${folder}: ${files} ${files === 1 ? "file" : "files"}`;
      $("follow").hidden = false;
      wait = WATCHING_MS;
    }
    if ($("trouble").dataset.gone) { delete $("trouble").dataset.gone; trouble(""); }
  } catch {
    $("trouble").dataset.gone = "yes";
    trouble("The program does not answer; this page goes on by itself when it is there again.");
  }
  setTimeout(look, wait);
}

// --- what is shown ---------------------------------------------------------------------------------------------------

function draw() {
  clearTimeout(later);
  if (rows.size > MANY && Date.now() - last < MANY_MS) {
    later = setTimeout(draw, MANY_MS);
    return;
  }
  const now = `${changed} ${chosen} ${rows.size} ${$("along").value} ${innerWidth}`;
  if (now === drawn) return;
  drawn = now;
  last = Date.now();
  const all = [...rows.values()].sort((a, b) => a.number - b.number);
  document.querySelector("main").hidden = !all.length;
  if (!all.length) return;
  const bad = all.filter((row) => row.error).length;
  $("count").textContent = `${all.length} ${all.length === 1 ? "spectrum" : "spectra"}${bad ? `, ${bad} without an answer` : ""}`;
  const shown = FIRST.filter((name) => all.some((row) => row.values[name]));
  const head = el("tr", {}, ...["file", "", ...shown].map((name) => el("th", { title: meanings[name]?.meaning }, name)));
  const list = $("rows"), at = list.scrollTop;
  list.replaceChildren(el("table", {}, el("thead", {}, head), el("tbody", {}, ...all.map((row) => line(row, shown)))));
  list.scrollTop = at;
  const own = list.querySelector(".chosen");
  if (own && chosen !== sought) {
    const above = own.offsetTop - list.querySelector("thead").offsetHeight;
    if (above < at || own.offsetTop + own.offsetHeight > at + list.clientHeight) list.scrollTop = above - list.clientHeight / 2;
    sought = chosen;
  }
  drawSeries(all);
}

function line(row, shown) {
  const name = el("td", { class: "name" }, el("button", { type: "button" }, row.name, row.warned ? " ⚠" : ""));
  const made = el("tr", { class: row.number === chosen ? "chosen" : "", onclick: () => choose(row.number, true) }, name);
  if (row.error) made.append(el("td", { class: "bad", colspan: shown.length + 1 }, row.error.replace(`${row.name}: `, "")));
  else {
    made.append(el("td", {}, row.absorber.split(" ")[0]));
    for (const each of shown) {
      const value = row.values[each], p = value ? sure(value) : null;
      made.append(el("td", { class: p !== null && p < 0.5 ? "unsure" : "", title: p === null ? "" : `${Math.round(100 * p)} %` }, value ? short(value) : ""));
    }
  }
  return made;
}

function drawSeries(all) {
  const answered = all.filter((row) => !row.error);
  $("series").hidden = answered.length < 2;
  if (answered.length < 2) return;
  const names = Object.keys(meanings).filter((name) => answered.some((row) => row.values[name]));
  const before = $("along").value;
  if (names.join() !== [...$("along").options].map((option) => option.value).join()) {
    $("along").replaceChildren(...names.map((name) => el("option", { value: name }, `${name}  ${meanings[name].meaning}`)));
    $("along").value = names.includes(before) ? before : names[0];
  }
  const name = $("along").value, unit = meanings[name].unit;
  const each = all.map((row) => ({ number: row.number, name: row.name, value: row.values[name] }));
  const ranged = each.some((one) => one.value?.interval);
  $("alongnote").textContent = ranged ? "Grey: the interval that holds the true value nine times out of ten." : "Dots: the answer. Blue: how likely each value is; the darker, the likelier.";
  $("alongplot").replaceChildren(series(each, chosen, $("alongplot").clientWidth, unit ? `${name}, ${unit}` : name, (number) => choose(number, true)));
}

async function choose(number, byHand = false) {
  chosen = number;
  if (byHand) $("follow").querySelector("input").checked = false;
  const mine = ++asked;
  if (byHand) last = 0;
  draw();
  try {
    const own = await ask(`board/${number}`);
    if (mine !== asked) return; // another was chosen meanwhile
    document.querySelector("main").hidden = false;
    const looked = (name) => ask(`board/${number}/looked?descriptor=${encodeURIComponent(name)}`);
    $("one").replaceChildren(...whole(own, $("one").clientWidth, looked));
  } catch {
    drawn = ""; // it has just gone, or the program has; the next look tells
  }
}

// --- what is given ---------------------------------------------------------------------------------------------------

async function send(files) {
  trouble("");
  const form = new FormData($("settings")), settings = new URLSearchParams();
  for (const [name, value] of form) if (value) settings.set(name, value.replace(",", name === "columns" ? "," : "."));
  $("progress").hidden = false;
  let done = 0;
  while (done < files.length) {
    const body = new FormData();
    let count = 0, bytes = 0;
    while (done + count < files.length && count < AT_ONCE && (!count || bytes + files[done + count].size < BYTES_AT_ONCE)) {
      bytes += files[done + count].size;
      body.append("files", files[done + count++]);
    }
    $("progress").textContent = `reading ${done + 1} to ${done + count} of ${files.length}`;
    try {
      take(await ask(`board?${settings}`, { method: "POST", body }));
      draw();
    } catch (error) {
      trouble(error.message);
      break;
    }
    done += count;
  }
  $("progress").hidden = true;
}

async function give(files) {
  if (!files.length) return trouble("There are no files in it.");
  given.push(...files);
  $("again").disabled = false;
  chosen = null;
  await send(files);
}

async function clear() {
  await ask("board", { method: "DELETE" });
  [...rows.values()].filter((row) => !row.watched).forEach((row) => rows.delete(row.number));
  chosen = null;
  drawn = "";
  draw();
}

// Files in what was dropped, and in folders among it.
async function inside(entry) {
  if (entry.isFile) return [await new Promise((found, failed) => entry.file(found, failed))];
  const reader = entry.createReader(), found = [];
  for (let some; (some = await new Promise((is, failed) => reader.readEntries(is, failed))).length; ) found.push(...some);
  found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  return (await Promise.all(found.filter((one) => one.name[0] !== ".").map(inside))).flat();
}

const area = $("drop");
for (const name of ["dragover", "dragenter"]) document.addEventListener(name, (event) => { event.preventDefault(); area.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) area.classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  area.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  give((await Promise.all(entries.map(inside))).flat());
});
$("files").addEventListener("change", () => { give([...$("files").files]); $("files").value = ""; });
$("again").addEventListener("click", async () => { await clear(); await send(given); });
$("clear").addEventListener("click", async () => { given = []; $("again").disabled = true; await clear(); });
$("along").addEventListener("change", draw);
$("follow").addEventListener("change", () => { const newest = [...rows.values()].filter((row) => row.watched).at(-1); if ($("follow").querySelector("input").checked && newest) choose(newest.number); });
let resizing;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { draw(); if (chosen !== null) choose(chosen); }, 150); });

ask("model").then((model) => {
  meanings = model.descriptors;
  $("model").textContent = model.name;
  $("about").append(` It knows ${model.absorbers.join(", ")}.`);
  $("card").append(...card(model));
  const select = $("settings").elements.element;
  for (const symbol of new Set(model.absorbers.map((absorber) => absorber.split(" ")[0]))) select.append(el("option", {}, symbol));
  look();
}).catch((error) => trouble(error.message));
