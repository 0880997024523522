// What stands beside a spectrum: where the network looked, and the training spectra most like it with their atoms.

import { ballsAndSticks, firstNeighbours, legend } from "./atoms.js";
import { el, shares } from "./plot.js";

let looking = ""; // the descriptor that was asked for last; it stays for the next spectrum

function sentence(found) {
  const total = `${found.change > 0 ? "+" : "−"}${Math.abs(found.change).toFixed(2)}`;
  const [speaks, what] = found.unit === "log-odds" ? [`speaks for ${found.of}, orange against it`, "to its log-odds"] : [`raises ${found.of}, orange lowers it`, `to it in ${found.unit}`];
  const part = found.gap > 0.05 ? `; bars add up to that but for ${Math.round(100 * found.gap)} %` : "";
  const who = found.networks > 1 ? `, mean of ${found.networks} networks` : "";
  return `Blue ${speaks}: what each 2 eV add ${what}, against the mean training spectrum (${total} in all${part}). Integrated gradients${who}: they show what was used, not whether it is right.`;
}

// A choice of descriptor, and bars under the spectrum. ask: descriptor -> its answer.
export function looked(own, width, ask) {
  const names = Object.keys(own.values);
  if (!own.curve || !names.length) return [];
  const choice = el("select", { id: "looked", "aria-label": "descriptor" }, el("option", { value: "" }, "choose a descriptor"), ...names.map((name) => el("option", { value: name }, `${name}  ${own.descriptors[name].meaning}`)));
  const place = el("div", { id: "bars" });
  async function show() {
    const name = choice.value;
    if (!name) return place.replaceChildren();
    if (!place.children.length) place.replaceChildren(el("p", { class: "note" }, "computing; the first time takes some seconds …"));
    try {
      const found = await ask(name);
      if (choice.value !== name) return; // another was chosen meanwhile
      place.replaceChildren(el("figure", {}, shares(own.curve.energy, found, width), el("figcaption", {}, sentence(found))));
    } catch (error) {
      place.replaceChildren(el("p", { class: "bad" }, error.message));
    }
  }
  choice.addEventListener("change", () => { looking = choice.value; show(); });
  choice.value = names.includes(looking) ? looking : "";
  show();
  return [el("div", { class: "bar" }, el("label", {}, "Where the network looked, for ", choice)), place];
}

// The nearest training spectra, one of which is chosen. choose: with it, now and whenever it changes.
export function nearest(own, choose) {
  const absorber = own.absorber.split(" ")[0], picture = el("div", { id: "atoms" });
  const buttons = own.nearest.map((one) => el("button", { type: "button", onclick: () => show(one) }, el("span", {}, one.material), el("span", {}, one.distance.toFixed(3))));
  const about = el("p", { class: "note" });
  function show(chosen) {
    own.nearest.forEach((one, i) => buttons[i].setAttribute("aria-pressed", one === chosen));
    choose(chosen);
    about.textContent = "";
    if (!chosen.atoms) return picture.replaceChildren(el("p", { class: "note" }, "The model does not know the structure of this one."));
    const { atoms } = chosen, far = Math.hypot(...atoms.at(-1).slice(1)).toFixed(1);
    const colours = legend(absorber, atoms).map(([symbol, colour], i) => el("span", {}, el("i", { style: `background: ${colour}`, class: i ? "" : "absorber" }), symbol));
    about.textContent = `${absorber} in ${chosen.material}: ${firstNeighbours(absorber, atoms) || "no bonds"}. The ${atoms.length} nearest atoms, to ${far} Å; drag to turn.`;
    picture.replaceChildren(ballsAndSticks(absorber, atoms), el("p", { class: "legend" }, ...colours));
  }
  const list = el("div", { id: "alike" }, el("p", { class: "note" }, "Distance of the spectra, edge steps:"), ...buttons, about);
  const found = [el("h3", {}, "Most alike among the training spectra"), el("div", { class: "beside" }, picture, list)];
  show(own.nearest.find((one) => one.atoms) ?? own.nearest[0]);
  return found;
}
