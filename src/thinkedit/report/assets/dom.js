"use strict";
// Elements are made here and nowhere else, and text enters them as text: no markup is ever parsed from data.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const MINUS = "\u2212", ARROW = "\u2192", DASH = "\u2013";
const missing = (value) => value === null || value === undefined || !Number.isFinite(value);
function number(value, digits = 1) {
  if (missing(value)) return DASH;
  const text = Math.abs(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (value < 0 && /[1-9]/.test(text) ? MINUS : "") + text;
}
function signed(value, digits = 1) {
  const text = number(value, digits);
  return !missing(value) && value > 0 && /[1-9]/.test(text) ? "+" + text : text;
}
const count = (value) => number(value, 0);
const percent = (share) => (missing(share) ? DASH : number(share * 100));
const points = (share) => (missing(share) ? DASH : signed(share * 100));
const plural = (n, noun) => count(n) + " " + noun + (n === 1 ? "" : "s");
const between = (figure, format) => (figure && !missing(figure.low) ? format(figure.low) + " to " + format(figure.high) : "no interval");
const whole = (figure, format) => (figure ? format(figure.value) + (missing(figure.low) ? "" : " [" + format(figure.low) + ", " + format(figure.high) + "]") : DASH);

const shortened = (text, most) => (text.length <= most ? text : text.slice(0, Math.max(1, Math.floor(most) - 1)) + "\u2026");
const hasLengths = (task) => Object.values(task.arms).some((arm) => arm.thinking_length);

const COLOURS = ["var(--edited)", "var(--warm)", "var(--third)", "var(--fourth)", "var(--fifth)"];
const DASHES = [null, "7 4", "2 4", "10 3 2 3"];
const isPlacebo = (arm) => arm.startsWith("random heads") || arm.startsWith("random direction");
function armColour(arm, place) {
  if (arm === "base") return "var(--base)";
  return arm === "edited" ? COLOURS[0] : COLOURS[(place + COLOURS.length - 1) % COLOURS.length];
}
const controlColour = (control) => (control === "mlp" ? "var(--warm)" : "var(--edited)");

function dataTable(columns, rows, labels = 1) {
  const cell = (tag, place, text) => el(tag, { class: place >= labels ? "number" : null, scope: tag === "th" ? "row" : null }, text);
  return el("div", { class: "table-frame", tabindex: "0", role: "group", "aria-label": "Table, scrolls sideways" }, el("table", {},
    el("thead", {}, el("tr", {}, columns.map((name, place) => el("th", { scope: "col", class: place >= labels ? "number" : null }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((text, place) => cell(place < labels ? "th" : "td", place, text)))))));
}

function figure(title, text, parts, table, full) {
  return el("figure", { class: full ? "full" : null },
    el("figcaption", {}, el("h3", {}, title), text && el("p", {}, text)), parts,
    table && el("details", { class: "data" }, el("summary", {}, "Figures as a table"), table));
}
