// Puts the page together from the data beside it.
(() => {
  const { summary, tables, questions } = JSON.parse(document.getElementById("data").textContent);
  const main = document.getElementById("main"), contents = document.getElementById("contents");
  document.title = "ThinkEdit report: " + summary.model;
  const parts = [
    ["Result", () => (summary.models ? modelsSection(summary) : resultSection(summary))],
    ["Method", !summary.models && (() => doneSection(summary))],
    ["Lengths", Object.values(summary.evaluation || {}).some(hasLengths) && (() => lengthSection(summary))],
    ["Steering", summary.steering && (() => steeringSection(summary))],
    ["Layers", summary.layer_scan && (() => scanSection(summary))],
    ["Heads", summary.heads && (() => headsSection(summary))],
    ["Tables", tables.length && (() => tablesSection(tables))],
    ["Answers", questions.length && (() => answersSection(questions))],
    ["Again", summary.commands && (() => againSection(summary))],
  ];
  const links = new Map();
  for (const [name, make] of parts) {
    if (!make) continue;
    const node = make();
    main.append(node);
    const link = el("a", { href: "#" + node.id }, name);
    links.set(node, link);
    contents.append(link);
  }
  const st = summary.statistics;
  document.getElementById("footer").append(el("p", {}, `Intervals are ${number(st.level * 100, 0)} % bootstrap intervals over questions (${count(st.resamples)} resamples; ${st.interval}): a question's samples stay together, and both models answer the same questions. ${summary.models ? "Each model's verdict rests" : "The verdict rests"} on one figure, named beforehand: the paired difference in accuracy over all questions. The other intervals are not corrected for being many. Lengths are tokens from the opening to the closing tag and belong to closed thoughts only.`));

  const redraw = (width) => document.querySelectorAll(".canvas").forEach((box) => box.refresh(width && width(box)));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll(".sheet").forEach((sheet) => { sheet.open = true; });
    redraw((box) => (box.closest(".full") ? 640 : 300)); // as wide as on paper, so that the letters are as large
  });
  window.addEventListener("afterprint", () => redraw());
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) for (const [node, link] of links) node === entry.target ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const node of links.keys()) seen.observe(node);

  const button = document.getElementById("theme"), order = ["auto", "light", "dark"];
  const keep = (value) => { try { if (value) localStorage.setItem("thinkedit-theme", value); return localStorage.getItem("thinkedit-theme"); } catch { return value; } };
  const set = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
    button.setAttribute("aria-label", "Colours: " + theme + ". Press to change.");
    button.onclick = () => { const next = order[(order.indexOf(theme) + 1) % 3]; keep(next); set(next); };
  };
  set(order.includes(keep()) ? keep() : "auto");
})();
