// The sections of the report, each made only where the summary has the figures for it.

function section(id, title, lead, ...content) {
  return el("section", { id, "aria-labelledby": id + "-title" }, el("h2", { id: id + "-title" }, title), lead && el("p", { class: "muted" }, lead), content);
}

function resultSection(s) {
  const v = s.verdict, node = el("section", { id: "result", "aria-labelledby": "result-title" });
  node.append(el("p", { class: "kicker" }, "Thinking length in ", el("strong", {}, s.model)));
  if (!v) {
    node.append(el("h1", { id: "result-title" }, "What was measured"), el("p", {}, "No edit was evaluated beside its base, so there is nothing to judge; the figures of what was run follow."), measuredCards(s) || "");
    return node;
  }
  const p = v.primary, size = number(Math.abs(p.value) * 100) + " points";
  const arm = p.arm === "edited" ? "The edit" : "The edit “" + p.arm + "”";
  const claims = { rose: [arm + " raised accuracy by ", el("em", {}, size)], fell: [arm + " lowered accuracy by ", el("em", {}, size)] };
  node.className = "claim-" + v.claim.replace(" ", "-");
  node.append(el("h1", { id: "result-title" }, missing(p.low) ? v.headline : claims[v.claim] || [arm + " has no shown effect on accuracy"]),
    el("p", { class: "span" }, (v.claim === "not shown" ? points(p.value) + " points, " : "") + "95 % interval " + between(p, points) + " points, paired over " + plural(p.n, "question")),
    el("ul", { class: "beside" }, v.sentences.map((text) => el("li", {}, text))));
  const cards = el("div", {}), tasks = Object.keys(s.evaluation).filter((t) => (s.evaluation[t].comparisons || {})[p.arm]);
  const pick = picker(tasks, taskLabel(s), (task) => cards.replaceChildren(cardsOf(s, task, p.arm)));
  return fill(node, {}, [pick, cards, effects(s, tasks)]);
}

// Where there is nothing to compare: what each arm of each task came to.
function measuredCards(s) {
  const cards = [], card = (title, big, unit, ...lines) => cards.push(el("div", { class: "card" }, el("h3", {}, title), el("p", { class: "big" }, big, el("span", { class: "unit" }, " " + unit)), lines.map((line) => el("p", {}, line))));
  for (const [task, t] of Object.entries(s.evaluation || {})) for (const [arm, own] of Object.entries(t.arms)) {
    const name = task + (arm === "base" ? "" : ", " + arm), of = plural(own.questions, "question") + (own.samples > 1 ? ", " + plural(own.samples, "sample") + " each" : "");
    if (own.accuracy) card("Accuracy, " + name, percent(own.accuracy.value), "%", "95 % interval " + between(own.accuracy, percent), of);
    if (own.thinking_length) card("Mean thinking length, " + name, number(own.thinking_length.value), "tokens", "95 % interval " + between(own.thinking_length, number), "median " + number(own.thinking_length_median, 0));
    card("Thoughts not closed, " + name, count(own.left_out), "of " + count(own.left_out + own.statuses.closed), "no length is counted for them");
  }
  return cards.length > 0 && el("div", { class: "cards" }, cards);
}

// A choice among tasks, where there are several; draws the first at once.
function picker(names, label, draw) {
  if (names.length) draw(names[0]);
  if (names.length < 2) return null;
  return el("label", { class: "pick" }, label, el("select", { onchange: (event) => draw(event.target.value) }, names.map((name) => el("option", { value: name }, name))));
}

function cardsOf(s, task, arm) {
  const all = s.evaluation[task], base = all.arms.base, own = all.arms[arm], pair = all.comparisons[arm];
  const card = (title, big, ...lines) => el("div", { class: "card" }, el("h3", {}, title), el("p", { class: "big" }, big), lines.filter(Boolean).map((line) => el("p", {}, line)));
  const change = (a, b, unit) => [el("span", { class: "from" }, a), " " + ARROW + " ", b, el("span", { class: "unit" }, " " + unit)];
  const by = (figure, format, unit) => figure && [el("b", {}, format(figure.value)), " " + unit + ", " + between(figure, format)];
  const value = (figure, format) => (figure ? format(figure.value) : DASH);
  const cards = [
    card("Accuracy, " + task, change(value(base.accuracy, percent), value(own.accuracy, percent), "%"), by(pair.accuracy_difference, points, "points")),
    card("Mean thinking length", change(value(base.thinking_length, number), value(own.thinking_length, number), "tokens"), by(pair.thinking_length_difference, signed, "tokens")),
  ];
  for (const [name, group] of Object.entries(pair.groups || {}).slice(0, 4)) {
    const a = base.groups[name], b = own.groups[name];
    if (b) cards.push(card("Accuracy, " + name, change(value(a.accuracy, percent), value(b.accuracy, percent), "%"), by(group.accuracy_difference, points, "points"),
      a.thinking_length && b.thinking_length && "thoughts " + number(a.thinking_length.value) + " " + ARROW + " " + number(b.thinking_length.value) + " tokens"));
  }
  const m = pair.matched && pair.matched["10"];
  if (m && m.accuracy) cards.push(card("Shortest 10 % of questions", change(value(m.base_accuracy, percent), value(m.accuracy, percent), "%"), by(m.accuracy_difference, points, "points"), "matched questions, cross-fitted"));
  const f = pair.flips;
  cards.push(card("Questions turned", [count(f.wrong_to_right), el("span", { class: "unit" }, " to right, "), count(f.right_to_wrong), el("span", { class: "unit" }, " to wrong")],
    "by majority of samples, McNemar p " + (f.mcnemar_p < 1e-4 ? "< 0.0001" : "= " + number(f.mcnemar_p, 4)), f.tied ? plural(f.tied, "question") + " tied and left out" : null));
  cards.push(card("Thoughts not closed", change(count(base.left_out), count(own.left_out), ""), "of " + count(base.left_out + base.statuses.closed) + " and " + count(own.left_out + own.statuses.closed) + "; no length is counted for them"));
  const h = s.heads, e = s.edit;
  if (h && h.edited.length) cards.push(card("What was changed", [count(h.edited.length), el("span", { class: "unit" }, " of " + count(h.contributions.length * h.contributions[0].length) + " heads")],
    e && !missing(e.share_of_weights) && [el("b", {}, number(e.share_of_weights * 100, 2) + " %"), " of the weights"]));
  return el("div", { class: "cards" }, cards);
}

function effects(s, tasks) {
  const v = s.verdict, rows = [{ name: v.primary.arm === "edited" ? "edit" : v.primary.arm, figure: v.primary, colour: "var(--edited)", strong: true }];
  for (const task of tasks) {
    const pairs = s.evaluation[task].comparisons;
    if (tasks.length > 1) rows.push({ name: task, figure: pairs[v.primary.arm].accuracy_difference, colour: "var(--edited)" });
    for (const [name, group] of Object.entries(pairs[v.primary.arm].groups)) rows.push({ name: tasks.length > 1 ? task + ", " + name : name, figure: group.accuracy_difference, colour: "var(--edited)" });
    for (const arm of Object.keys(pairs)) if (arm !== v.primary.arm && !isPlacebo(arm)) rows.push({ name: tasks.length > 1 ? task + ", " + arm : arm, figure: pairs[arm].accuracy_difference, colour: "var(--third)" });
  }
  for (const p of v.placebos) {
    rows.push({ name: p.kind + ", mean", figure: p.mean, colour: "var(--warm)", gap: true });
    for (const [name, draw] of Object.entries(p.draws)) rows.push({ name, figure: draw, colour: "var(--warm)", hollow: true });
  }
  const text = "Difference to the base in points, with 95 % intervals over questions. " +
    (v.placebos.length ? "Placebos edit as many random heads, or remove a random direction from the same heads with the same total change; an edit that they equal has shown nothing." : "No placebo was evaluated, so nothing here says that the direction or the choice of heads matters.");
  const table = dataTable(["", "effect on accuracy, points", "questions"], rows.filter((r) => r.figure).map((r) => [r.name, whole(r.figure, points), count(r.figure.n)]));
  return el("div", { class: "figures" }, figure("Effect on accuracy, beside the placebos", text, forest(rows, points, { label: "Effects on accuracy in points", xLabel: "difference to the base, points", tick: (t) => signed(t * 100, 0) }), table, true));
}

// Several models: each has its own verdict; nothing is pooled over them.
function modelsSection(s) {
  const node = el("section", { id: "result", "aria-labelledby": "result-title" }), judged = s.models.filter((m) => m.verdict);
  const said = { rose: "raised accuracy in ", fell: "lowered it in ", "not shown": "showed no effect on it in " }, edits = judged.length === 1 ? "The edit " : "The edits ";
  const counts = Object.keys(said).map((claim) => [said[claim], judged.filter((m) => m.verdict.claim === claim).length]).filter(([, n]) => n);
  node.append(el("p", { class: "kicker" }, "Thinking length in ", el("strong", {}, plural(s.models.length, "model"))),
    el("h1", { id: "result-title" }, judged.length ? [edits, counts.map(([text, n], k) => [k ? ", " : "", k ? text : text.replace(/\bit\b/, "accuracy"), el("em", {}, n + " of " + judged.length)]), " models"] : "What was measured"),
    el("p", { class: "span" }, "Each model is judged by itself, on the paired difference in accuracy over all of its questions; nothing is pooled over models."),
    el("ul", { class: "beside" }, s.models.map((m) => el("li", {}, el("b", {}, m.name), ": ", m.verdict ? [m.verdict.headline, m.verdict.sentences.map((text) => el("span", { class: "muted small aside" }, text))] : "no edit was evaluated beside its base."))));
  const rows = [];
  for (const m of judged) {
    rows.push({ name: m.name, figure: m.verdict.primary, colour: "var(--edited)", strong: true, gap: rows.length > 0 });
    for (const [task, t] of Object.entries(m.tasks)) {
      if (t.accuracy_difference) rows.push({ name: task, figure: t.accuracy_difference, colour: "var(--edited)" });
      if (!missing(t.paper_difference)) rows.push({ name: task + ", paper", figure: { value: t.paper_difference, low: null, high: null, n: null }, colour: "var(--third)", hollow: true });
    }
    for (const p of m.verdict.placebos) rows.push({ name: p.kind + ", mean", figure: p.mean, colour: "var(--warm)" });
  }
  const table = dataTable(["", "effect on accuracy, points", "questions"], rows.filter((r) => r.figure).map((r) => [r.name, whole(r.figure, points), count(r.figure.n)]));
  const paper = rows.some((r) => r.name.endsWith(", paper")) ? " Hollow points are what the paper reports, without an interval." : "";
  return fill(node, {}, [rows.some((r) => r.figure) && el("div", { class: "figures" }, figure("Effect on accuracy of each model", "Difference to the model's own base in points, with 95 % intervals over questions: all tasks together, then one by one." + paper,
    forest(rows, points, { label: "Effects on accuracy in points", xLabel: "difference to the base, points", tick: (t) => signed(t * 100, 0) }), table, true))]);
}

const taskLabel = (s) => (s.models ? "Model and task" : "Task");

function doneSection(s) {
  const steps = [], heads = s.heads, add = (name, ...text) => steps.push(el("li", {}, el("b", {}, name), el("span", {}, text)));
  if (s.probe) add("Probe", count(s.probe.questions) + " questions answered; " + count(s.probe.statuses.closed) + " closed thoughts" + (s.probe.thinking_length ? ", " + number(s.probe.thinking_length.value) + " tokens on average" : "") + "; " + count(s.probe.left_out) + " left out because they were not closed.");
  const d = s.direction;
  if (d && !missing(d.long_count)) add("Direction", "Mean residual stream of " + count(d.long_count) + " long thoughts less that of " + count(d.short_count) + " short ones" + (missing(d.rule) ? "" : " (" + d.rule + ")") + ", in every layer." + Object.entries(d.quality || {}).map(([control, q]) => " " + control + ": " + (missing(q.times_noise) ? "" : number(q.times_noise, 2) + " times as long as noise (p = " + number(q.p, 3) + " against shuffled labels)") + (q.flags.length ? "; doubtful: " + q.flags.join("; ") : "") + ".").join(""));
  if (s.steering) add("Steering", plural(new Set(s.steering.rows.map((r) => r.alpha)).size, "strength") + " along the direction, in all layers at once.");
  if (s.layer_scan) add("Layer scan", "The same, one layer at a time.");
  if (heads) add("Heads", count(heads.contributions.length * heads.contributions[0].length) + " heads ranked by what they write along the direction; " + count(heads.edited.length) + " chosen" + (heads.edited.length && heads.edited.length <= 12 ? ": " + heads.edited.map(([l, h]) => "L" + l + "H" + h).join(", ") : "") + ".");
  const e = s.edit;
  if (e) add("Edit", "The direction removed from the output projection of those heads" + (missing(e.strength) ? "" : ", strength " + e.strength) + (missing(e.share_of_weights) ? "" : "; " + number(e.share_of_weights * 100, 2) + " % of the weights touched") + (missing(e.residual) ? "" : "; " + Number(e.residual).toExponential(1) + " of it left after rounding") + ".");
  for (const [task, t] of Object.entries(s.evaluation || {})) {
    const first = Object.values(t.arms)[0];
    add("Evaluation", task + ": " + plural(first.questions, "question") + ", " + plural(first.samples, "sample") + " each, " + plural(Object.keys(t.arms).length, "arm") + ".");
  }
  const flat = flatten(s.settings || {});
  for (const part of ["direction", "edit"]) flat.push(...flatten(s[part] || {}, part).filter(([, text]) => text.length < 90));
  const given = flat.filter(([, text]) => text !== "" && text !== DASH);
  return section("done", "What was done", null, el("ol", { class: "steps" }, steps),
    given.length > 0 && el("details", { class: "sheet", open: given.length <= 24 }, el("summary", {}, el("h3", {}, "Settings")),
      el("dl", { class: "settings" }, given.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))))));
}

function flatten(value, prefix = "") {
  return Object.entries(value).flatMap(([key, item]) => {
    const name = prefix ? prefix + "." + key : key;
    if (item && typeof item === "object" && !Array.isArray(item)) return flatten(item, name);
    const short = (v) => (typeof v === "number" && !Number.isInteger(v) ? String(Number(v.toPrecision(4))) : String(v ?? DASH));
    return [[name, Array.isArray(item) ? item.map(short).join(", ") : short(item)]];
  });
}

function lengthSection(s) {
  const holder = el("div", {}), tasks = Object.keys(s.evaluation).filter((task) => hasLengths(s.evaluation[task]));
  const pick = picker(tasks, taskLabel(s), (task) => {
    const t = s.evaluation[task], arms = Object.keys(t.arms).filter((arm) => !isPlacebo(arm));
    const bars = arms.map((arm, k) => ({ name: arm, colour: armColour(arm, k), counts: t.arms[arm].histogram, mean: t.arms[arm].thinking_length && t.arms[arm].thinking_length.value }));
    const out = arms.map((arm) => arm + " " + count(t.arms[arm].left_out)).join(", ");
    const binned = dataTable(["tokens", ...arms], t.histogram_edges.slice(0, -1).map((e, k) => [count(e) + " to " + count(t.histogram_edges[k + 1]), ...bars.map((b) => count(b.counts[k]))]));
    const lines = arms.map((arm, k) => { const c = t.arms[arm].under_threshold; return { name: arm, colour: armColour(arm, k), points: t.thresholds.map((x, i) => ({ x, answers: c.answers[i], figure: missing(c.accuracy[i]) || c.answers[i] < 5 ? null : { value: c.accuracy[i], low: c.low[i], high: c.high[i] } })) }; });
    const x = [t.thresholds[0], t.thresholds.at(-1)], log = x[1] / Math.max(x[0], 1) > 30;
    const curve = dataTable(["at most, tokens", ...arms.flatMap((a) => [a + ", accuracy %", a + ", answers"])], t.thresholds.map((e, k) => [count(e), ...lines.flatMap((l) => [whole(l.points[k].figure, percent), count(l.points[k].answers)])]));
    holder.replaceChildren(el("div", { class: "figures" },
      figure("How long the models think", "Share of closed thoughts in percent; dashed lines are means. Not closed and left out: " + out + ".", histogram(bars, t.histogram_edges, { xLabel: "thinking tokens", label: "Histogram of thinking length, " + task }), binned),
      figure("Accuracy against thinking length", "Accuracy in percent of the answers whose thought has at most so many tokens, with 95 % bands.", lineChart(lines, { x: log ? x : [Math.min(0, x[0]), x[1]], y: [0, 1.0001], logX: log, format: percent, percent: true, xLabel: "threshold, thinking tokens", xName: (v) => "at most " + count(v) + " tokens", label: "Accuracy against thinking length, " + task }), curve)));
  });
  return section("lengths", "Length and accuracy", null, pick, holder);
}

function steeringSection(s) {
  const holder = el("div", {}), rows = s.steering.rows, tasks = [...new Set(rows.map((r) => r.task))];
  const pick = picker(tasks, taskLabel(s), (task) => {
    const own = rows.filter((r) => r.task === task), controls = [...new Set(own.map((r) => r.control).filter(Boolean))];
    const groups = [...new Set(own.flatMap((r) => Object.keys(r.groups)))], correlation = (s.steering.length_rank_correlation || {})[task] || {};
    const lines = (key) => (controls.length ? controls : [null]).flatMap((control) => [null, ...groups].map((group, k) => ({
      name: (control || "unsteered") + (group ? ", " + group : ""), colour: controlColour(control), dash: DASHES[k % DASHES.length], thin: Boolean(group), dots: !group,
      points: own.filter((r) => r.control === control || r.control === null).map((r) => ({ x: r.alpha, figure: group ? r.groups[group] && r.groups[group][key] : r[key] })) })));
    const alphas = own.map((r) => r.alpha), x = [Math.min(...alphas), Math.max(...alphas)];
    const top = 1.05 * Math.max(1, ...lines("thinking_length").flatMap((l) => l.points.map((p) => (p.figure ? (l.thin ? p.figure.value : p.figure.high ?? p.figure.value) : 0))));
    const shared = { x, origin: true, xLabel: "steering strength \u03b1", xName: (v) => "\u03b1 = " + signed(v, 2) };
    const table = (key, format) => dataTable(["control", "\u03b1", "all", ...groups, "not closed"], own.map((r) => [r.control || "none", signed(r.alpha, 2), whole(r[key], format), ...groups.map((g) => whole(r.groups[g] && r.groups[g][key], format)), count(r.left_out)]));
    const rank = Object.entries(correlation).filter(([, v]) => !missing(v)).map(([c, v]) => c + " " + number(v, 2)).join(", ");
    holder.replaceChildren(el("div", { class: "figures" },
      figure("Mean thinking length", "Tokens of closed thoughts, with 95 % bands." + (rank ? " Rank correlation with \u03b1: " + rank + "." : ""), lineChart(lines("thinking_length"), { ...shared, y: [0, top], format: number, label: "Mean thinking length against steering strength" }), table("thinking_length", number)),
      figure("Accuracy", "Percent, with 95 % bands.", lineChart(lines("accuracy"), { ...shared, y: [0, 1.0001], percent: true, format: percent, label: "Accuracy against steering strength" }), table("accuracy", percent))));
  });
  return section("steering", "Steering", "The direction added in all layers, with growing strength. If thinking length lies on it, lengths rise with \u03b1.", pick, holder);
}

function scanSection(s) {
  const rows = s.layer_scan.rows.filter((r) => r.layer !== null), controls = [...new Set(rows.map((r) => r.control))], holder = el("div", {});
  const top = 1.05 * Math.max(1, ...rows.map((r) => (r.thinking_length ? r.thinking_length.high ?? r.thinking_length.value : 0)));
  const pick = picker([...new Set(rows.map((r) => r.task))], taskLabel(s), (task) => {
    holder.replaceChildren(el("div", { class: "figures" }, controls.map((control) => {
      const own = rows.filter((r) => r.task === task && r.control === control), alphas = [...new Set(own.map((r) => r.alpha))].sort((a, b) => a - b);
      const layers = [...new Set(own.map((r) => r.layer))].sort((a, b) => a - b);
      const lines = alphas.map((a, k) => ({ name: "\u03b1 = " + signed(a, a % 1 ? 2 : 0), colour: a > 0 ? controlColour(control) : "var(--base)", dots: true, hollow: a <= 0, dash: DASHES[Math.floor(k / 2) % DASHES.length], points: own.filter((r) => r.alpha === a).map((r) => ({ x: r.layer, figure: r.thinking_length })) }));
      const table = dataTable(["layer", "\u03b1", "length, tokens", "accuracy, %", "not closed"], own.map((r) => [count(r.layer), signed(r.alpha, 2), whole(r.thinking_length, number), whole(r.accuracy, percent), count(r.left_out)]));
      const every = Math.ceil(layers.length / 16), o = { x: [layers[0] - 0.2, layers.at(-1) + 0.2], y: [0, top], xTicks: layers.filter((_, k) => k % every === 0), xFormat: count, format: number, xLabel: "layer steered", xName: (v) => "layer " + v, label: "Mean thinking length by steered layer, " + control };
      return figure("Steered through " + control, "Mean tokens of closed thoughts, with 95 % bands.", lineChart(lines, o), table);
    })));
  });
  return section("layers", "Layer by layer", "Each layer steered alone: where the direction acts.", pick, holder);
}

function headsSection(s) {
  const h = s.heads, heads = h.contributions[0].length, marked = new Set(h.edited.map(([l, k]) => l * heads + k));
  const ranked = h.contributions.flatMap((row, l) => row.map((v, k) => [v, l, k])).sort((a, b) => b[0] - a[0]).slice(0, 40);
  const table = dataTable(["rank", "layer", "head", "contribution", "edited"], ranked.map(([v, l, k], place) => [count(place + 1), count(l), count(k), number(v, 3), marked.has(l * heads + k) ? "yes" : ""]));
  const scaleNote = el("div", { class: "scale", "aria-hidden": "true" }, "against", el("span", { class: "ramp" }), "towards", el("span", {}, "\u00a0 outlined: edited"));
  return section("heads", "Heads", null, el("div", { class: "figures" }, figure("What each head writes along the direction", "Mean contribution over the examples that the edit is to change, towards the direction that it removes. The strongest were edited.", [headMap(h.contributions, h.edited), scaleNote], table, true)));
}

function tablesSection(tables) {
  const own = (row) => row.slice(0, 2).some((text) => text === "edited");
  return section("tables", "Tables", "Also beside this page as Markdown, CSV and LaTeX.", el("div", { class: "tables" }, tables.map((t) => el("details", { class: "sheet", open: t.rows.length <= 12 }, el("summary", {}, el("h3", {}, t.title)),
    el("div", { class: "table-frame", tabindex: "0", role: "group", "aria-label": t.title }, el("table", {}, el("caption", { class: "unseen" }, t.title),
      el("thead", {}, el("tr", {}, t.columns.map((name, k) => el("th", { scope: "col", class: k >= t.labels ? "number" : null }, name)))),
      el("tbody", {}, t.rows.map((row) => el("tr", { class: own(row) ? (t.labels === 1 ? "own one" : "own") : null }, row.map((text, k) => el(k < t.labels ? "th" : "td", { scope: k < t.labels ? "row" : null, class: k >= t.labels ? "number" : null }, text))))))),
    el("p", { class: "muted small" }, t.note)))));
}

function againSection(s) {
  return section("again", "Do it again", null, s.commands.map((text) => {
    const button = el("button", { type: "button", class: "quiet copy", onclick: async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Select and copy"; }
    } }, "Copy");
    return el("div", { class: "command" }, el("pre", {}, el("code", {}, text)), button);
  }));
}
