// The two views of many calls: a grid of pictures, and a table.

const NO_PREVIEW = "No preview: open the file";

// --- grid -------------------------------------------------------------------------------------------

class GridView extends PagedView {
  show() {
    super.show();
    this.#measure(); // at once: a page without its height would move what the user looks at
    this.resized = new ResizeObserver(() => this.#fit());
    this.resized.observe(this.root);
  }

  end() {
    if (this.resized) this.resized.disconnect();
    super.end();
  }

  emptyPage(length, start) {
    const page = make("ol", { class: "page", "aria-label": `Calls ${start + 1} to ${start + length}` });
    page.dataset.length = length;
    return page;
  }

  place(pages) {
    this.root.replaceChildren(...pages);
  }

  filled(page, items) {
    page.append(...items);
    page.style.minBlockSize = "";
  }

  item(call, index) {
    const image = call.images[0] || null;
    const href = image && link(image.href);
    const name = `${call.id}, ${call.status}`;
    const properties = { class: "open", "data-index": index, "aria-label": name };
    const opener = href ? make("a", { ...properties, href }) : make("button", { ...properties, type: "button" });
    opener.append(mat(call, image));
    return make(
      "li",
      { class: "card", "aria-setsize": shown.length, "aria-posinset": index + 1 },
      opener,
      make("p", { class: "id", dir: "auto", title: call.id, text: call.id }),
      make("p", { class: "prompt", dir: "auto", text: call.prompt || "no prompt" }),
      make(
        "p",
        { class: "meta" },
        make("span", { text: usd(call.cost_usd) + (call.route === "batch" ? " by batch" : "") }),
        make("span", { text: span(call.latency_s) }),
        make("span", { text: `${tokens(call)} tokens` }),
      ),
    );
  }

  columns() {
    const page = this.pages[0];
    return page ? getComputedStyle(page).gridTemplateColumns.split(" ").length : 1;
  }

  callsAPage() {
    const probe = this.emptyPage(1, 0);
    this.root.replaceChildren(probe);
    return ROWS * getComputedStyle(probe).gridTemplateColumns.split(" ").length;
  }

  /** Divide the calls again if another number fits into a row. */
  #fit() {
    if (this.pages.length && this.columns() * ROWS !== this.length && !matchMedia("print").matches) inPlace(update);
    else this.#measure();
  }

  /** Give pages that are not filled or not drawn their future height. */
  #measure() {
    const card = this.root.querySelector(".card");
    if (!card) return;
    const columns = this.columns();
    const style = getComputedStyle(this.pages[0]);
    const gap = Number.parseFloat(style.rowGap);
    const padding = Number.parseFloat(style.paddingTop) + Number.parseFloat(style.paddingBottom);
    const height = card.getBoundingClientRect().height;
    this.pages.forEach((page, number) => {
      const rows = Math.ceil(page.dataset.length / columns);
      const inner = rows * height + (rows - 1) * gap;
      page.style.containIntrinsicBlockSize = `${inner}px`;
      if (!this.isFilled[number]) page.style.minBlockSize = `${inner + padding}px`;
    });
  }
}

/** The picture of a call on its card, or the reason why there is none. */
function mat(call, image) {
  if (!image) {
    return make(
      "span",
      { class: "mat none", "data-status": call.status },
      make("strong", { text: call.status === "succeeded" ? "No picture" : capital(call.status) }),
      make("span", { class: "why", dir: "auto", text: call.reason || "" }),
    );
  }
  if (image.is_missing) {
    return make("span", { class: "mat none" }, make("strong", { text: "Missing" }), make("span", { class: "why", dir: "auto", text: image.path }));
  }
  const box = make("span", { class: "mat" }, picture(image) || make("span", { class: "why", text: NO_PREVIEW }));
  const input = call.inputs.find((file) => thumbnail(file));
  if (input) {
    const small = picture(input);
    small.className = "input";
    box.append(small);
  }
  const notes = [call.inputs.length > 1 && input && `${call.inputs.length} inputs`, call.is_smaller && SMALLER].filter(Boolean);
  if (notes.length) box.append(make("span", { class: "badge left", text: notes.join(", ") }));
  if (call.drafts.length) box.append(make("span", { class: "badge", text: count(call.drafts.length, "draft", "drafts") }));
  const mark = markBadge(call);
  if (mark) box.append(mark);
  return box;
}

/** A thumbnail, which `loadPictures` loads; null if there is none. */
function picture(file, alt = "") {
  const source = thumbnail(file);
  if (!source) return null;
  const image = make("img", { alt, decoding: "async", "data-src": source });
  const whole = link(file.href);
  // The folder of thumbnails is missing, a server hides it, or none can be made: use the picture itself.
  image.addEventListener("error", () => {
    if (whole && image.getAttribute("src") !== whole) image.setAttribute("src", whole);
    else image.replaceWith(make("span", { class: "why", text: NO_PREVIEW }));
  });
  return image;
}

// --- table ------------------------------------------------------------------------------------------

// Rows are grids and bodies are blocks, so that a browser lays out only the visible ones: a real table
// of 2,000 rows took 50 ms a frame. Table elements lose their meaning by this; the roles restore it.

const COLUMNS = [
  ["Picture", null, "look"],
  ["Id", "id", "id"],
  ["Status", "status", "state"],
  ["Prompt", "prompt", "prompt"],
  ["Tokens", "tokens", "number"],
  ["Cost", "cost_usd", "number"],
  ["Duration", "latency_s", "number"],
  ["Finished", "finished_at", "when"],
  ["Model", "model", "model"],
];

class TableView extends PagedView {
  emptyPage(length) {
    const page = make("tbody", { role: "rowgroup" });
    const size = `${length * rowHeight()}px`;
    page.style.containIntrinsicBlockSize = size;
    page.style.minBlockSize = size;
    return page;
  }

  place(pages) {
    const heads = COLUMNS.map(([label, key, kind]) => {
      const direction = wanted.isDescending ? "descending" : "ascending";
      return make(
        "th",
        { role: "columnheader", class: kind, "aria-sort": wanted.sort === key ? direction : null },
        key === null ? make("span", { class: "unseen", text: label }) : make("button", { type: "button", "data-sort": key, text: label }),
      );
    });
    const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row", "aria-rowindex": 1 }, ...heads));
    this.root.replaceChildren(make("table", { role: "table", "aria-label": "Calls", "aria-rowcount": shown.length + 1 }, head, ...pages));
  }

  filled(page, items) {
    page.replaceChildren(...items);
  }

  item(call, index) {
    const image = call.images[0] || call.drafts[0] || null;
    const note = why(call);
    const cell = (properties, ...children) => make("td", { role: "cell", ...properties }, ...children);
    return make(
      "tr",
      { role: "row", "aria-rowindex": index + 2 },
      cell({ class: "look" }, image && !image.is_missing ? picture(image) : null),
      make("th", { role: "rowheader", class: "id" }, make("button", { type: "button", class: "open", "data-index": index, dir: "auto", title: call.id, text: call.id })),
      cell({ class: "state" }, status(call), markText(call) ? make("small", { text: markText(call) }) : image && image.is_missing ? make("small", { text: "picture missing" }) : call.is_smaller ? make("small", { text: SMALLER }) : note ? make("small", { dir: "auto", title: note, text: note }) : null),
      cell({ class: "prompt" }, make("span", { dir: "auto", text: call.prompt || "" })),
      cell({ class: "number", text: tokens(call) }),
      cell({ class: "number", text: call.cost_usd === null ? "unknown" : usd(call.cost_usd) }),
      cell({ class: "number", text: span(call.latency_s) }),
      cell({ class: "when", text: moment(call.finished_at) }),
      cell({ class: "model", dir: "auto", title: call.model, text: call.model || "" }),
    );
  }

  columns() {
    return 1;
  }

  callsAPage() {
    return 10 * ROWS;
  }
}

const rowHeight = () => Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
