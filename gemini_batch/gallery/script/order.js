// Filter and order of the calls, and their division into pages.

const ROWS = 3; // of a page: a browser lays out a page at once, in a small part of a frame
const NEAR = "1400px 0px"; // distance from the window at which a page is filled
const FILL_AHEAD = 3000; // calls that are filled in idle time, for the browser's own search

const RANK = ["succeeded", "blocked", "rejected", "failed", "uncertain", "lost"];
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const KEYS = {
  line: (call) => call.line,
  finished_at: (call) => call.finished_at,
  id: (call) => call.id,
  status: (call) => RANK.indexOf(call.status),
  prompt: (call) => call.prompt,
  model: (call) => call.model,
  tokens: (call) => call.tokens.total,
  cost_usd: (call) => call.cost_usd,
  latency_s: (call) => call.latency_s,
};
const TILES = ["small", "medium", "large"];
const wanted = {
  terms: [],
  statuses: new Set(),
  marks: new Set(),
  group: "",
  values: new Set(), // of the group
  sort: "line",
  isDescending: false,
  view: "grid",
  tiles: "medium",
};
const searchable = new Array(calls.length);
let shown = []; // indexes in `calls`, in the order of the page

function haystack(place) {
  if (searchable[place] === undefined) {
    const call = calls[place];
    const files = [...call.images, ...call.inputs].map((file) => file.path);
    searchable[place] = [call.id, call.prompt, call.text, call.status, call.reason, call.message, call.model, call.route, call.is_smaller && SMALLER, call.metadata, ...files]
      .filter(Boolean)
      .join("\n")
      .toLowerCase();
  }
  return searchable[place];
}

function matches(place) {
  const call = calls[place];
  if (wanted.statuses.size && !wanted.statuses.has(call.status)) return false;
  if (wanted.marks.size && !wanted.marks.has(markName(call))) return false;
  if (wanted.values.size && !wanted.values.has(groupOf(call))) return false;
  return wanted.terms.length === 0 || wanted.terms.every((term) => haystack(place).includes(term));
}

/** Sort indexes; calls without a value come last in both directions. */
function sorted(places) {
  const key = KEYS[wanted.sort];
  const turn = wanted.isDescending ? -1 : 1;
  const values = new Map(places.map((place) => [place, key(calls[place])]));
  const compare = (a, b) => (typeof a === "string" && typeof b === "string" ? collator.compare(a, b) : a - b);
  const byTime = (a, b) => (a < b ? -1 : Number(a > b));
  const order = wanted.sort === "finished_at" ? byTime : compare;
  // The variants of a line in their order: robot, robot.2, robot.10.
  const last = wanted.sort === "line" ? (one, other) => collator.compare(calls[one].id, calls[other].id) : (one, other) => one - other;
  return places.sort((one, other) => {
    const byGroup = wanted.group ? collator.compare(groupOf(calls[one]), groupOf(calls[other])) : 0;
    if (byGroup) return byGroup;
    const [a, b] = [values.get(one), values.get(other)];
    if (a === null || b === null) return Number(a === null) - Number(b === null) || one - other;
    return turn * order(a, b) || last(one, other);
  });
}

function update() {
  shown = sorted([...calls.keys()].filter(matches));
  byId("count").textContent =
    shown.length === calls.length ? count(calls.length, "call", "calls") : `${numbers.format(shown.length)} of ${count(calls.length, "call", "calls")}`;
  byId("empty").hidden = shown.length > 0;
  const isTable = wanted.view === "table";
  byId("grid").hidden = isTable;
  byId("table").hidden = !isTable || shown.length === 0;
  byId("as-grid").setAttribute("aria-pressed", String(!isTable));
  byId("as-table").setAttribute("aria-pressed", String(isTable));
  byId("sort").value = wanted.sort;
  byId("direction").setAttribute("aria-pressed", String(wanted.isDescending));
  byId("grid").dataset.tiles = wanted.tiles;
  if (current) current.end();
  current = isTable ? new TableView(byId("table")) : new GridView(byId("grid"));
  current.show();
  remember();
}

// --- pages of calls ---------------------------------------------------------------------------------
// A page is an empty box of the right height until it is near the window; then it stays filled. Its
// pictures are loaded only then: a browser looks at each lazy image in each frame.

class PagedView {
  constructor(root) {
    this.root = root;
    this.pages = [];
    this.isFilled = [];
    this.length = 0; // calls of a page
    this.observer = new IntersectionObserver((entries) => this.#cameNear(entries), { rootMargin: NEAR });
  }

  show() {
    this.length = this.callsAPage();
    for (let start = 0; start < shown.length; start += this.length) this.pages.push(this.emptyPage(Math.min(this.length, shown.length - start), start));
    this.isFilled = this.pages.map(() => false);
    this.place(this.pages);
    this.pages.forEach((page, number) => {
      page.dataset.page = number;
      this.observer.observe(page);
    });
    if (this.pages.length) this.#near(0);
    whenIdle((deadline) => this.#fillAhead(deadline, 1));
  }

  end() {
    this.observer.disconnect();
    this.root.replaceChildren();
    this.pages = [];
  }

  /** Fill a page unless it is filled. */
  fill(number) {
    if (this.isFilled[number] !== false) return;
    this.isFilled[number] = true;
    const start = number * this.length;
    const items = shown.slice(start, start + this.length).map((place, offset) => this.item(calls[place], start + offset));
    this.filled(this.pages[number], items);
  }

  fillAll(most) {
    for (let number = 0; number < this.pages.length && number * this.length < most; number += 1) this.#near(number);
  }

  /** Return the element that opens the call at an index of `shown`. */
  opener(index) {
    this.#near(Math.floor(index / this.length));
    return this.root.querySelector(`[data-index="${index}"]`);
  }

  /** Draw the item of a call again; the focus stays. */
  refresh(index) {
    const opener = this.root.querySelector(`[data-index="${index}"]`);
    if (!opener) return;
    const hadFocus = opener === document.activeElement;
    const item = this.item(calls[shown[index]], index);
    loadPictures(item);
    opener.closest("li, tr").replaceWith(item);
    if (hadFocus) item.querySelector(".open").focus({ preventScroll: true });
  }

  #cameNear(entries) {
    for (const seen of entries) if (seen.isIntersecting) this.#near(Number(seen.target.dataset.page));
  }

  #near(number) {
    this.fill(number);
    this.observer.unobserve(this.pages[number]);
    loadPictures(this.pages[number]);
  }

  #fillAhead(deadline, from) {
    if (current !== this) return;
    let number = from;
    while (number < this.pages.length && this.isFilled[number]) number += 1;
    if (number >= this.pages.length || number * this.length >= FILL_AHEAD) return;
    if (deadline.timeRemaining() > 8) this.fill(number);
    whenIdle((next) => this.#fillAhead(next, number));
  }
}

/** Load the pictures of an element. */
function loadPictures(element) {
  for (const image of element.querySelectorAll("img[data-src]")) {
    image.setAttribute("src", image.dataset.src);
    image.removeAttribute("data-src");
  }
}

let current = null; // the visible view

const whenIdle = window.requestIdleCallback
  ? (work) => window.requestIdleCallback(work)
  : (work) => setTimeout(() => work({ timeRemaining: () => 10 }), 50);
