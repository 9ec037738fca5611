"use strict";
// The gallery's one script. All that it shows comes from the JSON blocks and goes into the document as text: nothing here makes
// markup of a string, and the page's Content-Security-Policy would not let it.
(() => {
  const PAGE = 60; // cards filled in at a time; a multiple of every number of columns, 1 to 6
  const NEAR = "1400px 0px"; // how far ahead of the window
  const FILL_AHEAD = 3000; // so many calls are filled in while nothing else is to be done, for the browser's own search
  const PRINTED = 5000;

  const byId = (id) => document.getElementById(id);
  const data = (id) => JSON.parse(byId(id).textContent);
  const calls = data("calls");
  const embedded = data("thumbnails");
  const about = data("about");

  const numbers = new Intl.NumberFormat("en-US");
  const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

  // --- making elements ------------------------------------------------------------------------------------------------

  /** Make an element. `properties` are set as attributes, but for `text`; children that are null are left out. */
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

  /** Return a link of the data if it is a relative path and nothing else; the data has been checked, this is the second lock. */
  function link(href) {
    return typeof href === "string" && /^[\w.~%-][\w.~%/-]*$/.test(href) ? href : null;
  }

  function thumbnail(file) {
    const key = file && file.thumbnail;
    if (typeof key !== "string" || !/^[0-9a-f]{64}$/.test(key)) return null;
    const own = embedded[key];
    return own || about.thumbnails.folder + key + about.thumbnails.suffix;
  }

  // --- words ----------------------------------------------------------------------------------------------------------

  const count = (number, one, many) => `${numbers.format(number)} ${number === 1 ? one : many}`;

  function usd(amount) {
    if (amount === null) return "cost unknown";
    if (amount === 0) return "$0";
    return amount >= 1 ? `$${amount.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}` : `$${amount.toFixed(4)}`;
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

  const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
  const tokens = (call) => (call.tokens.total === null ? "–" : numbers.format(call.tokens.total));
  const why = (call) => [call.reason, call.message].filter(Boolean).join(": ");

  function status(call) {
    return make("span", { class: "status", "data-status": call.status, text: capital(call.status) });
  }

  // --- totals ---------------------------------------------------------------------------------------------------------

  function showTotals() {
    const { totals } = about;
    const tiles = [
      ["Calls", numbers.format(totals.calls), null],
      ["Pictures", numbers.format(totals.pictures), totals.missing ? `${numbers.format(totals.missing)} missing` : null],
      ["Tokens", numbers.format(totals.tokens), null],
      ["List price", usd(totals.cost_usd), totals.unpriced ? `and ${count(totals.unpriced, "call", "calls")} of unknown cost` : null],
    ];
    byId("totals").append(
      ...tiles.map(([name, value, note]) =>
        make("div", {}, make("dt", { text: name }), make("dd", {}, make("b", { text: value }), note && make("small", { text: note }))),
      ),
    );
    const when = totals.first_at && totals.last_at ? period(totals.first_at, totals.last_at) : null;
    const isSimulated = totals.calls > 0 && totals.simulated === totals.calls;
    const manifest = about.manifest && `of ${about.manifest.split("/").pop()}`;
    const words = [manifest, when].filter(Boolean).map((text) => make("span", { dir: "auto", text }));
    byId("origin").append(...words, ...(isSimulated ? [make("span", { class: "tag", text: "Simulated: nothing was paid" })] : []));
    if (totals.shown < totals.calls) {
      byId("notice").textContent = `These are the ${numbers.format(totals.shown)} calls that finished last, of ${numbers.format(totals.calls)}. The totals are of all; the rows are in results.jsonl.`;
      byId("notice").hidden = false;
    }
    byId("end").textContent = `${about.out} · made by gemini_batch · pictures and rows stand beside this page`;
  }

  function period(first, last) {
    const [from, to] = [new Date(first), new Date(last)];
    if (Number.isNaN(from.getTime()) || Number.isNaN(to.getTime())) return null;
    return moments.formatRange(from, to);
  }

  // --- which calls, in which order --------------------------------------------------------------------------------------

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
  const wanted = { words: [], statuses: new Set(), sort: "line", isDescending: false, view: "grid" };
  const searchable = new Array(calls.length);
  let shown = []; // places in `calls`, in the order of the page

  function haystack(place) {
    if (searchable[place] === undefined) {
      const call = calls[place];
      const files = [...call.images, ...call.inputs].map((file) => file.path);
      searchable[place] = [call.id, call.prompt, call.text, call.status, call.reason, call.message, call.model, call.metadata, ...files]
        .filter(Boolean)
        .join("\n")
        .toLowerCase();
    }
    return searchable[place];
  }

  function matches(place) {
    if (wanted.statuses.size && !wanted.statuses.has(calls[place].status)) return false;
    return wanted.words.length === 0 || wanted.words.every((word) => haystack(place).includes(word));
  }

  /** Sort places; calls without the value come last, whichever the direction. */
  function sorted(places) {
    const key = KEYS[wanted.sort];
    const turn = wanted.isDescending ? -1 : 1;
    const values = new Map(places.map((place) => [place, key(calls[place])]));
    const compare = (a, b) => (typeof a === "string" && typeof b === "string" ? collator.compare(a, b) : a - b);
    const byTime = (a, b) => (a < b ? -1 : Number(a > b));
    const order = wanted.sort === "finished_at" ? byTime : compare;
    return places.sort((one, other) => {
      const [a, b] = [values.get(one), values.get(other)];
      if (a === null || b === null) return Number(a === null) - Number(b === null) || one - other;
      return turn * order(a, b) || one - other;
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
    if (current) current.end();
    current = isTable ? new TableView(byId("table")) : new GridView(byId("grid"));
    current.show();
  }

  // --- pages of calls -------------------------------------------------------------------------------------------------
  // A page of calls is an empty box of the right height until one comes near it, and stays filled in from then on.

  class PagedView {
    constructor(root) {
      this.root = root;
      this.pages = [];
      this.isFilled = [];
      this.observer = new IntersectionObserver((entries) => this.#cameNear(entries), { rootMargin: NEAR });
    }

    show() {
      for (let start = 0; start < shown.length; start += PAGE) this.pages.push(this.emptyPage(Math.min(PAGE, shown.length - start), start));
      this.isFilled = this.pages.map(() => false);
      this.place(this.pages);
      this.pages.forEach((page, number) => {
        page.dataset.page = number;
        this.observer.observe(page);
      });
      if (this.pages.length) this.fill(0);
      whenIdle((deadline) => this.#fillAhead(deadline, 1));
    }

    end() {
      this.observer.disconnect();
      this.root.replaceChildren();
      this.pages = [];
    }

    /** Fill in a page, if it is not. */
    fill(number) {
      if (this.isFilled[number] !== false) return;
      this.isFilled[number] = true;
      this.observer.unobserve(this.pages[number]);
      const start = number * PAGE;
      const items = shown.slice(start, start + PAGE).map((place, offset) => this.item(calls[place], start + offset));
      this.filled(this.pages[number], items);
    }

    fillAll(most) {
      for (let number = 0; number < this.pages.length && number * PAGE < most; number += 1) this.fill(number);
    }

    /** Return the element that opens the call at an index of `shown`. */
    opener(index) {
      this.fill(Math.floor(index / PAGE));
      return this.root.querySelector(`[data-index="${index}"]`);
    }

    #cameNear(entries) {
      for (const seen of entries) if (seen.isIntersecting) this.fill(Number(seen.target.dataset.page));
    }

    #fillAhead(deadline, from) {
      if (current !== this) return;
      let number = from;
      while (number < this.pages.length && this.isFilled[number]) number += 1;
      if (number >= this.pages.length || number * PAGE >= FILL_AHEAD) return;
      if (deadline.timeRemaining() > 8) this.fill(number);
      whenIdle((next) => this.#fillAhead(next, number));
    }
  }

  let current = null; // the view that is shown

  const whenIdle = window.requestIdleCallback
    ? (work) => window.requestIdleCallback(work)
    : (work) => setTimeout(() => work({ timeRemaining: () => 10 }), 50);

  // --- pictures -------------------------------------------------------------------------------------------------------

  class GridView extends PagedView {
    show() {
      super.show();
      this.resized = new ResizeObserver(() => this.#measure());
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
          make("span", { text: usd(call.cost_usd) }),
          make("span", { text: span(call.latency_s) }),
          make("span", { text: `${tokens(call)} tokens` }),
        ),
      );
    }

    columns() {
      const page = this.pages[0];
      return page ? getComputedStyle(page).gridTemplateColumns.split(" ").length : 1;
    }

    /** Give pages that are not filled in, or not drawn, the height that they will have. */
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

  /** The picture of a call on its card, or why there is none. */
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
    const box = make("span", { class: "mat" }, picture(image) || make("span", { class: "why", text: "No preview: open the file" }));
    const input = call.inputs.find((file) => thumbnail(file));
    if (input) {
      const small = picture(input);
      small.className = "input";
      box.append(small);
      if (call.inputs.length > 1) box.append(make("span", { class: "badge left", text: `${call.inputs.length} inputs` }));
    }
    if (call.drafts.length) box.append(make("span", { class: "badge", text: count(call.drafts.length, "draft", "drafts") }));
    return box;
  }

  /** A thumbnail, loaded when one comes near it; null when there is none. */
  function picture(file, alt = "") {
    const source = thumbnail(file);
    if (!source) return null;
    const image = make("img", { alt, loading: "lazy", decoding: "async", src: source });
    const whole = link(file.href);
    // The thumbnails' folder was left behind, or a server does not show hidden folders: take the picture itself.
    image.addEventListener("error", () => whole && image.setAttribute("src", whole), { once: true });
    return image;
  }

  // --- table ----------------------------------------------------------------------------------------------------------

  // Its rows are grids and its bodies blocks, so that a browser lays out only those in sight: a real table of 2,000 rows took 50 ms
  // a frame. That takes the meaning of table elements away, which the roles give back.

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
      const heads = COLUMNS.map(([words, key, kind]) => {
        const direction = wanted.isDescending ? "descending" : "ascending";
        return make(
          "th",
          { role: "columnheader", class: kind, "aria-sort": wanted.sort === key ? direction : null },
          key === null ? make("span", { class: "unseen", text: words }) : make("button", { type: "button", "data-sort": key, text: words }),
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
        cell({ class: "state" }, status(call), image && image.is_missing ? make("small", { text: "picture missing" }) : note ? make("small", { dir: "auto", title: note, text: note }) : null),
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
  }

  const rowHeight = () => Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));

  // --- one call, large ------------------------------------------------------------------------------------------------

  const viewer = byId("viewer");
  let open = -1; // index in `shown`

  function show(index) {
    if (index < 0 || index >= shown.length) return;
    open = index;
    const call = calls[shown[index]];
    byId("viewer-id").textContent = call.id;
    byId("place").textContent = `${numbers.format(index + 1)} of ${numbers.format(shown.length)}`;
    byId("viewer-said").textContent = `${call.id}, ${call.status}, ${index + 1} of ${shown.length}`;
    byId("previous").setAttribute("aria-disabled", String(index === 0));
    byId("next").setAttribute("aria-disabled", String(index === shown.length - 1));
    byId("stage").replaceChildren(...stage(call));
    byId("facts").replaceChildren(...facts(call));
    byId("side").scrollTop = 0;
    if (!viewer.open) {
      viewer.showModal();
      byId("next").focus({ preventScroll: true });
    }
  }

  function stage(call) {
    const parts = [];
    if (call.inputs.length) {
      const single = call.inputs.length === 1;
      parts.push(
        make(
          "div",
          { class: single ? "inputs one" : "inputs", role: "group", "aria-label": "Inputs" },
          ...call.inputs.map((file, number) => figure(file, single ? "Input" : `Input ${number + 1}`, call)),
        ),
      );
    }
    const alone = call.images.length === 1 && !call.inputs.length;
    const outputs = call.images.map((file, number) => figure(file, call.images.length > 1 ? `Result ${number + 1}` : "Result", call, true, alone));
    parts.push(make("div", { class: "outputs" }, ...(outputs.length ? outputs : [reason(call)])));
    return parts;
  }

  function reason(call) {
    return make(
      "div",
      { class: "reason", "data-status": call.status },
      make("strong", { text: call.status === "succeeded" ? "No picture" : capital(call.status) }),
      call.reason && make("p", { class: "code", dir: "auto", text: call.reason }),
      call.message && make("p", { dir: "auto", text: call.message }),
    );
  }

  /** A picture as large as there is room, linked to its file; the thumbnail stands there until it is loaded. */
  function figure(file, name, call, isResult = false, isAlone = false) {
    const href = link(file.href);
    const changed = file.is_changed ? `${name}, changed since` : name;
    if (!href) {
      const words = file.is_remote ? "at an address" : isResult ? "missing" : "not there any more";
      return make("figure", { class: "absent" }, make("p", { dir: "auto", text: file.path }), make("figcaption", { text: `${name}: ${words}` }));
    }
    const alt = isResult ? `Result of: ${call.prompt || call.id}` : `${name} of ${call.id}`;
    const image = make("img", { alt, decoding: "async", src: thumbnail(file) || href });
    const words = make("p", { class: "broken", text: "This browser can't show the file: open it" });
    words.hidden = true;
    const whole = new Image();
    whole.addEventListener("load", () => {
      image.style.maxWidth = `${whole.naturalWidth}px`;
      image.style.maxHeight = `${whole.naturalHeight}px`;
      image.setAttribute("src", href);
    });
    whole.addEventListener("error", () => {
      words.hidden = false;
      image.hidden = !thumbnail(file);
    });
    whole.src = href;
    return make(
      "figure",
      {},
      make("a", { href, target: "_blank", rel: "noopener noreferrer", title: "Open the file" }, image, words),
      isAlone && !file.is_changed ? null : make("figcaption", { text: changed }),
    );
  }

  function facts(call) {
    const image = call.images[0] || null;
    const { prompt, candidates, thoughts, total } = call.tokens;
    const detail = [
      ["prompt", prompt],
      ["answer", candidates],
      ["of it thinking", thoughts],
    ].filter(([, value]) => value !== null);
    const rows = [
      ["Cost", usd(call.cost_usd) + (call.cost_usd ? " at list price" : "")],
      ["Tokens", total === null ? null : tokens(call) + (detail.length ? ` (${detail.map(([name, value]) => `${numbers.format(value)} ${name}`).join(", ")})` : "")],
      ["Duration", call.latency_s === null ? null : span(call.latency_s) + (call.attempts > 1 ? `, attempt ${call.attempts}` : "")],
      ["Finished", call.finished_at && moment(call.finished_at)],
      ["Picture", image && [image.width && image.height && `${image.width} × ${image.height}`, bytes(image.size_bytes)].filter(Boolean).join(", ")],
      ["Model", call.model_version && call.model_version !== call.model ? `${call.model} (${call.model_version})` : call.model],
      ["Response", call.response_id],
      ["Manifest", call.line === null ? null : `line ${numbers.format(call.line)}`],
    ].filter(([, value]) => value);
    const list = make("dl", {}, ...rows.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { dir: "auto", text: value }))));
    const files = [...call.images, ...call.drafts].filter((file) => link(file.href));
    const links = files.map((file) => make("li", {}, make("a", { href: link(file.href), target: "_blank", rel: "noopener noreferrer", dir: "auto", text: file.path })));
    return [
      make("p", { class: "state" }, status(call), why(call) ? make("span", { dir: "auto", text: why(call) }) : null),
      section("Prompt", call.prompt),
      section("Text of the answer", call.text),
      call.drafts.length ? make("section", {}, make("h3", { text: "Drafts" }), drafts(call)) : null,
      list,
      section("Metadata", call.metadata, "code"),
      links.length ? make("section", {}, make("h3", { text: "Files" }), make("ul", { class: "files" }, ...links)) : null,
    ].filter(Boolean);
  }

  function drafts(call) {
    const items = call.drafts.map((file, number) => {
      const name = `Draft ${number + 1}`;
      const href = link(file.href);
      const small = picture(file, name);
      return make("li", {}, href ? make("a", { href, target: "_blank", rel: "noopener noreferrer" }, small || name) : make("span", { text: `${name}: missing` }));
    });
    return make("ul", { class: "drafts" }, ...items);
  }

  function section(name, text, kind = "prose") {
    return text ? make("section", {}, make("h3", { text: name }), make("p", { class: kind, dir: "auto", text })) : null;
  }

  /** Close, and go back to the call that was looked at: at once, so that the next key finds the focus there. */
  function leave() {
    if (open < 0) return;
    const index = open;
    open = -1;
    viewer.close();
    byId("stage").replaceChildren();
    focusCall(index);
  }

  function step(event) {
    const at = { ArrowLeft: open - 1, ArrowRight: open + 1, Home: 0, End: shown.length - 1 }[event.key];
    if (at === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(at);
  }

  /** Keep Tab inside: from the last element to the first and back. */
  function keepFocus(event) {
    if (event.key !== "Tab") return;
    const inside = [...viewer.querySelectorAll("button, a[href], [tabindex='0']")].filter((element) => element.getClientRects().length);
    const [first, last] = [inside[0], inside[inside.length - 1]];
    const leaving = event.shiftKey ? first : last;
    if (document.activeElement !== leaving) return;
    event.preventDefault();
    (event.shiftKey ? last : first).focus();
  }

  // --- what a person does ---------------------------------------------------------------------------------------------

  /** Go from call to call with the arrow keys, as the eye does. */
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
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button > 0) return; // a new tab, as with every link
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
    wanted.words = [];
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

  /** The browser may keep nothing for pages on a disk; then the choice holds until the page is closed. */
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
        wanted.words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
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
    byId("close").addEventListener("click", leave);
    viewer.addEventListener("keydown", step);
    viewer.addEventListener("keydown", keepFocus);
    viewer.addEventListener("cancel", (event) => {
      event.preventDefault();
      leave();
    });
    viewer.addEventListener("close", leave); // closed by the browser itself
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || viewer.open || event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      byId("text").focus();
    });
    addEventListener("beforeprint", () => current.fillAll(PRINTED));
    new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${byId("bar").offsetHeight}px`)).observe(byId("bar"));
  }

  setTheme(remembered(null));
  showTotals();
  chips();
  listen();
  if (!calls.length) byId("empty").textContent = "No call has finished yet.";
  update();
})();
