/** Add images: files on their way with their progress, then the import and what it refused. */

import { button, every, get, idInAddress, isOver, make, noteInAddress, post, section, table, watchJob } from "./base.js";
import { sendFile } from "./upload.js";
import { fromServer, number, t } from "./words.js";

const AT_ONCE = 3;

/** The buttons, the place for files to be dropped, and the list of those on their way. */
export function drawAdding(main, project, onImported) {
  const files = make("input", { type: "file", multiple: true, hidden: true, "aria-label": t("Images or ZIP files") });
  const folder = make("input", { type: "file", multiple: true, hidden: true, webkitdirectory: true, "aria-label": t("A folder of images") });
  const list = make("ul", { className: "sending", "aria-label": t("Files on their way") });
  const job = make("div", { "aria-live": "polite" });
  const zone = make("div", { className: "empty drop" },
    make("p", {}, t("Drop images, folders or ZIP files here: PNG, JPEG, TIFF, BMP, 8 or 16 bit.")),
    make("p", { className: "row" }, button(t("Add images"), async () => files.click(), { isMain: true }), button(t("Add a folder"), async () => folder.click())),
    files, folder);
  const batch = new Batch(project, list, (id) => watchImport(job, id, onImported));
  for (const input of [files, folder]) {
    input.addEventListener("change", () => {
      batch.add([...input.files]);
      input.value = "";
    });
  }
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    batch.add(await filesIn(event.dataTransfer));
  });
  main.append(zone, list, job);
  resumeWatching(project, job, onImported);
}

/** The import in the address, else one that is going on. */
async function resumeWatching(project, place, onImported) {
  const chosen = idInAddress("import");
  const [going] = chosen ? [] : await every(`jobs?project_id=${project.id}&kind=import&is_over=false`, 1);
  const id = chosen ?? going?.id;
  if (id) await watchImport(place, id, onImported);
}

async function watchImport(place, id, onImported) {
  const seen = await get(`jobs/${id}`);
  const wasOver = isOver(seen);
  const job = wasOver ? seen : await watchJob(place, seen);
  showOutcome(place, job);
  if (!wasOver) await onImported();
}

function showOutcome(place, job) {
  const refused = job.result.refused ?? [];
  const close = button(t("Close"), async () => {
    noteInAddress({ import: null });
    place.replaceChildren();
  });
  const { num_images: count = 0 } = job.result;
  const said = count === 1 ? t("1 image was imported.") : t("{n} images were imported.", { n: number(count) });
  const reason = job.state === "done" ? "" : make("p", { className: "bad", role: "alert" }, fromServer(job.reason));
  const rows = refused.map((row) => [row.name, fromServer(row.reason)]);
  const title = refused.length === 1 ? t("1 file was refused; all others are in.") : t("{n} files were refused; all others are in.", { n: refused.length });
  place.replaceChildren(section(t("Import"), make("p", {}, said), reason, rows.length ? table(title, [t("File"), t("Reason")], rows) : "", close));
}

/** Files of one go; when all have come to an end, those that arrived are imported together. */
class Batch {
  constructor(project, list, onImport) {
    Object.assign(this, { project, list, onImport, waiting: [], arrived: [], numActive: 0 });
    addEventListener("beforeunload", (event) => {
      if (this.numActive || this.arrived.length) event.preventDefault();
    });
  }

  add(files) {
    for (const file of files) {
      const row = new Row(file, this);
      this.list.append(row.element);
      if (file.size) this.queue(row);
      else row.end("bad", t("The file is empty (0 bytes); it was left out."));
    }
  }

  queue(row) {
    this.waiting.push(row);
    this.next();
  }

  next() {
    while (this.numActive < AT_ONCE && this.waiting.length) {
      this.numActive += 1;
      this.send(this.waiting.shift());
    }
    if (!this.numActive && this.arrived.length) this.importArrived();
  }

  async send(row) {
    try {
      const upload = await row.send(this.project.id);
      if (upload) this.arrived.push({ row, upload });
    } finally {
      this.numActive -= 1;
      this.next();
    }
  }

  async importArrived() {
    const arrived = this.arrived.splice(0);
    try {
      const job = await post(`projects/${this.project.id}/images`, { uploads: arrived.map(({ upload }) => upload.id) });
      for (const { row } of arrived) row.element.remove();
      noteInAddress({ import: job.id });
      await this.onImport(job.id);
    } catch (error) {
      for (const { row, upload } of arrived) row.fail(error, () => this.importAgain(row, upload));
    }
  }

  importAgain(row, upload) {
    row.tell(t("arrived"));
    this.arrived.push({ row, upload });
    this.next();
  }
}

/** A file on its way. */
class Row {
  constructor(file, batch) {
    Object.assign(this, { file, batch, stop: new AbortController(), resumed: null });
    this.bar = make("progress", { max: 1, value: 0, "aria-label": t("Progress of {name}", { name: file.name }) });
    this.text = make("span", { role: "status" }, t("waiting"));
    this.tools = make("span", { className: "row" }, button(t("Cancel"), async () => this.cancel(), { "aria-label": t("Cancel {name}", { name: file.name }) }));
    this.element = make("li", {}, make("strong", {}, file.name), this.bar, this.text, this.tools);
  }

  tell(text) {
    this.text.className = "";
    this.text.textContent = text;
  }

  end(kind, text) {
    this.text.className = kind;
    this.text.textContent = text;
    this.tools.replaceChildren(button(t("Close"), async () => this.element.remove(), { "aria-label": t("Take {name} off the list", { name: this.file.name }) }));
  }

  fail(error, retry) {
    this.end("bad", error.message);
    this.tools.prepend(button(t("Retry"), async () => retry(), { "aria-label": t("Retry {name}", { name: this.file.name }) }));
  }

  cancel() {
    this.stop.abort();
    this.end("quiet", t("stopped; nothing of it was kept"));
  }

  /** The upload once it is complete; null where it was stopped or refused. */
  async send(projectId) {
    if (this.stop.signal.aborted) return null;
    this.tell(t("sending"));
    try {
      const upload = await sendFile(this.file, { project_id: projectId, purpose: "images" }, {
        signal: this.stop.signal, resumed: this.resumed, onProgress: (share) => {
          this.bar.value = share;
          this.tell(`${Math.round(100 * share)} %`);
        },
      });
      this.bar.value = 1;
      this.tell(t("arrived"));
      this.tools.replaceChildren();
      return upload;
    } catch (error) {
      if (!this.stop.signal.aborted) {
        this.resumed = error.upload ?? null;
        this.fail(this.resumed ? new Error(t("The connection broke. What has arrived is kept; press Retry to send the rest.")) : error, () => this.batch.queue(this));
      }
      return null;
    }
  }
}

/** All files that were dropped, those in folders too. */
async function filesIn(transfer) {
  // The entries are gone after the first wait, so all are taken at once.
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry());
  return (await Promise.all(entries.filter(Boolean).map(filesOf))).flat();
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(found.map(filesOf))).flat();
    found.push(...some);
  }
}
