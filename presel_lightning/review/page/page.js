"use strict";
{
  const get = (id) => document.getElementById(id);
  const make = (name, text, style) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (style) element.className = style;
    return element;
  };
  const number = (value) => value.toLocaleString("en");
  const words = { veto: "vetoed", pin: "pinned" };
  const drafts = new Map();
  let shown = [], at = -1, total = 0, first = 0, open = null, scoreName = "score";
  let counted = 0, asked = 0, viewed = 0;  // requests so far: of each kind the reply to the last one counts

  const say = (place, text, wrong = false) => {
    get(place).textContent = text;
    get(place).className = wrong ? "wrong" : "";
  };
  const ask = async (name, body) => {
    const options = body && { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    let reply, value;
    try {
      reply = await fetch(name, options);
      value = await reply.json();
    } catch { throw new Error("the server has ended; start review again"); }
    if (!reply.ok) throw new Error(value.error);
    return value;
  };
  let last = Promise.resolve(), storing = 0, stored = 0;
  const store = (name, body) => {  // in the order of the keys: each waits for the one before
    const write = () => ask(name, body).finally(() => { storing--; stored++; });
    storing++;
    last = last.then(write, write);
    return last;
  };
  const read = async (name) => {  // again where something was stored meanwhile: the reply may be older
    for (;;) {
      const before = stored, value = await ask(name);
      if (before === stored) return value;
    }
  };
  const picture = (item, n, full, alt) => {
    const image = make("img");
    const query = new URLSearchParams({ uid: item.uid, n });
    if (full) query.set("full", "");
    Object.assign(image, { src: `image?${query}`, alt, decoding: "async", loading: full ? "eager" : "lazy" });
    image.addEventListener("error", () => image.replaceWith(make("span", "this image cannot be opened", "gone")));
    return image;
  };
  const marks = (item) => [item.kind, words[item.decision], item.waits ? "no instruction" : ""].filter(Boolean).join(", ");
  const score = (item) => (item.score === null ? "no score" : item.score.toFixed(4));

  // ---------------------------------------------------------------- counts
  const count = async () => {
    const request = ++counted;
    const state = await ask("state");
    if (request !== counted) return;
    const sum = (name) => state.tasks.reduce((all, task) => all + task[name], 0);
    get("name").textContent = state.name;
    scoreName = state.score;
    document.title = `Review ${state.name}`;
    get("counts").textContent = `${number(sum("selected"))} selected, ${number(sum("reference"))} reference; ` +
      `${number(state.vetoed)} vetoed, ${number(state.pinned)} pinned; ${number(state.waiting)} wait for an instruction`;
    const select = get("task"), before = select.value;
    const options = state.tasks.map((task) => {
      const option = make("option", `${task.task} (${number(task.selected + task.reference)}, ${number(task.waiting)} waiting)`);
      option.value = task.task;
      return option;
    });
    select.replaceChildren(select.options[0], ...options);
    select.value = before;
    if (open) facts(open);  // they name the score
  };

  // ---------------------------------------------------------------- the list
  const card = (item, place) => {
    const line = make("li"), button = make("button", undefined, `card ${item.decision}`);
    button.type = "button";
    button.title = item.uid;
    button.setAttribute("aria-label", `${item.image}, ${marks(item)}, ${score(item)}`);
    button.append(picture(item, 0, false, ""), make("strong", marks(item)), make("br"), score(item), make("br"), item.image);
    if (item.n_images > 1) button.append(make("br"), `1 of ${item.n_images} images`);
    button.addEventListener("click", () => view(place));
    button.addEventListener("focus", () => { at = place; });
    line.append(button);
    return line;
  };
  const cards = () => [...document.querySelectorAll(".card")];
  const draw = () => {
    const groups = [];
    shown.forEach((item, place) => {
      if (!place || shown[place - 1].task !== item.task) groups.push([make("h2", item.task), make("ul")]);
      groups.at(-1)[1].append(card(item, place));
    });
    groups.forEach(([heading, list]) => list.setAttribute("aria-label", heading.textContent));
    get("grid").replaceChildren(...groups.flat());
    get("range").textContent = shown.length ? `${number(first + 1)} to ${number(first + shown.length)} of ${number(total)}` : "no image";
    get("back").disabled = first === 0;
    get("next").disabled = first + shown.length >= total;
  };
  const renew = (item) => {
    if (open?.uid === item.uid) { Object.assign(open, item); facts(open); }
    const place = shown.findIndex((each) => each.uid === item.uid);
    if (place < 0) return;  // another list is shown by now
    shown[place] = item;
    const old = cards()[place], held = old === document.activeElement;
    const line = card(shown[place], place);
    old.parentNode.replaceWith(line);
    if (held) line.firstChild.focus();
  };
  const load = async (where = {}) => {
    const number = ++asked;
    const query = new URLSearchParams({ show: get("show").value, task: get("task").value, find: get("find").value.trim(), ...where });
    const found = await read(`items?${query}`);
    if (number !== asked) return false;
    [shown, total, first, at] = [found.items, found.total, found.first, -1];
    draw();
    return true;
  };
  const ends = (way) => (way < 0 ? first === 0 : first + shown.length >= total);
  const turn = async (way) => {
    const next = way < 0 ? { before: shown[0]?.place ?? Number.MAX_SAFE_INTEGER } : { start: shown.at(-1).place + 1 };
    if (!await load(next)) return false;
    scrollTo(0, 0);
    return shown.length > 0;
  };
  const report = (text, wrong) => say(get("view").open ? "view-message" : "message", text, wrong);  // where it is seen
  const caught = (work) => work().catch((error) => report(error.message, true));

  // ---------------------------------------------------------------- one image
  const field = (name, text, value) => {
    const label = make("label", text), area = make("textarea");
    Object.assign(area, { value, name, spellcheck: true });
    area.addEventListener("input", () => drafts.set(open.uid, written()));
    label.append(area);
    return label;
  };
  const written = () => [...get("turns").children].map((part) => ({
    question: part.querySelector("[name=question]").value, answer: part.querySelector("[name=answer]").value }));
  const add = (question = "", answer = "") => {
    const part = make("div"), n = get("turns").children.length + 1;
    const behind = n > 1 ? ` ${n}` : "";
    part.append(field("question", `Question${behind}`, question), field("answer", `Answer${behind}`, answer));
    get("turns").append(part);
    return part;
  };
  const facts = (item) => {
    const rows = { task: item.task, status: marks(item), [scoreName]: score(item), cluster: item.cluster, reason: item.reason, uid: item.uid };
    get("facts").replaceChildren(...Object.entries(rows).filter(([, value]) => value !== null && value !== "")
      .flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
    get("veto").disabled = item.decision === "veto";
    get("pin").disabled = item.decision === "pin";
    get("undo").disabled = item.decision === "none";
  };
  const instruction = (item) => {
    get("form").hidden = !item.editable;
    get("written").replaceChildren();
    get("turns").replaceChildren();
    get("prompt").textContent = item.prompt;
    if (item.editable) {
      const turns = drafts.get(item.uid) ?? item.turns.map(([question, answer]) => ({ question, answer }));
      (turns.length ? turns : [{}]).forEach((turn) => add(turn.question, turn.answer));
      return;
    }
    const list = make("dl");
    for (const [question, answer] of item.turns) {
      list.append(make("dt", "question"), make("dd", question), make("dt", "answer"), make("dd", answer));
    }
    get("written").append(item.turns.length ? list : make("p", "No instruction; none is asked for."));
  };
  const view = (place, message = "") => caught(async () => {
    const number = ++viewed;
    at = place;
    let item;
    try { item = await read(`item?${new URLSearchParams({ uid: shown[place].uid })}`); } catch (error) {
      if (number === viewed) at = shown.findIndex((each) => each.uid === open?.uid);
      throw error;
    }
    if (number !== viewed) return;
    open = item;
    get("view-title").textContent = item.image;
    get("pictures").replaceChildren(...item.images.map((name, n) => picture(item, n, true, `${item.task}: ${name}`)));
    facts(item);
    instruction(item);
    say("view-message", message);
    if (!get("view").open) get("view").showModal();
    get("view").scrollTop = 0;
    (get("show").value === "waiting" && item.editable ? get("turns").querySelector("textarea") : get("view-title")).focus();
  });
  const step = (way, message) => caught(async () => {
    if (at + way >= 0 && at + way < shown.length) await view(at + way, message);
    else if (ends(way)) report(`${message ? `${message} ` : ""}This is the ${way < 0 ? "first" : "last"} image.`);
    else if (await turn(way)) await view(way < 0 ? shown.length - 1 : 0, message);
  });
  const decide = (decision) => caught(async () => {
    const item = get("view").open ? open : shown[cards().indexOf(document.activeElement)];
    if (!item) return;
    const found = await store("decide", { uid: item.uid, decision });
    const text = decision === "none" ? "Left to the selector again." :
      `${decision === "veto" ? "Vetoed" : "Pinned"}: ${found.image}. The next start of select or fit uses it.`;
    renew(found);
    report(text);
    await count();
  });
  const save = () => caught(async () => {
    if (!open.editable) return;
    const uid = open.uid, draft = drafts.get(uid);
    const turns = written().filter((turn) => turn.question.trim() || turn.answer.trim());
    const found = await store("answer", { uid, turns });
    renew(found);
    if (drafts.get(uid) === draft) drafts.delete(uid);  // else more has been written meanwhile
    await count();
    if (get("view").open && shown[at]?.uid === uid) await step(1, "Saved.");
    else report(`Saved: ${found.image}.`);
  });

  // ---------------------------------------------------------------- hands
  const typing = (target) => target.matches("input, select, textarea");
  const along = (way) => {
    const all = cards(), now = all.indexOf(document.activeElement);
    const place = now < 0 ? Math.max(at, 0) : now + way;
    if (all[place]) all[place].focus();
    else if (now >= 0 && !ends(way)) caught(async () => { if (await turn(way)) cards().at(way < 0 ? -1 : 0).focus(); });
  };
  const keys = { v: () => decide("veto"), p: () => decide("pin"), u: () => decide("none") };
  document.addEventListener("keydown", (event) => {
    const inside = get("view").open;
    if (inside && event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); save(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const key = event.key.toLowerCase(), way = { arrowleft: -1, arrowright: 1 }[key];
    if (way) { event.preventDefault(); if (inside) step(way); else along(way); }
    else if (keys[key]) { event.preventDefault(); keys[key](); }
    else if (key === "e" && inside && open.editable) { event.preventDefault(); get("turns").querySelector("textarea").focus(); }
  });
  for (const id of ["show", "task", "find"]) get(id).addEventListener("input", () => { say("message", ""); caught(load); });
  get("controls").addEventListener("submit", (event) => event.preventDefault());
  get("back").addEventListener("click", () => caught(() => turn(-1)));
  get("next").addEventListener("click", () => caught(() => turn(1)));
  get("veto").addEventListener("click", keys.v);
  get("pin").addEventListener("click", keys.p);
  get("undo").addEventListener("click", keys.u);
  get("more").addEventListener("click", () => add().querySelector("textarea").focus());
  get("previous").addEventListener("click", () => step(-1));
  get("following").addEventListener("click", () => step(1));
  get("close").addEventListener("click", () => get("view").close());
  get("form").addEventListener("submit", (event) => { event.preventDefault(); save(); });
  get("view").addEventListener("close", () => { viewed++; cards()[at]?.focus(); });
  addEventListener("beforeunload", (event) => { if (drafts.size || storing) event.preventDefault(); });
  caught(async () => { await Promise.all([count(), load()]); });
}
