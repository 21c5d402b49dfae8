// The data sets: the selection of one, and the panel in which images are uploaded and deleted.

import { ask, upload } from "./api.js";
import { byId, element, refill, whileBusy } from "./dom.js";
import * as words from "./words.js";

let known = [], tasks = []; // those of stored results, with networks of their own or of deleted images

/** The name of a data set or task, for people. */
export function nameOf(identity) {
  const task = tasks.find((one) => one.identity === identity);
  return task?.words ?? String(identity).split("@")[0];
}

/** Whether the images come with the service, so that workers download them. */
export const isBuiltIn = (identity) => known.some((one) => one.identity === identity && one.identity === one.name);

const imagesOf = ({ counts }) => Object.values(counts).reduce((sum, count) => sum + count, 0);

const facts = (one) => `${words.size(one.image_shape)}, ${one.classes} classes, ${words.count(imagesOf(one))} images`;

/** Load the data sets, and offer them; returns the identity of the selected one. */
export async function loadDatasets(wanted) {
  [known, tasks] = await Promise.all([ask("v1/datasets"), ask("v1/tasks")]);
  tasks = tasks.filter((task) => !known.some((one) => one.identity === task.identity));
  const named = (name) => known.filter((one) => one.name === name);
  const option = (one) => [one.identity, `${named(one.name).length > 1 ? one.identity : one.name}: ${facts(one)}`];
  const groups = [
    ["Built in", known.filter((one) => one.identity === one.name).map(option)],
    ["Of this service", known.filter((one) => one.identity !== one.name && !one.uploaded).map(option)],
    ["Uploaded", known.filter((one) => one.uploaded).map(option)],
    ["Searched before", tasks.map((task) => [task.identity, task.words])],
  ];
  refill(byId("dataset"), groups.filter(([, options]) => options.length).map(([label, options]) =>
    element("optgroup", { label }, options.map(([value, text]) => element("option", { value }, text)))));
  listUploads();
  return select(named(wanted)[0]?.identity ?? wanted ?? "digits");
}

/** Select a data set, which may have been deleted; returns its identity. */
export function select(identity) {
  const box = byId("dataset");
  box.value = identity;
  if (box.selectedIndex < 0 && /[@/]/.test(identity)) {
    box.append(element("option", { value: identity }, `${nameOf(identity)}, deleted`));
    box.value = identity;
  }
  if (box.selectedIndex < 0) box.value = "digits";
  return box.value;
}

// The panel ----------------------------------------------------------------------------------------------------------

let changed, failed;

/**
 * Let the panel work.
 *
 * @param onChange Called with the identity of a data set that is to be shown, or that was deleted.
 * @param onFailure Called with an error, and the id of the place to show it.
 */
export function openable({ onChange, onFailure }) {
  [changed, failed] = [onChange, onFailure];
}

function show(open) {
  byId("images").hidden = !open;
  byId("images-open").setAttribute("aria-expanded", String(open));
  byId(open ? "images" : "images-open").focus({ preventScroll: !open });
}

function listUploads() {
  const mine = known.filter((one) => one.may_delete);
  byId("uploads-heading").hidden = !mine.length;
  refill(byId("uploads"), mine.map((one) => element("li", {},
    element("div", {}, element("b", {}, one.name), element("small", {}, `${facts(one)}; ${words.some(one.class_names, one.classes)}; ${one.identity}`)),
    element("div", { class: "actions" },
      element("button", { type: "button", "data-focus": `show-${one.identity}`, "aria-label": `Show ${one.identity}`, onclick: () => changed({ shown: one.identity }) }, "Show"),
      element("button", { type: "button", "data-focus": `delete-${one.identity}`, "aria-label": `Delete ${one.identity}`, onclick: (event) => remove(one, event.currentTarget) }, "Delete")))));
}

/** Delete images at the second click, as they cannot be restored. */
function remove(one, button) {
  if (!button.classList.contains("danger")) {
    button.classList.add("danger");
    button.textContent = "Delete for good";
    button.addEventListener("blur", () => { button.classList.remove("danger"); button.textContent = "Delete"; }, { once: true });
    return;
  }
  whileBusy(button, async () => {
    byId("images-alert").textContent = "";
    try {
      await ask(`v1/datasets/${encodeURIComponent(one.identity)}`, { method: "DELETE" });
      byId("upload-words").textContent = `${one.name} is deleted. Results with it are kept.`;
      await changed({ deleted: one.identity });
      byId("images").focus();
    } catch (error) {
      failed(error, "images-alert");
    }
  });
}

/** Say how far an upload is; null when it is over. */
function showProgress(share) {
  const progress = byId("upload-progress");
  progress.hidden = share === null;
  if (share === null) return;
  if (share < 1) progress.value = share;
  else progress.removeAttribute("value");
  const text = share < 1 ? "Sending the images." : "Reading the images.";
  if (byId("upload-words").textContent !== text) byId("upload-words").textContent = text;
}

byId("images-open").addEventListener("click", () => show(byId("images").hidden));
byId("images-close").addEventListener("click", () => show(false));
byId("upload-file").addEventListener("change", (event) => {
  const stem = event.target.files[0]?.name.replace(/\.npz$/i, "").replace(/[^\w.-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 60);
  if (stem && !byId("upload-name").value) byId("upload-name").value = stem;
});
byId("upload-form").addEventListener("submit", (event) => {
  event.preventDefault();
  whileBusy(byId("upload"), async () => {
    byId("images-alert").textContent = byId("upload-words").textContent = "";
    const query = new URLSearchParams({ name: byId("upload-name").value.trim() });
    for (const name of byId("upload-classes").value.split(",")) if (name.trim()) query.append("class_names", name.trim());
    try {
      showProgress(0);
      const stored = await upload(`v1/datasets?${query}`, byId("upload-file").files[0], showProgress);
      byId("upload-words").textContent = `${stored.name} is uploaded: ${facts(stored)}.`;
      byId("upload-form").reset();
      await changed({ shown: stored.identity });
    } catch (error) {
      byId("upload-words").textContent = "";
      failed(error, "images-alert");
    } finally {
      showProgress(null);
    }
  });
});
