// The questions with both models' answers side by side: searched, filtered, shown a page at a time.
const PAGE = 15;
const STATUSES = { truncated: "thought cut", unclosed: "thought not closed", absent: "no thought" };
const FLIPS = { won: "wrong " + ARROW + " right", lost: "right " + ARROW + " wrong", right: "right in both", wrong: "wrong in both", tied: "tied", correct: "right", failed: "wrong" };

function answersSection(rows) {
  const haystacks = rows.map((row) => [row.id, row.group, row.question, row.gold, row.task, ...row.arms.flatMap((a) => a.samples.flatMap((x) => [x.answer, x.thought, x.reply]))].join("\n").toLowerCase());
  const paired = rows.some((row) => row.arms.length > 1);
  const longest = Math.max(1, ...rows.flatMap((row) => row.arms.flatMap((a) => a.samples.map((x) => x.tokens || 0))));
  const list = el("div", { id: "questions" }), state = el("p", { class: "muted small", role: "status", "aria-live": "polite" });
  const more = el("button", { type: "button", class: "quiet more", onclick: () => { shown += PAGE; draw(); list.children[shown - PAGE]?.focus(); } });
  const search = el("input", { type: "search", id: "search", placeholder: "words of a question, thought or answer", autocomplete: "off", oninput: () => again() });
  const choice = (id, label, values, name) => (values.length > 1 ? el("label", {}, label, el("select", { id, onchange: () => again() }, el("option", { value: "" }, "all"), values.map((v) => el("option", { value: v }, name(v) + " (" + count(rows.filter((r) => r[id] === v).length) + ")")))) : null);
  const filters = [
    choice("flip", paired ? "Turned" : "Outcome", Object.keys(FLIPS).filter((f) => rows.some((r) => r.flip === f)), (f) => FLIPS[f]),
    choice("group", "Group", [...new Set(rows.map((r) => r.group).filter((g) => g !== null))], (g) => g),
    choice("task", "Task", [...new Set(rows.map((r) => r.task))], (t) => t),
  ];
  let shown = PAGE;
  const value = (label) => { const select = label && label.querySelector("select"); return select ? [select.id, select.value] : ["", ""]; };
  const again = () => { shown = PAGE; draw(); };
  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = filters.map(value).filter(([, v]) => v !== "");
    const found = rows.filter((row, k) => words.every((w) => haystacks[k].includes(w)) && wanted.every(([id, v]) => row[id] === v));
    list.replaceChildren(...found.slice(0, shown).map((row) => questionCard(row, words, longest)));
    state.textContent = found.length === rows.length ? plural(rows.length, "question") : count(found.length) + " of " + plural(rows.length, "question");
    more.hidden = found.length <= shown;
    more.textContent = "Show more (" + count(Math.max(0, found.length - shown)) + " left)";
  }
  draw();
  return section("answers", "Questions and answers", (paired ? "Every question that the edit turned, as far as they fit, and others spread evenly." : "As many questions as fit, spread evenly.") + " Long texts are cut where they say so.",
    el("div", { class: "filters", role: "search" }, el("label", { class: "grow" }, "Search", search), filters), state, list, more);
}

function questionCard(row, words, longest) {
  return el("article", { class: "question", tabindex: "-1" },
    el("div", { class: "about" }, !row.id.startsWith(row.task) && el("span", {}, row.task), el("span", {}, row.id), row.group !== null && el("span", {}, row.group), el("span", {}, "expected: ", el("bdi", {}, row.gold)),
      row.flip && el("span", { class: "flip " + row.flip }, FLIPS[row.flip] || row.flip)),
    el("h3", { dir: "auto" }, row.question ? marked(row.question, words) : el("span", { class: "muted" }, "The question was not kept.")),
    el("div", { class: "sides" }, row.arms.map((arm, k) => el("div", { class: "side", "--c": k ? "var(--edited)" : "var(--base)" }, el("h4", {}, arm.name), arm.samples.map((x) => sampleBlock(x, words, longest))))));
}

function sampleBlock(x, words, longest) {
  const sign = x.correct === true ? ["\u2713", "right", "correct"] : x.correct === false ? ["\u2717", "wrong", x.verdict || "wrong"] : ["?", "", x.verdict || "not graded"];
  const found = words.length > 0 && words.some((w) => x.thought.toLowerCase().includes(w) || x.reply.toLowerCase().includes(w));
  const tokens = x.status === "closed" ? (missing(x.tokens) ? "length not known" : plural(x.tokens, "token")) : STATUSES[x.status] + (missing(x.tokens) ? "" : ", " + plural(x.tokens, "token"));
  return el("div", { class: "sample" },
    el("p", { class: "answer" }, el("span", { class: "sign " + sign[1], "aria-hidden": "true" }, sign[0]), el("span", { class: "unseen" }, sign[2]),
      el("bdi", { class: "text" }, x.answer === "" ? el("span", { class: "muted" }, "no answer") : marked(x.answer, words)), sign[2] !== sign[1] && x.correct !== true && el("span", { class: "muted small" }, sign[2]), el("span", { class: "tokens" }, tokens)),
    x.status === "closed" && !missing(x.tokens) && el("div", { class: "meter", "aria-hidden": "true" }, meter(x.tokens / longest)),
    (x.thought || x.reply) ? el("details", { open: found }, el("summary", {}, x.thought ? "Thought and reply" : "Reply"),
      x.thought && el("div", { class: "prose", dir: "auto", tabindex: "0" }, marked(x.thought, words)), x.reply && el("div", { class: "prose", dir: "auto", tabindex: "0" }, marked(x.reply, words))) : el("p", { class: "muted small" }, "The text was not kept."));
}

function meter(share) {
  const bar = el("i", {});
  bar.style.width = (100 * share).toFixed(1) + "%";
  return bar;
}

// The text with the searched words marked: text nodes and mark elements, never markup.
function marked(text, words) {
  if (!words.length) return [text];
  const lower = text.toLowerCase(), out = [];
  if (lower.length !== text.length) return [text];
  let from = 0;
  while (from < text.length) {
    const next = words.map((w) => [lower.indexOf(w, from), w.length]).filter(([at]) => at >= 0).sort((a, b) => a[0] - b[0] || b[1] - a[1])[0];
    if (!next) break;
    out.push(text.slice(from, next[0]), el("mark", {}, text.slice(next[0], next[0] + next[1])));
    from = next[0] + next[1];
  }
  return [...out, text.slice(from)];
}
