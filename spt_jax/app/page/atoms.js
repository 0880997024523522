// The atoms around an absorber, as balls and sticks that turn when they are dragged.

import { svg } from "./plot.js";

const INK = "#222", SIZE = 300, EYE = 22; // Å from the absorber to who looks
// Symbol, colour (Jmol's), covalent radius in hundredths of an Å (Cordero et al., Dalton Trans. 2008, 2832).
const TABLE = `
H:ffffff31 He:d9ffff28 Li:cc80ff128 Be:c2ff0096 B:ffb5b584 C:90909073 N:3050f871 O:ff0d0d66 F:90e05057
Ne:b3e3f558 Na:ab5cf2166 Mg:8aff00141 Al:bfa6a6121 Si:f0c8a0111 P:ff8000107 S:ffff30105 Cl:1ff01f102
Ar:80d1e3106 K:8f40d4203 Ca:3dff00176 Sc:e6e6e6170 Ti:bfc2c7160 V:a6a6ab153 Cr:8a99c7139 Mn:9c7ac7150
Fe:e06633142 Co:f090a0138 Ni:50d050124 Cu:c88033132 Zn:7d80b0122 Ga:c28f8f122 Ge:668f8f120 As:bd80e3119
Se:ffa100120 Br:a62929120 Kr:5cb8d1116 Rb:702eb0220 Sr:00ff00195 Y:94ffff190 Zr:94e0e0175 Nb:73c2c9164
Mo:54b5b5154 Tc:3b9e9e147 Ru:248f8f146 Rh:0a7d8c142 Pd:006985139 Ag:c0c0c0145 Cd:ffd98f144 In:a67573142
Sn:668080139 Sb:9e63b5139 Te:d47a00138 I:940094139 Xe:429eb0140 Cs:57178f244 Ba:00c900215 La:70d4ff207
Ce:ffffc7204 Pr:d9ffc7203 Nd:c7ffc7201 Pm:a3ffc7199 Sm:8fffc7198 Eu:61ffc7198 Gd:45ffc7196 Tb:30ffc7194
Dy:1fffc7192 Ho:00ff9c192 Er:00e675189 Tm:00d452190 Yb:00bf38187 Lu:00ab24187 Hf:4dc2ff175 Ta:4da6ff170
W:2194d6162 Re:267dab151 Os:266696144 Ir:175487141 Pt:d0d0e0136 Au:ffd123136 Hg:b8b8d0132 Tl:a6544d145
Pb:575961146 Bi:9e4fb5148 Po:ab5c00140 At:754f45150 Rn:428296150 Fr:420066260 Ra:007d00221 Ac:70abfa215
Th:00baff206 Pa:00a1ff200 U:008fff196 Np:0080ff190 Pu:006bff187 Am:545cf2180 Cm:785ce3169`;
const ELEMENTS = Object.fromEntries([...TABLE.matchAll(/([A-Z][a-z]?):([0-9a-f]{6})(\d+)/g)].map(([, symbol, colour, radius]) => [symbol, { colour, radius: radius / 100 }]));
const NONMETALS = new Set("H He B C N O F Ne P S Cl Ar Se Br Kr Te I Xe Po At Rn".split(" "));
const known = (symbol) => ELEMENTS[symbol] ?? { colour: "808080", radius: 1.5 };

// Of a metal and a nonmetal, and of two nonmetals that touch; of two metals only where there is nothing else.
function bonded(a, b, distance, metallic) {
  const touch = distance / (known(a).radius + known(b).radius), nonmetals = NONMETALS.has(a) + NONMETALS.has(b);
  return touch < (nonmetals === 1 ? 1.25 : nonmetals === 2 ? 1.15 : metallic ? 1.15 : 0);
}

const apart = (a, b) => Math.hypot(a[1] - b[1], a[2] - b[2], a[3] - b[3]);

// Of atoms [symbol, x, y, z], the absorber first: pairs [i, j] that are bonded.
export function bonds(atoms) {
  const centre = atoms[0], found = [];
  const metallic = !atoms.slice(1).some((one) => bonded(centre[0], one[0], apart(centre, one), false));
  for (let i = 0; i < atoms.length; i++)
    for (let j = i + 1; j < atoms.length; j++)
      if (bonded(atoms[i][0], atoms[j][0], apart(atoms[i], atoms[j]), metallic && i === 0)) found.push([i, j]);
  return found;
}

// A colour, the paler the further away.
function paler(colour, share) {
  const parts = colour.match(/../g).map((part) => Math.round(255 - (255 - parseInt(part, 16)) * (1 - share)));
  return `rgb(${parts.join(" ")})`;
}

function turned(by, [x, y, z]) {
  return by.map((row) => row[0] * x + row[1] * y + row[2] * z);
}

// `turn` about the upright axis of the screen and `tilt` about the level one, after what was turned before.
function after(turn, tilt, before) {
  const [c, s, d, t] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
  const now = [[c, 0, s], [t * s, d, -t * c], [-d * s, t, d * c]];
  return now.map((row) => [0, 1, 2].map((k) => row[0] * before[0][k] + row[1] * before[1][k] + row[2] * before[2][k]));
}

// The picture. absorber: its symbol; around: [symbol, x, y, z] of each atom, Å.
export function ballsAndSticks(absorber, around) {
  const atoms = [[absorber, 0, 0, 0], ...around], pairs = bonds(atoms);
  const far = Math.max(...around.map((one) => apart(one, atoms[0]))), scale = SIZE / 2 / (far + 0.9);
  const about = `the atoms around ${absorber}; arrow keys turn it`;
  const picture = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "atoms", role: "img", tabindex: 0, "aria-label": about });
  const first = new Set([0, ...pairs.filter(([i]) => i === 0).map(([, j]) => j)]); // what lies further off is drawn smaller
  let view = after(0.55, 0.35, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]);

  function draw() {
    const seen = atoms.map(([symbol, ...place]) => {
      const [x, y, z] = turned(view, place), nearer = EYE / (EYE - z);
      return { symbol, x: SIZE / 2 + scale * nearer * x, y: SIZE / 2 - scale * nearer * y, z, nearer, pale: (0.5 * (far - z)) / (2 * far) };
    });
    const things = seen.map((one, i) => {
      const own = known(one.symbol), r = scale * one.nearer * (first.has(i) ? 1 : 0.7) * (0.16 + 0.22 * own.radius);
      const line = i ? ["#666", 0.7] : [INK, 2.5];
      const told = i ? `${one.symbol}, ${apart(atoms[i], atoms[0]).toFixed(1)} Å` : `${absorber}, the absorber`;
      const ball = svg("circle", { cx: one.x.toFixed(1), cy: one.y.toFixed(1), r: r.toFixed(1), fill: paler(own.colour, one.pale), stroke: line[0], "stroke-width": line[1] }, svg("title", {}, told));
      const shine = svg("circle", { cx: (one.x - 0.3 * r).toFixed(1), cy: (one.y - 0.35 * r).toFixed(1), r: (0.25 * r).toFixed(1), fill: "#fff", opacity: 0.6, "pointer-events": "none" });
      return [one.z, [ball, shine]];
    });
    for (const [i, j] of pairs) {
      const [a, b] = [seen[i], seen[j]], own = i === 0;
      const stick = { d: `M${a.x.toFixed(1)} ${a.y.toFixed(1)}L${b.x.toFixed(1)} ${b.y.toFixed(1)}`, "stroke-linecap": "round", fill: "none" };
      const width = scale * ((a.nearer + b.nearer) / 2) * (own ? 0.2 : 0.09);
      const colour = paler(own ? "777777" : "a0a0a0", (a.pale + b.pale) / 2);
      things.push([(a.z + b.z) / 2 - 0.3, [svg("path", { ...stick, stroke: colour, "stroke-width": width.toFixed(1), class: own ? "bond" : "" })]]);
    }
    things.sort((a, b) => a[0] - b[0]);
    picture.replaceChildren(...things.flatMap(([, drawn]) => drawn));
  }

  function move(turn, tilt) {
    view = after(turn, tilt, view);
    draw();
  }
  let last = null;
  picture.addEventListener("pointerdown", (event) => { last = [event.clientX, event.clientY]; picture.setPointerCapture(event.pointerId); });
  picture.addEventListener("pointermove", (event) => {
    if (!last) return;
    move((event.clientX - last[0]) / 90, (event.clientY - last[1]) / 90);
    last = [event.clientX, event.clientY];
  });
  for (const name of ["pointerup", "pointercancel"]) picture.addEventListener(name, () => { last = null; });
  picture.addEventListener("keydown", (event) => {
    const [turn, tilt] = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key] ?? [0, 0];
    if (turn || tilt) { event.preventDefault(); move(turn, tilt); }
  });
  draw();
  return picture;
}

// Which colour is which element: [symbol, colour], the absorber first.
export function legend(absorber, around) {
  return [...new Set([absorber, ...around.map(([symbol]) => symbol)])].map((symbol) => [symbol, `#${known(symbol).colour}`]);
}

// "6 O at 1.9 to 2.4 Å": what is bonded to the absorber.
export function firstNeighbours(absorber, around) {
  const first = bonds([[absorber, 0, 0, 0], ...around]).filter(([i]) => i === 0).map(([, j]) => around[j - 1]);
  return [...new Set(first.map(([symbol]) => symbol))].map((symbol) => {
    const far = first.filter((one) => one[0] === symbol).map((one) => Math.hypot(...one.slice(1)));
    const [low, high] = [Math.min(...far), Math.max(...far)].map((one) => one.toFixed(1));
    return `${far.length} ${symbol} at ${low === high ? low : `${low} to ${high}`} Å`;
  }).join(", ");
}
