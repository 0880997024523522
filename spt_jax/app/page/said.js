// One spectrum in words and pictures. Whatever comes from a file is set as text, never as HTML.

import { looked, nearest } from "./beside.js";
import { el, spectrum } from "./plot.js";

export function short(value) {
  if (Array.isArray(value.value)) return value.value.join(" ") || "none";
  return Number.isInteger(value.value) && !value.interval && value.unit !== "Å" ? `${value.value}` : value.value.toFixed(2);
}

// How sure the answer is: the probability of a class, of the least sure of several elements, nothing of a number.
export function sure(value) {
  const chances = [value.value].flat().map((one) => value.likely[one]);
  return chances.length && chances.every((p) => p !== undefined) ? Math.min(...chances) : null;
}

function words(p) {
  if (p === null) return "";
  return p >= 0.9 ? "very likely" : p >= 0.7 ? "likely" : p >= 0.5 ? "more likely than not" : "unsure";
}

// A number, the interval about it, and all that it could be.
function range(value, [least, most]) {
  const [at, low, high] = [value.value, ...value.interval].map((number) => (100 * (number - least)) / (most - least));
  const drawn = [el("i", { style: `left: ${low}%; width: ${high - low}%` }), el("b", { style: `left: ${at}%` })];
  return [el("div", { class: "range" }, ...drawn), el("div", { class: "ends" }, el("span", {}, least), el("span", {}, most))];
}

function descriptor(name, value, meaning, plausible) {
  const shown = el("div", {}, el("div", { class: "what" }, el("b", {}, name), ` ${meaning}`));
  const unit = value.unit ? ` ${value.unit}` : "";
  const none = Array.isArray(value.value) && !value.value.length;
  const said = el("div", { class: "value" }, short(value) + unit, " ", el("small", {}, none ? "likelier than not" : words(sure(value))));
  shown.append(said);
  const answers = [value.value].flat().map(String);
  const chances = Object.entries(value.likely).sort((a, b) => b[1] - a[1]).slice(0, 5);
  for (const [one, p] of chances) {
    const bar = el("i", { style: `width: ${100 * p}%` });
    shown.append(el("div", { class: `chance${answers.includes(one) ? " it" : ""}` }, el("span", {}, one), bar, el("span", {}, `${Math.round(100 * p)} %`)));
  }
  if (value.interval) {
    const [low, high] = value.interval.map((end) => end.toFixed(2));
    said.append(el("small", {}, `${low} to ${high}`));
    if (plausible) shown.append(...range(value, plausible));
  }
  return shown;
}

function captioned(curve, neighbour) {
  const grey = "Grey: where most training spectra of all elements lie, their mean and two standard deviations.";
  const near = neighbour?.mu ? ` Orange: ${neighbour.material}, chosen below.` : "";
  const band = curve.end?.half ? "; in the pale band lay nine of ten points of calculated spectra" : "";
  const end = curve.end ? ` Dashed: not measured, what the model expects there${band}.` : "";
  return `Blue: the spectrum as the model sees it.${end}${near} ${grey}`;
}

// All of one spectrum, as `shown.whole` gives it, in a place of this width. ask: where the network looked for a descriptor.
export function whole(own, width, ask) {
  const found = [el("h2", {}, own.name, " ", el("small", {}, own.absorber))], figure = el("figure", { id: "curve" });
  const draw = (neighbour) => own.curve && figure.replaceChildren(spectrum(own.curve, neighbour, width), el("figcaption", {}, captioned(own.curve, neighbour)));
  if (own.error) found.push(el("p", { class: "bad" }, own.error));
  for (const warning of own.warnings) found.push(el("p", { class: "warning" }, warning));
  draw();
  if (own.curve) found.push(figure, ...looked(own, width, ask));
  const each = Object.entries(own.values).map(([name, value]) => descriptor(name, value, own.descriptors[name].meaning, own.plausible[name]));
  if (each.length) {
    const about = `Bars: how likely each value is. Grey ranges: they hold the true value ${Math.round(100 * own.coverage)} times in a hundred, of calculated spectra.`;
    found.push(el("h3", {}, "What it says"), el("p", { class: "note" }, about), el("div", { class: "said" }, ...each));
  }
  if (own.nearest.length) found.push(...nearest(own, draw));
  const read = [own.channel && `channel: ${own.channel}`, own.columns && `columns: ${own.columns}`, own.shift ? `energies moved by ${own.shift} eV, as the file or you say` : "", own.times > 1 && `read ${own.times} times while it grew`];
  const notes = [...read.filter(Boolean), ...own.notes];
  if (notes.length) found.push(el("h3", {}, "How it was read"), el("ul", { class: "notes" }, ...notes.map((note) => el("li", {}, note))));
  return found;
}

// The card of a model, for people.
export function card(model) {
  const { about, licence, attribution = [], training_spectra: trained = {}, made_with: made } = model.card;
  if (!about) return [el("p", {}, `${model.name}, a model without a card.`)];
  const counts = Object.entries(trained).map(([absorber, count]) => `${absorber} ${count}`).join(", ");
  const lines = [about, `Training spectra: ${counts}.`, `Licence: ${licence}. ${made}.`, attribution.join("; ")];
  return lines.map((line) => el("p", {}, line));
}
