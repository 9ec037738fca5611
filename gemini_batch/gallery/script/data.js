// The data of the page, and its elements, formats and totals. No part of the script makes markup from
// a string; the Content-Security-Policy forbids it. page.py joins the parts into one script.

const byId = (id) => document.getElementById(id);
const data = (id) => JSON.parse(byId(id).textContent);
const calls = data("calls");
const embedded = data("thumbnails");
const about = data("about");

const numbers = new Intl.NumberFormat("en-US");
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

// --- elements ---------------------------------------------------------------------------------------

/** Make an element. `properties` are attributes, except `text`; null children are left out. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return a link if it is a relative path: a second check after that of entries.py. A page that is
 * mailed has all its pictures, and no files next to it; the review serves its folder alone. */
function link(href) {
  if (typeof href !== "string" || !/^[\w.~%-][\w.~%/-]*$/.test(href)) return null;
  return about.is_mailed || (about.review && href.startsWith("../")) ? null : href;
}

function thumbnail(file) {
  const key = file && file.thumbnail;
  if (typeof key !== "string" || !/^[0-9a-f]{64}$/.test(key)) return null;
  const own = embedded[key];
  if (about.is_mailed) return own || null;
  return own || about.thumbnails.folder + key + about.thumbnails.suffix;
}

// --- formats ----------------------------------------------------------------------------------------

const count = (number, one, many) => `${numbers.format(number)} ${number === 1 ? one : many}`;

// Cents, and three digits below a dollar, as wording.py writes money.
function usd(amount) {
  if (amount === null) return "cost unknown";
  if (amount > 0 && amount < 0.0005) return "less than $0.001";
  const digits = amount > 0 && amount < 0.9995 ? 3 : 2;
  return `$${amount.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

function span(seconds) {
  if (seconds === null) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

function bytes(size) {
  if (size === null || size === undefined) return null;
  return size < 1e6 ? `${Math.ceil(size / 1e3)} kB` : `${(size / 1e6).toFixed(1)} MB`;
}

function moment(iso) {
  const date = new Date(iso);
  return iso && !Number.isNaN(date.getTime()) ? moments.format(date) : iso || "–";
}

const SMALLER = "smaller than asked for";
const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
const tokens = (call) => (call.tokens.total === null ? "–" : numbers.format(call.tokens.total));
const why = (call) => [call.reason, call.message].filter(Boolean).join(": ");

function status(call) {
  return make("span", { class: "status", "data-status": call.status, text: capital(call.status) });
}

// --- totals -----------------------------------------------------------------------------------------

function showTotals() {
  const { totals } = about;
  const tiles = [
    ["Calls", numbers.format(totals.calls), null],
    ["Pictures", numbers.format(totals.pictures), totals.missing ? `${numbers.format(totals.missing)} missing` : null],
    ["Tokens", numbers.format(totals.tokens), null],
    ["List price", usd(totals.cost_usd), beyondPrice(totals)],
  ];
  byId("totals").append(
    ...tiles.map(([name, value, note]) =>
      make("div", {}, make("dt", { text: name }), make("dd", {}, make("b", { text: value }), note && make("small", { text: note }))),
    ),
  );
  const when = totals.first_at && totals.last_at ? period(totals.first_at, totals.last_at) : null;
  const isSimulated = totals.calls > 0 && totals.simulated === totals.calls;
  const manifest = about.manifest && `of ${about.manifest.split("/").pop()}`;
  const parts = [manifest, when].filter(Boolean).map((text) => make("span", { dir: "auto", text }));
  byId("origin").append(...parts, ...(isSimulated ? [make("span", { class: "tag", text: "Simulated: nothing was paid" })] : []));
  if (totals.shown < totals.calls) {
    byId("notice").textContent = `Only the newest ${numbers.format(totals.shown)} of ${numbers.format(totals.calls)} calls are shown. The totals cover all calls; results.jsonl has all rows.`;
    byId("notice").hidden = false;
  }
  byId("end").textContent = `${about.out} · made by gemini_batch · ${about.is_mailed ? "the pictures are in this page, the files where it was made" : "pictures and rows are next to this page"}`;
}

/** Return what the list price does not include: calls of unknown cost, and superseded answers. */
function beyondPrice({ cost_usd, unpriced, all_rows }) {
  const unknown = (number) => (number ? `and ${count(number, "call", "calls")} of unknown cost` : null);
  const isMore = all_rows.cost_usd > cost_usd || all_rows.unpriced > unpriced;
  const total = isMore ? ["including superseded answers:", usd(all_rows.cost_usd), unknown(all_rows.unpriced)] : [];
  return [unknown(unpriced), total.filter(Boolean).join(" ")].filter(Boolean).join("; ") || null;
}

function period(first, last) {
  const [from, to] = [new Date(first), new Date(last)];
  if (Number.isNaN(from.getTime()) || Number.isNaN(to.getTime())) return null;
  return moments.formatRange(from, to);
}
