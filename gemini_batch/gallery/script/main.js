// Event handlers, and the start of the page.

const MAX_PRINTED = 5000; // calls

/** Move the focus from call to call with the arrow keys. */
function walk(event) {
  const opener = event.target.closest(".open");
  if (!opener || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const index = Number(opener.dataset.index);
  const down = current.columns();
  const isTable = wanted.view === "table";
  const to = {
    ArrowLeft: isTable ? undefined : index - 1,
    ArrowRight: isTable ? undefined : index + 1,
    ArrowUp: index - down,
    ArrowDown: index + down,
    Home: 0,
    End: shown.length - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  focusCall(Math.max(0, Math.min(shown.length - 1, to)));
}

function focusCall(index) {
  const opener = current.opener(index);
  if (!opener) return;
  opener.focus({ preventScroll: true });
  opener.closest("li, tr").scrollIntoView({ block: "nearest" });
}

function opened(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button > 0) return; // opens a new tab, like any link
  const opener = event.target.closest(".open");
  if (!opener) return;
  event.preventDefault();
  show(Number(opener.dataset.index));
}

function chips() {
  const tally = new Map();
  for (const call of calls) tally.set(call.status, (tally.get(call.status) || 0) + 1);
  for (const name of RANK) {
    if (!tally.has(name)) continue;
    const box = make("input", { type: "checkbox", value: name });
    box.addEventListener("change", () => {
      if (box.checked) wanted.statuses.add(name);
      else wanted.statuses.delete(name);
      update();
    });
    byId("statuses").append(
      make("label", { class: "chip", "data-status": name }, box, make("span", { class: "name", text: capital(name) }), make("span", { class: "tally", text: numbers.format(tally.get(name)) })),
    );
  }
}

function sortBy(key) {
  wanted.isDescending = wanted.sort === key ? !wanted.isDescending : false;
  wanted.sort = key;
  update();
  const head = byId("table").querySelector(`[data-sort="${key}"]`);
  if (head) head.focus();
}

function reset() {
  wanted.terms = [];
  wanted.statuses.clear();
  byId("text").value = "";
  for (const box of byId("statuses").querySelectorAll("input")) box.checked = false;
  update();
  byId("text").focus();
}

function setTheme(theme) {
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (theme) document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-pressed", String(isDark));
}

/** Store the theme; a browser may store nothing for local files, so it lasts until the page closes. */
function remembered(theme) {
  try {
    if (theme) localStorage.setItem("gemini_batch.theme", theme);
    const found = localStorage.getItem("gemini_batch.theme");
    return found === "dark" || found === "light" ? found : null;
  } catch {
    return theme || null;
  }
}

function listen() {
  let typing = 0;
  byId("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      wanted.terms = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
      update();
    }, 120);
  });
  byId("sort").addEventListener("change", () => {
    wanted.sort = byId("sort").value;
    update();
  });
  byId("direction").addEventListener("click", () => {
    wanted.isDescending = !wanted.isDescending;
    update();
  });
  for (const name of ["grid", "table"]) {
    byId(`as-${name}`).addEventListener("click", () => {
      wanted.view = name;
      update();
    });
    byId(name).addEventListener("click", opened);
    byId(name).addEventListener("keydown", walk);
  }
  byId("table").addEventListener("click", (event) => {
    const head = event.target.closest("[data-sort]");
    if (head) sortBy(head.dataset.sort);
  });
  byId("reset").addEventListener("click", reset);
  byId("theme").addEventListener("click", () => {
    const isDark = byId("theme").getAttribute("aria-pressed") === "true";
    setTheme(remembered(isDark ? "light" : "dark"));
  });
  byId("previous").addEventListener("click", () => show(open - 1));
  byId("next").addEventListener("click", () => show(open + 1));
  byId("close").addEventListener("click", closeViewer);
  viewer.addEventListener("keydown", step);
  viewer.addEventListener("keydown", keepFocus);
  viewer.addEventListener("cancel", (event) => {
    event.preventDefault();
    closeViewer();
  });
  viewer.addEventListener("close", closeViewer); // closed by the browser itself
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || viewer.open || event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    byId("text").focus();
  });
  addEventListener("beforeprint", () => current.fillAll(MAX_PRINTED));
  new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${byId("bar").offsetHeight}px`)).observe(byId("bar"));
}

setTheme(remembered(null));
showTotals();
chips();
listen();
if (!calls.length) byId("empty").textContent = "No call has finished yet.";
update();
