// The report's own plots: histograms, the map of heads, and effects with their intervals.

function histogram(series, edges, o) {
  const shares = series.map((s) => { const all = s.counts.reduce((a, b) => a + b, 0) || 1; return s.counts.map((c) => (100 * c) / all); });
  const top = Math.max(1, ...shares.flat()) * 1.08, log = edges.at(-1) - edges.at(-2) > 2 * (edges[1] - edges[0]), off = new Set();
  const box = canvas((width, host) => {
    const f = frame(width, { ...o, x: [log ? Math.max(1, edges[0]) : Math.min(0, edges[0]), edges.at(-1)], y: [0, top], logX: log });
    const tip = makeTip(host), lit = svg("rect", { class: "cursor", visibility: "hidden" }), at = (e) => f.x(log ? Math.max(1, e) : e);
    series.forEach((s, k) => {
      if (off.has(s.name)) return;
      let path = `M${at(edges[0])},${f.y(0)}`;
      shares[k].forEach((v, b) => { path += `V${f.y(v).toFixed(1)}H${at(edges[b + 1]).toFixed(1)}`; });
      path += `V${f.y(0)}`;
      f.plot.append(svg("path", { class: "bar", "--c": s.colour, d: path }), svg("path", { class: "line thin", "--c": s.colour, d: path }));
      if (!missing(s.mean)) f.plot.append(svg("line", { class: "line thin", "--c": s.colour, "stroke-dasharray": "4 3", x1: f.x(s.mean), x2: f.x(s.mean), y1: f.m.top, y2: f.y(0) }));
    });
    f.plot.append(lit);
    const hide = () => { lit.setAttribute("visibility", "hidden"); tip.hidden = true; };
    const show = (b) => {
      const left = at(edges[b]), right = at(edges[b + 1]);
      fill(lit, { x: left, y: f.m.top, width: Math.max(1, right - left), height: f.y(0) - f.m.top, visibility: "visible" }, []);
      const more = b === edges.length - 2 ? " and more" : "";
      showTip(host, tip, right, f.m.top, count(edges[b]) + " to " + count(edges[b + 1]) + " tokens" + more,
        series.map((s, k) => [s.name, number(shares[k][b]) + " % (" + count(s.counts[b]) + ")"]));
    };
    const go = walk(f.plot, edges.length - 1, show, hide);
    f.plot.addEventListener("pointermove", (event) => {
      const px = event.clientX - f.plot.getBoundingClientRect().left;
      const bin = edges.findLastIndex((e) => at(e) <= px);
      if (bin >= 0) go(Math.min(bin, edges.length - 2));
    });
    return f.plot;
  });
  return [series.length > 1 && legend(series, off, box), box];
}

// values [layers][heads]; edited [[layer, head]]
function headMap(values, edited) {
  const layers = values.length, heads = values[0].length, marked = new Set(edited.map(([l, h]) => l * heads + h));
  const reach = Math.max(...values.flat().map((v) => Math.abs(v || 0))) || 1;
  const order = values.flat().map((v, k) => [v, k]).sort((a, b) => b[0] - a[0]).map(([, k]) => k);
  return canvas((width, host) => {
    const left = 46, top = 6, cell = Math.min(140, (width - left - 4) / heads), high = Math.min(cell, Math.max(9, Math.min(38, 640 / layers)));
    const height = top + high * layers + 42, tip = makeTip(host);
    const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0",
      "aria-label": `Head contributions, ${layers} layers by ${heads} heads; edited: ` + (edited.map(([l, h]) => `layer ${l} head ${h}`).join(", ") || "none") });
    const gap = cell > 14 ? 1.5 : 0.5;
    values.forEach((row, l) => row.forEach((v, h) => plot.append(svg("rect", {
      class: "cell", x: left + h * cell, y: top + l * high, width: cell - gap, height: high - gap, rx: Math.min(3, cell / 8),
      "--c": v < 0 ? "var(--heat-minus)" : "var(--heat-plus)", "--t": missing(v) ? 0 : (Math.abs(v) / reach).toFixed(3) }))));
    if (cell > 46) values.forEach((row, l) => row.forEach((v, h) => plot.append(svg("text", {
      class: Math.abs(v || 0) / reach > 0.5 ? "inverse" : null, x: left + (h + 0.5) * cell, y: top + (l + 0.5) * high + 4, "text-anchor": "middle" }, number(v, 2)))));
    for (const [l, h] of edited)
      plot.append(svg("rect", { class: "edited", x: left + h * cell - 0.5, y: top + l * high - 0.5, width: cell - gap + 1, height: high - gap + 1, rx: Math.min(3, cell / 8) }));
    for (let l = 0; l < layers; l += Math.ceil(14 / high)) plot.append(svg("text", { x: left - 10, y: top + l * high + high / 2 + 4, "text-anchor": "end" }, l));
    for (let h = 0; h < heads; h += Math.ceil(22 / cell)) plot.append(svg("text", { x: left + h * cell + cell / 2, y: top + layers * high + 16, "text-anchor": "middle" }, h));
    plot.append(svg("text", { x: left + (heads * cell) / 2, y: height - 6, "text-anchor": "middle" }, "head"),
      svg("text", { transform: `translate(11 ${top + (layers * high) / 2}) rotate(-90)`, "text-anchor": "middle" }, "layer"));
    const cursor = svg("rect", { class: "cursor", visibility: "hidden", width: cell, height: high });
    plot.append(cursor);
    const hide = () => { cursor.setAttribute("visibility", "hidden"); tip.hidden = true; };
    const show = (k) => {
      const l = Math.floor(k / heads), h = k % heads;
      fill(cursor, { x: left + h * cell - gap / 2, y: top + l * high - gap / 2, visibility: "visible" }, []);
      showTip(host, tip, left + (h + 1) * cell, top + (l + 1) * high + 6, `layer ${l}, head ${h}`,
        [["contribution", number(values[l][h], 3)], ["rank", count(order.indexOf(k) + 1) + " of " + count(layers * heads)], ...(marked.has(k) ? [["edited", "yes"]] : [])]);
    };
    const go = walk(plot, layers * heads, show, hide, heads);
    plot.addEventListener("pointermove", (event) => {
      const area = plot.getBoundingClientRect(), h = Math.floor((event.clientX - area.left - left) / cell), l = Math.floor((event.clientY - area.top - top) / high);
      if (l >= 0 && l < layers && h >= 0 && h < heads) go(l * heads + h); else hide();
    });
    return plot;
  });
}

// rows: [{name, figure, colour, strong, hollow, gap}]: effects with intervals on one scale, zero marked
function forest(rows, format, o) {
  const kept = rows.filter((r) => r.figure);
  const ends = kept.flatMap((r) => [r.figure.low ?? r.figure.value, r.figure.high ?? r.figure.value, 0]);
  const pad = (Math.max(...ends) - Math.min(...ends)) * 0.06 || 0.01, low = Math.min(...ends) - pad, high = Math.max(...ends) + pad;
  return canvas((width, host) => {
    const wide = width > 560; // names and figures stand beside the effects, or above them
    const names = wide ? Math.min(width * 0.36, 12 + 7.1 * Math.max(...kept.map((r) => r.name.length))) : 8, right = wide ? 170 : 8;
    const step = wide ? 27 : 40, top = 6, tip = makeTip(host), tops = [];
    let y = top;
    for (const r of kept) { y += r.gap ? 12 : 0; tops.push(y + (wide ? step / 2 : step - 11)); y += step; }
    const height = y + 40, x = scale(low, high, names, width - right);
    const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", "aria-label": o.label + ": " + kept.map((r) => r.name + " " + whole(r.figure, format)).join("; ") });
    for (const t of ticks(low, high, Math.max(2, (width - names - right) / 80)))
      plot.append(svg("line", { class: Math.abs(t) < 1e-12 ? "zero" : "grid", x1: x(t), x2: x(t), y1: top, y2: y }), svg("text", { x: x(t), y: y + 16, "text-anchor": "middle" }, o.tick(t)));
    plot.append(svg("text", { x: (names + width - right) / 2, y: height - 4, "text-anchor": "middle" }, o.xLabel));
    const lit = svg("rect", { class: "cursor", visibility: "hidden", x: names, width: width - right - names, rx: 4, "stroke-opacity": ".5" });
    kept.forEach((r, k) => {
      const at = tops[k], f = r.figure;
      const text = wide ? at + 4 : at - 13;
      plot.append(svg("text", { class: r.strong ? "strong" : "label", x: wide ? names - 12 : 0, y: text, "text-anchor": wide ? "end" : "start" }, shortened(r.name, (wide ? names - 12 : width - 130) / 7.1)));
      plot.append(svg("text", { class: r.strong ? "strong" : null, x: wide ? width - right + 12 : width, y: text, "text-anchor": wide ? "start" : "end" }, whole(f, format)));
      if (!missing(f.low)) plot.append(svg("line", { class: "whisker", "--c": r.colour, x1: x(f.low), x2: x(f.high), y1: at, y2: at, "stroke-opacity": r.hollow ? ".55" : null }));
      plot.append(svg("circle", { class: r.hollow ? "hollow" : "dot", "--c": r.colour, cx: x(f.value), cy: at, r: r.strong ? 6.5 : r.hollow ? 3.6 : 5 }));
    });
    plot.append(lit);
    const hide = () => { lit.setAttribute("visibility", "hidden"); tip.hidden = true; };
    const show = (k) => {
      fill(lit, { y: tops[k] - (wide ? step / 2 : 11), height: wide ? step : 22, visibility: "visible" }, []);
      showTip(host, tip, x(kept[k].figure.value), tops[k] + 12, kept[k].name, [["effect", format(kept[k].figure.value)], ["95 %", between(kept[k].figure, format)], ["questions", count(kept[k].figure.n)]]);
    };
    const go = walk(plot, kept.length, show, hide, 1);
    plot.addEventListener("pointermove", (event) => {
      const py = event.clientY - plot.getBoundingClientRect().top, near = tops.findIndex((t) => Math.abs(t - py) <= step / 2);
      if (near >= 0) go(near); else hide();
    });
    return plot;
  });
}
