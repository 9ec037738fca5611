// The viewer: one call at full size.

const viewer = byId("viewer");
let open = -1; // index in `shown`
let comparison = null; // "variants", "earlier", or null for the call alone

function show(index) {
  if (index < 0 || index >= shown.length) return;
  open = index;
  const call = calls[shown[index]];
  byId("viewer-id").textContent = call.id;
  byId("place").textContent = `${numbers.format(index + 1)} of ${numbers.format(shown.length)}`;
  byId("viewer-status").textContent = `${call.id}, ${call.status}, ${index + 1} of ${shown.length}`;
  byId("previous").setAttribute("aria-disabled", String(index === 0));
  byId("next").setAttribute("aria-disabled", String(index === shown.length - 1));
  if (!comparisons(call).includes(comparison)) comparison = null;
  byId("stage").replaceChildren(...(comparison ? compared(call) : stage(call)));
  byId("note").hidden = true;
  byId("note-said").textContent = "";
  byId("facts").replaceChildren(...facts(call));
  byId("side").scrollTop = 0;
  if (!viewer.open) {
    viewer.showModal();
    byId("next").focus({ preventScroll: true });
  }
  remember();
}

// --- comparison -------------------------------------------------------------------------------------

/** Return the variants of the call's job that have a picture, in their order. */
function variants(call) {
  const stem = (id) => id.replace(/\.\d+$/, "");
  const isSame = (other) => other.line === call.line && (other.id === call.id || stem(other.id) === stem(call.id) || other.id === stem(call.id) || stem(other.id) === call.id);
  return calls.filter((other) => other.images.length && isSame(other)).sort((a, b) => collator.compare(a.id, b.id));
}

function comparisons(call) {
  return [variants(call).length > 1 && "variants", call.images.length && call.earlier.length && "earlier"].filter(Boolean);
}

/** Show the next comparison of the call, or the call alone. */
function compare() {
  const ways = [null, ...comparisons(calls[shown[open]])];
  comparison = ways[(ways.indexOf(comparison) + 1) % ways.length];
  show(open);
}

/** Return the pictures of a comparison side by side; the open call is outlined. */
function compared(call) {
  const figures =
    comparison === "variants"
      ? variants(call).map((other) => {
          const shape = figure(other.images[0], [other.id, markText(other)].filter(Boolean).join(" · "), other, true);
          if (other === call) shape.classList.add("chosen");
          return shape;
        })
      : [...call.earlier.map((file, number) => figure(file, `Earlier ${number + 1}`, call)), figure(call.images[0], "Now", call, true)];
  return [make("div", { class: "outputs", "data-many": figures.length > 3 }, ...figures)];
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

/** A picture as large as fits, linked to its file; the thumbnail is shown until it is loaded. */
function figure(file, name, call, isResult = false, isAlone = false) {
  const href = link(file.href);
  const changed = file.is_changed ? `${name}, changed since the run` : name;
  if (!href && !thumbnail(file)) {
    const text = file.is_remote ? "remote file" : about.is_mailed && !file.is_missing ? "not in this page" : isResult ? "missing" : "no longer exists";
    return make("figure", { class: "absent" }, make("p", { dir: "auto", text: file.path }), make("figcaption", { text: `${name}: ${text}` }));
  }
  const alt = isResult ? `Result of: ${call.prompt || call.id}` : `${name} of ${call.id}`;
  const image = make("img", { alt, decoding: "async", src: thumbnail(file) || href });
  const caption = isAlone && !file.is_changed ? null : make("figcaption", { text: changed });
  if (!href) {
    image.addEventListener("load", () => {
      image.style.maxWidth = `${image.naturalWidth}px`;
      image.style.maxHeight = `${image.naturalHeight}px`;
    });
    return make("figure", {}, make("span", { class: "frame" }, image), caption);
  }
  const broken = make("p", { class: "broken", text: "The file can't be shown here; open it instead" });
  broken.hidden = true;
  const whole = new Image();
  whole.addEventListener("load", () => {
    image.style.maxWidth = `${whole.naturalWidth}px`;
    image.style.maxHeight = `${whole.naturalHeight}px`;
    image.setAttribute("src", href);
  });
  whole.addEventListener("error", () => {
    broken.hidden = false;
    image.hidden = !thumbnail(file);
  });
  whole.src = href;
  return make(
    "figure",
    {},
    make("a", { href, target: "_blank", rel: "noopener noreferrer", title: "Open the file" }, image, broken),
    caption,
  );
}

function facts(call) {
  const image = call.images[0] || null;
  const { prompt, candidates, thoughts, total } = call.tokens;
  const detail = [
    ["prompt", prompt],
    ["answer", candidates],
    ["of which thinking", thoughts],
  ].filter(([, value]) => value !== null);
  const rows = [
    ["Cost", usd(call.cost_usd) + (!call.cost_usd ? "" : call.route === "batch" ? ", half price by batch" : " at list price")],
    ["Tokens", total === null ? null : tokens(call) + (detail.length ? ` (${detail.map(([name, value]) => `${numbers.format(value)} ${name}`).join(", ")})` : "")],
    ["Duration", call.latency_s === null ? null : span(call.latency_s) + (call.attempts > 1 ? `, attempt ${call.attempts}` : "")],
    ["Finished", call.finished_at && moment(call.finished_at)],
    ["Picture", image && [image.width && image.height && `${image.width} × ${image.height}`, bytes(image.size_bytes), call.is_smaller && SMALLER].filter(Boolean).join(", ")],
    ["Model", call.model_version && call.model_version !== call.model ? `${call.model} (${call.model_version})` : call.model],
    ["Service tier", call.service_tier],
    ["Batch", call.batch],
    ["Response", call.response_id],
    ["Manifest", call.line === null ? null : `line ${numbers.format(call.line)}`],
  ].filter(([, value]) => value);
  const list = make("dl", {}, ...rows.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { dir: "auto", text: value }))));
  const files = [...call.images, ...call.drafts].filter((file) => link(file.href));
  const links = files.map((file) => make("li", {}, make("a", { href: link(file.href), target: "_blank", rel: "noopener noreferrer", dir: "auto", text: file.path })));
  return [
    make("p", { class: "state" }, status(call), why(call) ? make("span", { dir: "auto", text: why(call) }) : null),
    markText(call) ? make("p", { class: "marked", "data-choice": markOf(call).choice, text: markText(call) + (markOf(call).rating ? ` ${stars(markOf(call).rating)}` : "") }) : null,
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
    const shown = small || name;
    const isHere = href || (about.is_mailed && small);
    return make("li", {}, href ? make("a", { href, target: "_blank", rel: "noopener noreferrer" }, shown) : isHere ? shown : make("span", { text: `${name}: missing` }));
  });
  const list = make("ul", { class: "drafts" }, ...items);
  loadPictures(list);
  return list;
}

function section(name, text, kind = "prose") {
  return text ? make("section", {}, make("h3", { text: name }), make("p", { class: kind, dir: "auto", text })) : null;
}

/** Close the viewer and focus its call at once, so that the next key goes there. */
function closeViewer() {
  if (open < 0) return;
  const index = open;
  open = -1;
  viewer.close();
  byId("stage").replaceChildren();
  comparison = null;
  focusCall(index);
  remember();
}

/** Keys of the viewer: compare, zoom to pixels, hide the details, full screen. */
function viewerKeys(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, textarea")) return;
  const does = {
    c: compare,
    z: () => byId("stage").classList.toggle("pixels"),
    i: () => viewer.classList.toggle("bare"),
    f: () => (document.fullscreenElement ? document.exitFullscreen() : viewer.requestFullscreen()),
  }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
}

function step(event) {
  if (event.target.closest("input, textarea")) return;
  const at = { ArrowLeft: open - 1, ArrowRight: open + 1, Home: 0, End: shown.length - 1 }[event.key];
  if (at === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  show(at);
}

/** Keep the focus inside: Tab moves from the last element to the first, and back. */
function keepFocus(event) {
  if (event.key !== "Tab") return;
  const inside = [...viewer.querySelectorAll("button, a[href], [tabindex='0']")].filter((element) => element.getClientRects().length);
  const [first, last] = [inside[0], inside[inside.length - 1]];
  const edge = event.shiftKey ? first : last;
  if (document.activeElement !== edge) return;
  event.preventDefault();
  (event.shiftKey ? last : first).focus();
}
