{
  const data = JSON.parse(document.getElementById("explore").textContent);
  const kinds = ["left out", "selected", "reference"];
  const get = (id) => document.getElementById(id);
  const make = (name, text, style) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (style) element.className = style;
    return element;
  };
  const picture = (number, alt) => {
    const image = make("img");
    Object.assign(image, { src: data.pictures[number], alt, width: 80, height: 80, decoding: "async" });
    return image;
  };
  const written = (score) => (score === null ? "no score" : score.toFixed(4).replace(/^-(0\.0+)$/, "$1"));

  if (get("map")) {
    const canvas = get("map"), pen = canvas.getContext("2d"), status = get("map-status");
    const shown = new Map(data.items.filter((i) => i.picture !== null).map((i) => [i.uid, i]));
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const byCluster = () => get("map-colour").value === "cluster";
    let points, order, at = -1, span = 0;
    const place = (i) => [16 + points.x[i] / 1000 * (span - 32), span - 16 - points.y[i] / 1000 * (span - 32)];
    const hue = (cluster) => `hsl(${(cluster * 137.5) % 360} 65% 52%)`;
    const dot = (i, reach) => {
      const [x, y] = place(i);
      pen.beginPath();
      if (points.kind[i] === 2) {
        pen.moveTo(x, y - reach); pen.lineTo(x + reach, y + reach); pen.lineTo(x - reach, y + reach);
        pen.closePath();
      } else pen.arc(x, y, reach, 0, 7);
    };
    const draw = () => {
      const scale = window.devicePixelRatio || 1;
      span = canvas.clientWidth;
      canvas.width = canvas.height = span * scale;
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      const styles = [colour("--s3"), colour("--s0"), colour("--s1")], ink = colour("--ink");
      for (const kind of [0, 2, 1]) {
        for (let i = 0; i < points.uid.length; i++) {
          if (points.kind[i] !== kind) continue;
          dot(i, kind ? 5 : 2.5);
          pen.globalAlpha = kind ? 0.9 : 0.6;
          pen.fillStyle = byCluster() ? hue(points.cluster[i]) : styles[kind];
          pen.fill();
          if (kind && byCluster()) { pen.strokeStyle = ink; pen.lineWidth = 1.2; pen.stroke(); }
        }
      }
      pen.globalAlpha = 1;
      if (at >= 0) { dot(at, 8); pen.strokeStyle = ink; pen.lineWidth = 2.5; pen.stroke(); }
    };
    const show = (i) => {
      at = i;
      const cluster = points.cluster[i] < 0 ? "" : `, cluster ${points.cluster[i]}`;
      status.replaceChildren();
      const known = shown.get(points.uid[i]);
      if (known) status.append(picture(known.picture, ""));
      status.append(make("strong", kinds[points.kind[i]]), `${cluster}, score ${written(points.score[i])}`,
        make("br"), make("code", points.uid[i]));
      draw();
    };
    const nearest = (event) => {
      const box = canvas.getBoundingClientRect();
      const px = event.clientX - box.left, py = event.clientY - box.top;
      let best = -1, least = 20 * 20;
      for (let i = 0; i < points.uid.length; i++) {
        const [x, y] = place(i), far = (x - px) ** 2 + (y - py) ** 2 - (points.kind[i] ? 9 : 0);
        if (far < least) { least = far; best = i; }
      }
      if (best >= 0 && best !== at) show(best);
    };
    const step = (by) => {
      if (!order.length) { status.textContent = "No selected image is among the points shown."; return; }
      const now = order.indexOf(at);
      show(order[now < 0 ? (by > 0 ? 0 : order.length - 1) : (now + by + order.length) % order.length]);
    };
    const key = () => {
      const names = { "--s0": "selected",
        ...(data.maps.some((map) => map.kind.includes(2)) && { "--s1": "reference split (triangle)" }), "--s3": "left out" };
      get("map-key").replaceChildren(...Object.entries(names).map(([name, text]) => {
        const line = make("li"), mark = make("span");
        mark.style.background = byCluster() ? "transparent" : `var(${name})`;
        if (byCluster()) mark.style.border = name === "--s3" ? "none" : "2px solid var(--ink)";
        line.append(mark, byCluster() && name === "--s3" ? "small: left out; one color per cluster" : text);
        return line;
      }));
    };
    const load = () => {
      points = data.maps[get("map-task").value];
      at = -1;
      order = [...points.uid.keys()].filter((i) => points.kind[i] === 1)
        .sort((a, b) => points.score[b] - points.score[a]);
      canvas.setAttribute("aria-label", `Map of the task ${points.task}: ${points.uid.length} images`);
      status.textContent = "Point at an image, tap it, or step through the selected ones with the buttons.";
      draw();
    };
    get("map-task").addEventListener("change", load);
    get("map-colour").addEventListener("change", () => { key(); draw(); });
    get("map-back").addEventListener("click", () => step(-1));
    get("map-next").addEventListener("click", () => step(1));
    canvas.addEventListener("pointermove", nearest);
    canvas.addEventListener("pointerdown", nearest);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new ResizeObserver(() => { if (canvas.clientWidth !== span) draw(); }).observe(canvas);
    key();
    load();
  }

  if (get("gallery")) {
    const page = 48;
    let limit = page, found = [], at = -1;
    const status = (item) => kinds[item.kind] + (item.n_images ? ` (1 of ${item.n_images} images)` : "");
    const shown = (item, alt) => (item.picture === null ? make("span", "no image", "gone") : picture(item.picture, alt));
    const card = (item, parts, open) => {
      const line = make("li", undefined, `k${item.kind}`), button = make("button");
      line.title = item.uid;
      button.type = "button";
      button.append(shown(item, `${item.task}, ${kinds[item.kind]}: ${item.image ?? item.uid}`), ...parts);
      button.addEventListener("click", open);
      line.append(button);
      return line;
    };
    const words = (item) => [make("strong", status(item)), make("br"), item.task, make("br"), written(item.score), make("br"),
      make("span", (item.image ?? item.uid).split("/").pop(), "file")];
    const list = (label, lines) => {
      const whole = make("ul", undefined, "gallery");
      whole.setAttribute("aria-label", label);
      whole.append(...lines);
      return whole;
    };
    const show = () => {
      const wanted = get("gallery-find").value.trim().toLowerCase();
      const task = get("gallery-task").value, kind = get("gallery-kind").value;
      const way = Number(get("gallery-order").value);
      found = data.items.filter((item) =>
        (!task || item.task === task) && (!kind || item.kind === Number(kind)) &&
        (!wanted || item.uid.startsWith(wanted) || (item.image ?? "").toLowerCase().includes(wanted)));
      if (way) found.sort((a, b) => (a.score === null) - (b.score === null) || way * (a.score - b.score));
      const cards = found.slice(0, limit).map((item, place) => [item.task, card(item, words(item), () => view(place))]);
      const tasks = way ? ["Images"] : [...new Set(cards.map(([name]) => name))];
      get("gallery").replaceChildren(...tasks.flatMap((name) => {
        const own = list(name, cards.filter(([of]) => way || of === name).map(([, line]) => line));
        return way ? [own] : [make("h3", name), own];
      }));
      get("gallery-count").textContent = found.length
        ? `${found.length} of ${data.items.length} images on this page; ${Math.min(limit, found.length)} shown`
        : "No image on this page matches; selection/selection.parquet has all of them.";
      get("gallery-more").hidden = found.length <= limit;
    };
    const pairs = (rows) => rows.filter(([, value]) => value !== undefined && value !== null && value !== "")
      .flatMap(([name, value]) => [make("dt", name), make("dd", String(value))]);
    const cluster = (item) => (item.cluster === null ? null :
      `${item.cluster}: ${item.cluster_selected} of ${item.cluster_size} images selected`);
    const open = (item) => {
      get("opened-picture").replaceChildren(shown(item, item.image ?? item.uid));
      get("opened-title").textContent = item.image ?? item.uid;
      const [asked, alone] = item.losses ?? [];
      get("opened-facts").replaceChildren(...pairs([["task", item.task], ["status", status(item)],
        [data.score, written(item.score)], ["reason", item.reason], ["cluster", cluster(item)],
        ["loss with the question", asked], ["loss without it", alone], ["uid", item.uid]]));
      get("opened-turns").replaceChildren(...pairs(item.turns.flatMap(([question, answer]) =>
        [["question", question], ["answer", answer]])), ...pairs([["more", item.more_turns ? `${item.more_turns} turns` : ""]]));
      const mates = item.cluster === null ? [] : data.items.filter((other) =>
        other !== item && other.task === item.task && other.cluster === item.cluster).slice(0, 12);
      get("opened-mates").replaceChildren(...(mates.length ? [make("h3", "Of the same cluster, on this page"),
        list("Of the same cluster", mates.map((mate) => card(mate, [make("strong", status(mate))], () => open(mate))))] : []));
      if (!get("opened").open) get("opened").showModal();
      get("opened").scrollTop = 0;
      get("opened-title").focus();
    };
    const view = (place) => { if (found[place]) open(found[at = place]); };
    for (const id of ["gallery-find", "gallery-task", "gallery-kind", "gallery-order"]) {
      get(id).addEventListener("input", () => { limit = page; show(); });
    }
    get("gallery-more").addEventListener("click", () => { limit += page; show(); });
    get("opened-back").addEventListener("click", () => view(at - 1));
    get("opened-next").addEventListener("click", () => view(at + 1));
    get("opened-close").addEventListener("click", () => get("opened").close());
    get("opened").addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (way) { event.preventDefault(); view(at + way); }
    });
    show();
  }
}
