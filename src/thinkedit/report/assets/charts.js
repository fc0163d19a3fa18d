// A small chart kit: a frame with two scales, a cursor that pointer and arrow keys share, and a redraw when widths change.

function ticks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) || power;
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(Number((k * step).toPrecision(12)));
  return out;
}
const logTicks = (low, high) => {
  const out = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++)
    for (const m of [1, 2, 5]) if (m * 10 ** p >= low && m * 10 ** p <= high) out.push(m * 10 ** p);
  return out;
};
function scale(low, high, from, to, log) {
  const f = log ? Math.log : (v) => v, a = f(low), b = f(high);
  return (value) => from + ((f(value) - a) / (b - a || 1)) * (to - from);
}

// Draws again whenever the box changes its width, or as wide as `box.refresh` is told; draw(width) returns one svg element.
function canvas(draw) {
  const box = el("div", { class: "canvas" });
  let last = 0;
  const refresh = (given) => {
    const width = given || Math.round(box.clientWidth) || 640;
    last = width;
    const focused = box.contains(document.activeElement) && document.activeElement.classList.contains("plot");
    box.querySelectorAll(".plot, .tip").forEach((node) => node.remove());
    const plot = draw(width, box);
    box.append(plot);
    if (focused) plot.focus({ preventScroll: true });
  };
  new ResizeObserver(() => { if (Math.abs(box.clientWidth - last) > 1) refresh(); }).observe(box);
  box.refresh = refresh;
  return box;
}

function showTip(box, tip, x, y, title, lines) {
  tip.hidden = false;
  tip.replaceChildren(el("strong", {}, title), ...lines.map(([name, text]) => el("div", {}, el("span", {}, name), el("span", {}, text))));
  const left = x + tip.offsetWidth + 18 > box.clientWidth ? x - tip.offsetWidth - 12 : x + 14;
  tip.style.left = Math.max(0, left) + "px";
  tip.style.top = Math.max(0, y) + "px";
}
const makeTip = (box) => {
  const tip = el("div", { class: "tip", role: "status", "aria-live": "polite" });
  tip.hidden = true;
  box.append(tip);
  return tip;
};

// One tab stop a chart: arrows walk, Escape leaves. steps(key) gives the new place.
function walk(plot, places, show, hide, down = 0) {
  let at = -1;
  plot.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: down, ArrowUp: -down }[event.key];
    if (event.key === "Escape") { at = -1; hide(); return; }
    if (event.key === "Home") at = 0;
    else if (event.key === "End") at = places - 1;
    else if (move) at = at < 0 ? 0 : Math.min(places - 1, Math.max(0, at + move));
    else return;
    event.preventDefault();
    show(at);
  });
  plot.addEventListener("blur", hide);
  plot.addEventListener("pointerleave", hide);
  return (place) => { at = place; show(place); };
}

function frame(width, o) {
  const height = o.height || 300, m = { left: 46, right: 14, top: 10, bottom: 42 };
  const x = scale(o.x[0], o.x[1], m.left, width - m.right, o.logX), y = scale(o.y[0], o.y[1], height - m.bottom, m.top);
  const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", "aria-label": o.label });
  for (const t of ticks(o.y[0], o.y[1], 5))
    plot.append(svg("line", { class: "grid", x1: m.left, x2: width - m.right, y1: y(t), y2: y(t) }),
      svg("text", { x: m.left - 8, y: y(t) + 4, "text-anchor": "end" }, o.percent ? number(t * 100, 0) : number(t, t % 1 ? 1 : 0)));
  const marks = o.xTicks || (o.logX ? logTicks(o.x[0], o.x[1]) : ticks(o.x[0], o.x[1], Math.max(3, Math.floor(width / 64))));
  for (const t of marks)
    plot.append(svg("text", { x: x(t), y: height - m.bottom + 18, "text-anchor": "middle" }, (o.xFormat || ((v) => number(v, v % 1 ? 1 : 0)))(t)));
  plot.append(svg("line", { class: "zero", x1: m.left, x2: width - m.right, y1: y(o.y[0]), y2: y(o.y[0]) }));
  plot.append(svg("text", { x: (m.left + width - m.right) / 2, y: height - 6, "text-anchor": "middle" }, o.xLabel));
  if (o.origin && o.x[0] < 0 && o.x[1] > 0)
    plot.append(svg("line", { class: "zero", x1: x(0), x2: x(0), y1: m.top, y2: height - m.bottom, "stroke-opacity": ".55" }));
  return { plot, x, y, m, height };
}

// series: [{name, colour, dash, thin, dots, points: [{x, figure: {value, low, high}}]}]; o: {x, y, format, xLabel, xName, label}
function lineChart(series, o) {
  const off = new Set(), shown = () => series.filter((s) => !off.has(s.name));
  const positions = [...new Set(series.flatMap((s) => s.points.map((p) => p.x)))].sort((a, b) => a - b);
  const box = canvas((width, host) => {
    const f = frame(width, o), tip = makeTip(host), lit = svg("g", {});
    for (const s of shown()) {
      const kept = s.points.filter((p) => p.figure && !missing(p.figure.value)), banded = kept.filter((p) => !missing(p.figure.low));
      const at = (p, v) => `${f.x(p.x).toFixed(1)},${f.y(Math.min(o.y[1], Math.max(o.y[0], v))).toFixed(1)}`;
      if (!s.thin && banded.length > 1)
        f.plot.append(svg("polygon", { class: "band", "--c": s.colour, points: [...banded.map((p) => at(p, p.figure.high)), ...banded.map((p) => at(p, p.figure.low)).reverse()].join(" ") }));
      f.plot.append(svg("polyline", { class: "line" + (s.thin ? " thin" : ""), "--c": s.colour, "stroke-dasharray": s.dash, points: kept.map((p) => at(p, p.figure.value)).join(" ") }));
      if (s.dots) for (const p of kept) f.plot.append(svg("circle", { class: s.hollow ? "hollow" : "dot", "--c": s.colour, r: 3.6, cx: f.x(p.x), cy: f.y(p.figure.value) }));
    }
    f.plot.append(lit);
    const hide = () => { lit.replaceChildren(); tip.hidden = true; };
    const show = (place) => {
      const x = positions[place], found = shown().map((s) => [s, s.points.find((p) => p.x === x)]).filter(([, p]) => p && p.figure);
      lit.replaceChildren(svg("line", { class: "cross", x1: f.x(x), x2: f.x(x), y1: f.m.top, y2: f.height - f.m.bottom }),
        ...found.map(([s, p]) => svg("circle", { class: "dot", "--c": s.colour, r: 5, cx: f.x(x), cy: f.y(p.figure.value) })));
      showTip(host, tip, f.x(x), f.m.top, o.xName(x), found.map(([s, p]) => [s.name, whole(p.figure, o.format)]));
    };
    const go = walk(f.plot, positions.length, show, hide);
    f.plot.addEventListener("pointermove", (event) => {
      const px = event.clientX - f.plot.getBoundingClientRect().left;
      go(positions.reduce((best, x, k) => (Math.abs(f.x(x) - px) < Math.abs(f.x(positions[best]) - px) ? k : best), 0));
    });
    return f.plot;
  });
  return [series.length > 1 && legend(series, off, box), box];
}

function legend(series, off, box) {
  return el("ul", { class: "legend", "aria-label": "Series, press to hide or show" }, series.map((s) => {
    const sample = svg("svg", { class: "plot", viewBox: "0 0 26 10", "aria-hidden": "true" },
      svg("line", { class: "line" + (s.thin ? " thin" : ""), "--c": s.colour, "stroke-dasharray": s.dash, x1: 1, x2: 25, y1: 5, y2: 5 }),
      s.dots && svg("circle", { class: s.hollow ? "hollow" : "dot", "--c": s.colour, cx: 13, cy: 5, r: 3.4 }));
    const button = el("button", { type: "button", "aria-pressed": "true", onclick: () => {
      off.has(s.name) ? off.delete(s.name) : off.add(s.name);
      button.setAttribute("aria-pressed", String(!off.has(s.name)));
      box.refresh();
    } }, sample, s.name);
    return el("li", {}, button);
  }));
}
