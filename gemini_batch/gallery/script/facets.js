// Groups of calls: by the folder of their id, or by a field of their metadata.

const MAX_KEYS = 30; // fields of metadata that can be chosen
const MAX_VALUES = 60; // values that are shown; the search finds the others
const FOLDER = "folder";
const groups = new Map(); // call -> its fields, read once

function fieldsOf(call) {
  if (!groups.has(call)) {
    const slash = call.id.lastIndexOf("/");
    const fields = new Map([[FOLDER, slash < 0 ? "" : call.id.slice(0, slash)]]);
    for (const [name, value] of Object.entries(metadataOf(call))) {
      if (value !== null && typeof value !== "object") fields.set(`metadata.${name}`, String(value));
    }
    groups.set(call, fields);
  }
  return groups.get(call);
}

function metadataOf(call) {
  try {
    const found = JSON.parse(call.metadata || "{}");
    return found !== null && typeof found === "object" ? found : {};
  } catch {
    return {}; // it was too long
  }
}

const groupOf = (call) => (wanted.group ? fieldsOf(call).get(wanted.group) ?? "" : "");

/** Fill the list of what calls can be grouped by; hide it if there is nothing. */
function showGroups() {
  const keys = new Map();
  for (const call of calls) {
    for (const [key, value] of fieldsOf(call)) {
      if (!keys.has(key)) keys.set(key, new Set());
      keys.get(key).add(value);
    }
  }
  const useful = [...keys].filter(([, values]) => values.size > 1).slice(0, MAX_KEYS);
  const options = useful.map(([key]) => make("option", { value: key, text: key === FOLDER ? "Folder of the id" : key.slice("metadata.".length) }));
  byId("group").replaceChildren(make("option", { value: "", text: "No groups" }), ...options);
  byId("group").closest("label").hidden = !useful.length;
  if (!useful.some(([key]) => key === wanted.group)) wanted.group = "";
  byId("group").value = wanted.group;
  showValues();
}

function showValues() {
  const tally = new Map();
  if (wanted.group) for (const call of calls) tally.set(groupOf(call), (tally.get(groupOf(call)) || 0) + 1);
  const values = [...tally].sort(([a], [b]) => collator.compare(a, b)).slice(0, MAX_VALUES);
  byId("values").replaceChildren(
    make("legend", { class: "unseen", text: "Show only calls of the group" }),
    ...values.map(([value, number]) => chip(wanted.values, value, value || "none", number)),
  );
  byId("values").hidden = !values.length;
}

/** Return a box that adds a value to a set of the filter. */
function chip(chosen, value, name, number, properties = {}) {
  const box = make("input", { type: "checkbox", value, checked: chosen.has(value) });
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(value);
    else chosen.delete(value);
    update();
  });
  return make("label", { class: "chip", ...properties }, box, make("span", { class: "name", dir: "auto", text: name }), make("span", { class: "tally", text: numbers.format(number) }));
}
