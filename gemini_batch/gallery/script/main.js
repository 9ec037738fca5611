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

function showStatusChips() {
  const tally = new Map();
  for (const call of calls) tally.set(call.status, (tally.get(call.status) || 0) + 1);
  byId("statuses").replaceChildren(
    make("legend", { class: "unseen", text: "Show only calls with status" }),
    ...RANK.filter((name) => tally.has(name)).map((name) => chip(wanted.statuses, name, capital(name), tally.get(name), { "data-status": name })),
  );
}

/** Show how many are picked, discarded and unmarked, where marks are set or there are some. */
function showMarkChips() {
  const tally = new Map([["picked", 0], ["discarded", 0], ["unmarked", 0]]);
  for (const call of calls) if (call.images.length) tally.set(markName(call), tally.get(markName(call)) + 1);
  byId("marks").hidden = !about.review && !marks.size;
  const focused = document.activeElement && byId("marks").contains(document.activeElement) ? document.activeElement.value : null;
  byId("marks").replaceChildren(
    make("legend", { class: "unseen", text: "Show only pictures with a mark" }),
    ...[...tally].map(([name, number]) => chip(wanted.marks, name, capital(name), number)),
  );
  const again = focused && byId("marks").querySelector(`input[value="${focused}"]`);
  if (again) again.focus();
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
  for (const name of ["statuses", "marks", "values"]) wanted[name].clear();
  byId("text").value = "";
  for (const box of byId("bar").querySelectorAll("input[type=checkbox]")) box.checked = false;
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
  byId("group").addEventListener("change", () => {
    wanted.group = byId("group").value;
    wanted.values.clear();
    showValues();
    update();
  });
  byId("tiles").addEventListener("click", () => {
    wanted.tiles = TILES[(TILES.indexOf(wanted.tiles) + 1) % TILES.length];
    update();
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
  viewer.addEventListener("keydown", viewerKeys);
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
const asked = recall();
showStatusChips();
showMarkChips();
showGroups();
listen();
if (!calls.length) byId("empty").textContent = "No call has finished yet.";
update();
if (about.review) startReview();
byId("keys-of-review").hidden = byId("hint").hidden = !about.review;
if (asked !== null) show(shown.findIndex((place) => calls[place].id === asked));
