// The state of the page in its address, so that a link and a reload keep it.

/** Write the filter, the order, the view and the open call into the address. */
function remember() {
  const state = new URLSearchParams();
  const put = (name, value, usual = "") => value !== usual && state.set(name, value);
  put("q", wanted.terms.join(" "));
  for (const name of ["statuses", "marks", "values"]) for (const value of wanted[name]) state.append(name, value);
  put("group", wanted.group);
  put("sort", wanted.sort, "line");
  put("down", wanted.isDescending ? "1" : "");
  put("view", wanted.view, "grid");
  put("tiles", wanted.tiles, "medium");
  if (open >= 0) put("open", calls[shown[open]].id);
  const text = String(state);
  try {
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  } catch {
    // A browser may refuse for local files, or after many changes; the page works without.
  }
}

/** Take the state from the address; return the id of the call to open. */
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  const one = (name, allowed, usual) => (allowed.includes(state.get(name)) ? state.get(name) : usual);
  wanted.terms = (state.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  for (const name of ["statuses", "marks", "values"]) for (const value of state.getAll(name)) wanted[name].add(value);
  wanted.group = state.get("group") || "";
  wanted.sort = one("sort", Object.keys(KEYS), "line");
  wanted.isDescending = state.get("down") === "1";
  wanted.view = one("view", ["grid", "table"], "grid");
  wanted.tiles = one("tiles", TILES, "medium");
  byId("text").value = wanted.terms.join(" ");
  return state.get("open");
}
