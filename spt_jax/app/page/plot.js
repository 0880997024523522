// Pictures as SVG, as wide as their place: letters keep their size on a telephone.

const INK = "#222", BLUE = "#1f6f9f", ORANGE = "#d9822b", GREY = "#b8b8b8", BAND = "#ececec", PALE = "#cfe3ee";
const LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 38;

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Numbers worth a tick, some `count` of them, between low and high.
function ticks(low, high, count, whole = false) {
  const raw = (high - low) / count || 1, size = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].find((factor) => factor * size >= raw) * size;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(10));
  return found;
}

// An empty picture with its axes, and where a number lies in it. y: {low, high} or {names}, from below.
function axes(width, height, x, y, xLabel, yLabel, name) {
  const inner = [width - LEFT - RIGHT, height - TOP - BOTTOM];
  const along = (value) => LEFT + (inner[0] * (value - x.low)) / (x.high - x.low || 1);
  const up = (value) => TOP + inner[1] * (1 - (value - y.low) / (y.high - y.low || 1));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name });
  const foot = TOP + inner[1];
  picture.append(svg("path", { d: `M${LEFT} ${TOP}V${foot}H${width - RIGHT}`, fill: "none", stroke: GREY }));
  for (const value of ticks(x.low, x.high, inner[0] / 80, x.whole)) {
    picture.append(svg("path", { d: `M${along(value)} ${foot}v4`, stroke: GREY }));
    picture.append(svg("text", { x: along(value), y: foot + 17, "text-anchor": "middle" }, `${value}`));
  }
  const marks = y.names ? y.names.map((name, i) => [i, name]) : ticks(y.low, y.high, Math.max(4, inner[1] / 40), y.whole).map((v) => [v, v]);
  for (const [value, name] of marks) {
    picture.append(svg("path", { d: `M${LEFT - 4} ${up(value)}h4`, stroke: GREY }));
    picture.append(svg("text", { x: LEFT - 7, y: up(value) + 4, "text-anchor": "end" }, `${name}`));
  }
  picture.append(svg("text", { x: LEFT + inner[0] / 2, y: height - 4, "text-anchor": "middle" }, xLabel));
  picture.append(svg("text", { transform: `translate(11 ${TOP + inner[1] / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return { picture, along, up };
}

// A spectrum as the model sees it, over where most training spectra lie, and what it expects beyond the last point;
// neighbour: the training spectrum to compare it with, if any.
export function spectrum(curve, neighbour, width) {
  const { energy, end } = curve, known = curve.mu.filter((value) => value !== null), from = known.length;
  const half = end?.half ?? [], low0 = end ? end.mu.map((v, i) => v - (half[i] ?? 0)) : [], high0 = end ? end.mu.map((v, i) => v + (half[i] ?? 0)) : [];
  const high = Math.max(...known, ...curve.high, ...high0), low = Math.min(0, ...known, ...low0);
  const { picture, along, up } = axes(
    width, Math.min(300, 0.75 * width + 40), { low: energy[0], high: energy.at(-1) }, { low, high: 1.04 * high },
    "eV above the reference energy", "mu, edge steps", "the spectrum",
  );
  const points = (values, start = 0) => values.map((v, i) => `${along(energy[start + i]).toFixed(1)} ${up(v).toFixed(1)}`);
  const line = (values, start) => `M${points(values, start).join("L")}`;
  const band = (under, over, start) => `${line(over, start)}L${points(under, start).reverse().join("L")}Z`;
  const clipped = (values) => values.map((value) => Math.max(value, low));
  picture.append(svg("path", { d: band(clipped(curve.low), clipped(curve.high)), fill: BAND }));
  if (end) {
    if (end.half) picture.append(svg("path", { d: band(low0, high0, from), fill: PALE, opacity: 0.8, class: "doubt" }));
    const joined = line([known.at(-1), ...end.mu], from - 1);
    picture.append(svg("path", { d: joined, fill: "none", stroke: BLUE, "stroke-width": 1.6, "stroke-dasharray": "5 4", class: "expected" }));
  }
  if (neighbour?.mu) picture.append(svg("path", { d: line(neighbour.mu), fill: "none", stroke: ORANGE, "stroke-width": 1.3, class: "neighbour" }));
  picture.append(svg("path", { d: line(known), fill: "none", stroke: BLUE, "stroke-width": 2, "stroke-linejoin": "round" }));
  return picture;
}

// What each 2 eV add to an answer, on the energy axis of the spectrum.
export function shares(energy, found, width) {
  const step = energy[1] - energy[0], count = Math.max(1, Math.round(2 / step)), height = 150, bars = [];
  for (let i = 0; i < energy.length; i += count) bars.push([energy[i] - step / 2, found.values.slice(i, i + count).reduce((sum, one) => sum + one, 0)]);
  const most = Math.max(...bars.map(([, value]) => Math.abs(value))) || 1;
  const { picture, along, up } = axes(
    width, height, { low: energy[0], high: energy.at(-1) }, { low: -1.05 * most, high: 1.05 * most },
    "eV above the reference energy", found.unit, `where the network looked for ${found.of}`,
  );
  for (const [start, value] of bars) {
    const [top, foot] = [up(Math.max(value, 0)), up(Math.min(value, 0))];
    const [x, end] = [along(Math.max(start, energy[0])), along(Math.min(start + count * step, energy.at(-1)))];
    if (value) picture.append(svg("rect", { x: x.toFixed(1), y: top.toFixed(1), width: Math.max(1, end - x - 1).toFixed(1), height: Math.max(0.5, foot - top).toFixed(1), fill: value > 0 ? BLUE : ORANGE, class: "share" }));
  }
  picture.append(svg("path", { d: `M${along(energy[0])} ${up(0)}H${along(energy.at(-1))}`, stroke: GREY }));
  return picture;
}

// One descriptor of many spectra in order. each: [{number, name, value}] with the value as of a row, or undefined.
export function series(each, chosen, width, label, choose) {
  const told = each.filter((one) => one.value);
  const categorical = told.some((one) => one.value.interval === null && Object.keys(one.value.likely).length);
  const elements = told.some((one) => Array.isArray(one.value.value));
  const keys = [...new Set(told.flatMap((one) => [...Object.keys(one.value.likely), ...[one.value.value].flat().map(String)]))];
  let y;
  if (elements) {
    const weight = (key) => told.reduce((sum, one) => sum + (one.value.likely[key] ?? 0), 0);
    keys.sort((a, b) => weight(a) - weight(b));
    y = { names: keys, low: -0.6, high: keys.length - 0.4 };
  } else if (categorical) {
    const values = keys.map(Number);
    y = { low: Math.min(...values) - 0.6, high: Math.max(...values) + 0.6, whole: true };
  } else {
    const ends = told.flatMap((one) => one.value.interval ?? [one.value.value]);
    const low = Math.min(...ends), high = Math.max(...ends), room = 0.06 * (high - low) || 0.05;
    y = { low: low - room, high: high + room };
  }
  const height = elements ? Math.max(160, 22 * keys.length + TOP + BOTTOM) : 260;
  const x = { low: 0.5, high: Math.max(each.length, 1) + 0.5, whole: true };
  const { picture, along, up } = axes(width, height, x, y, "file, in the order in which they came", label, `${label} along the files`);
  const room = along(2) - along(1), wide = Math.min(0.9 * room, 26), radius = Math.max(1.5, Math.min(5, room / 2.6));
  const place = (key) => (elements ? keys.indexOf(key) : Number(key));
  const tall = Math.max(3, Math.min(18, 0.86 * Math.abs(up(0) - up(1))));
  each.forEach((one, i) => {
    const middle = along(i + 1);
    if (one.number === chosen) picture.append(svg("rect", { x: middle - wide / 2 - 2, y: TOP, width: wide + 4, height: height - TOP - BOTTOM, fill: "#e6f1f7" }));
    if (!one.value) return;
    for (const [key, p] of categorical ? Object.entries(one.value.likely) : []) {
      picture.append(svg("rect", { x: middle - wide / 2, y: up(place(key)) - tall / 2, width: wide, height: tall, rx: 2, fill: BLUE, opacity: (0.65 * p).toFixed(3) }));
    }
    if (one.value.interval) {
      const [low, high] = one.value.interval;
      picture.append(svg("path", { d: `M${middle} ${up(low)}V${up(high)}`, stroke: GREY, "stroke-width": Math.max(1, Math.min(4, room / 3)) }));
    }
    for (const key of [one.value.value].flat()) {
      picture.append(svg("circle", { cx: middle, cy: up(elements ? place(key) : key), r: radius, fill: categorical ? INK : BLUE }));
    }
  });
  each.forEach((one, i) => {
    const hit = svg("rect", { x: along(i + 0.5), y: TOP, width: room, height: height - TOP - BOTTOM, fill: "transparent", class: "point" }, svg("title", {}, one.name));
    hit.addEventListener("click", () => choose(one.number));
    picture.append(hit);
  });
  return picture;
}
