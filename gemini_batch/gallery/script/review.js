// The page of a review: marks and notes go to the server that it comes from, new calls come from it.

const LOOK_EVERY_MS = 2000;
const HIDDEN_EVERY_MS = 10000;
const others = about.review ? new BroadcastChannel(`gemini_batch ${location.pathname}`) : null;
let lastId = null; // of the call that had the focus last
let after = about.review ? about.review.after : null;

function say(text) {
  byId("said").textContent = text;
  byId("said").hidden = !text;
}

async function send(name, body) {
  const answer = await fetch(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

/** Set a mark: shown at once, and taken back if it can't be saved. */
async function setMark(index, change) {
  const call = calls[shown[index]];
  const [image] = call.images;
  if (!image) return;
  const before = markOf(call);
  const mark = { id: call.id, sha256: image.sha256, choice: before.choice, rating: before.rating, rows_bytes: Math.max(after, call.place + 1), ...change };
  showMark(mark);
  try {
    await send("marks", mark);
    others.postMessage(mark);
    say("");
  } catch (error) {
    showMark({ ...mark, choice: before.choice, rating: before.rating });
    say(`${call.id}: the mark is not saved: ${error.message}`);
  }
}

function showMark(mark) {
  marks.set(markKey(mark.id, mark.sha256), mark);
  showMarkChips();
  const index = shown.findIndex((place) => calls[place].id === mark.id);
  if (index < 0) return;
  current.refresh(index);
  if (open === index) byId("facts").replaceChildren(...facts(calls[shown[index]]));
}

/** Mark the call of a key event; return whether it was one. */
function markByKey(key, index) {
  const choice = { p: "pick", x: "discard", u: null }[key];
  if (choice !== undefined) {
    setMark(index, choice === null ? NO_MARK : { choice });
    if (choice !== null) (viewer.open ? show : focusCall)(Math.min(index + 1, shown.length - 1));
    return true;
  }
  if (!/^[0-5]$/.test(key)) return false;
  setMark(index, { rating: Number(key) || null });
  return true;
}

function reviewKeys(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  const opener = event.target.closest(".open");
  // A click elsewhere takes the focus away; the keys stay with the last call.
  const index = viewer.open ? open : opener ? Number(opener.dataset.index) : shown.findIndex((place) => calls[place].id === lastId);
  if (index < 0) return;
  if (event.key === "n" && viewer.open) startNote();
  else if (!markByKey(event.key, index)) return;
  event.preventDefault();
}

function startNote() {
  if (!calls[shown[open]].images.length) return;
  byId("note").hidden = false;
  byId("note-text").focus();
}

async function sendNote(event) {
  event.preventDefault();
  const call = calls[shown[open]];
  const note = byId("note-text").value.trim();
  if (!note) return;
  try {
    const { manifest } = await send("notes", { id: call.id, sha256: call.images[0].sha256, note });
    byId("note-said").textContent = `Added to ${manifest}`;
    byId("note-text").value = "";
  } catch (error) {
    byId("note-said").textContent = `Not added: ${error.message}`;
  }
}

/** Ask for the calls that finished since the last look. */
async function look() {
  let wait = document.hidden ? HIDDEN_EVERY_MS : LOOK_EVERY_MS;
  try {
    const answer = await fetch(`changes?after=${after}`);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const found = await answer.json();
    if (found.after === null) {
      say("The rows were replaced; reload the page.");
      return;
    }
    after = found.after;
    if (found.calls.length) {
      merge(found.calls);
      wait = 100; // there may be more
    }
    showRun(found.run);
  } catch {
    say("The review has ended, so marks can't be saved. Start it again, and open the address that it prints.");
    wait = HIDDEN_EVERY_MS;
  }
  setTimeout(look, wait);
}

/** Put new calls on the page; the newest of an id replaces the others. */
function merge(found) {
  const openId = open >= 0 ? calls[shown[open]].id : null;
  const places = new Map(calls.map((call, place) => [call.id, place]));
  for (const call of found) {
    const place = places.get(call.id) ?? calls.length;
    if (calls[place] && calls[place].images.length) call.earlier = [...calls[place].earlier];
    calls[place] = call;
    searchable[place] = undefined;
    places.set(call.id, place);
  }
  showMarkChips();
  showStatusChips();
  showGroups();
  inPlace(update);
  if (openId !== null) open = shown.findIndex((place) => calls[place].id === openId);
}

/** Return what opens a call in the middle of the window; null if there is none. */
function openerInView() {
  for (const share of [0.5, 0.4, 0.6, 0.3, 0.7]) {
    const found = document.elementFromPoint(innerWidth * share, innerHeight * share);
    const item = found && found.closest("#grid li, tbody tr");
    if (item) return item.querySelector(".open");
  }
  return null;
}

/** Do what draws all calls again; what the user looks at stays where it is, and the focus on its call. */
function inPlace(work) {
  const idOf = (opener) => opener && calls[shown[Number(opener.dataset.index)]].id;
  const indexOf = (id) => shown.findIndex((place) => calls[place].id === id);
  const focused = idOf(document.activeElement && document.activeElement.closest(".open"));
  const seen = openerInView();
  const [seenId, top] = seen ? [idOf(seen), seen.getBoundingClientRect().top] : [null, 0];
  work();
  if (seenId !== null && indexOf(seenId) >= 0) scrollBy(0, current.opener(indexOf(seenId)).getBoundingClientRect().top - top);
  if (focused && indexOf(focused) >= 0) current.opener(indexOf(focused)).focus({ preventScroll: true });
}

function showRun(run) {
  byId("run").hidden = run === null;
  if (run === null) return;
  const done = calls.filter((call) => run.started_at && call.finished_at >= run.started_at).length;
  byId("run").textContent = run.left === null ? `A run is in progress (${run.process})` : `A run is in progress: ${numbers.format(done)} of ${count(run.left, "call", "calls")} done (${run.process})`;
}

function startReview() {
  byId("note").addEventListener("submit", sendNote);
  document.addEventListener("keydown", reviewKeys);
  document.addEventListener("focusin", (event) => {
    const opener = event.target.closest(".open");
    if (opener) lastId = calls[shown[Number(opener.dataset.index)]].id;
  });
  others.addEventListener("message", (event) => showMark(event.data));
  setTimeout(look, LOOK_EVERY_MS);
  if (shown.length) current.opener(0).focus({ preventScroll: true }); // keys mark from the start
}
