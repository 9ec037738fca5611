// The user's marks of pictures: pick, discard, stars. A mark names a picture by its call and content,
// so that another picture of the call has none.

const NO_MARK = { choice: null, rating: null };
const CHOICES = { pick: "✓ Picked", discard: "✕ Discarded" };
const MAX_STARS = 5;
const marks = new Map();
const markKey = (id, sha256) => `${sha256} ${id}`;

for (const mark of about.marks) marks.set(markKey(mark.id, mark.sha256), mark);

/** Return the mark of the result of a call. */
function markOf(call) {
  const [image] = call.images;
  const mark = image && marks.get(markKey(call.id, image.sha256));
  if (!mark) return NO_MARK;
  // The same bytes in a later row are of another answer, which has no mark yet.
  return typeof mark.rows_bytes !== "number" || call.place < mark.rows_bytes || call.attempts === 0 ? mark : NO_MARK;
}

/** Return what the filter calls a call; null without a picture to mark. */
function markName(call) {
  if (!call.images.length) return null;
  return { pick: "picked", discard: "discarded" }[markOf(call).choice] || "unmarked";
}

const stars = (rating) => (rating ? "★".repeat(rating) : "");

/** Return the sign of a mark on a card; null without one. */
function markBadge(call) {
  const { choice, rating } = markOf(call);
  if (!choice && !rating) return null;
  const text = [choice ? CHOICES[choice].charAt(0) : "", stars(rating)].filter(Boolean).join(" ");
  return make("span", { class: "badge mark", "data-choice": choice, "aria-label": markText(call), text });
}

function markText(call) {
  const { choice, rating } = markOf(call);
  return [choice ? CHOICES[choice].slice(2) : "", rating ? count(rating, "star", "stars") : ""].filter(Boolean).join(", ");
}
