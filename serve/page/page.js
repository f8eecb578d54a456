// The page of a service: asks it as any client does, and shows what it answers.

const root = document.body.dataset.root;
const at = (id) => document.getElementById(id);
const given = [];
const PERIOD = 2000;

function node(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function fill(id, nodes) {
  at(id).replaceChildren(...nodes);
}

class Refused extends Error {}

async function fetched(path, body) {
  const key = at("key").value || sessionStorage.getItem("key");
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const options = body ? { method: "POST", body: JSON.stringify(body), headers } : { headers };
  const response = await fetch(path, options);
  if (response.status === 401 || response.status === 403) {
    at("locked").hidden = false;
  } else if (key) {
    sessionStorage.setItem("key", key);
  }
  const answer = await response.json();
  if (!response.ok) throw new Refused(said(answer.detail));
  return answer;
}

function said(detail) {
  if (typeof detail === "string") return detail;
  return detail.map((one) => `${one.loc.slice(1).join(".")}: ${one.msg}`).join("; ");
}

const named = (item) => item.title ?? `item ${item.item_id}`;

// The request.

function query() {
  const asked = { k: Number(at("k").value), diversity: Number(at("diversity").value) };
  if (at("user").value.trim()) asked.user_id = idOf(at("user").value.trim());
  if (given.length) asked.history = given.map((item) => item.item_id);
  if (at("seen").value) asked.seen = at("seen").value;
  if (at("filter").value.trim()) asked.filter = parsed(at("filter").value);
  return asked;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Refused(`filter: ${error.message}`);
  }
}

let integers = true;
const idOf = (text) => (integers && /^-?\d+$/.test(text) ? Number(text) : text);

async function ask(event) {
  event?.preventDefault();
  at("problem").textContent = "";
  try {
    const asked = query();
    const [answer, known] = await Promise.all([
      fetched(`${root}/recommend`, { ...asked, explain: true, trace: true }),
      asked.user_id === undefined ? { history: [] } : fetched(pageOf("user", { user_id: asked.user_id })),
    ]);
    showHistory([...given].reverse(), known.history);
    showAnswer("answer", "basis", answer);
    showFunnel(answer.trace);
    await askBeside(asked);
  } catch (error) {
    at("problem").textContent = error.message;
  }
}

function pageOf(name, values) {
  return `${root}/page/${name}?${new URLSearchParams(values)}`;
}

async function askBeside(asked) {
  const other = at("other").value.trim().replace(/\/$/, "");
  at("beside").hidden = !other;
  if (!other) return;
  const answer = await fetched(`${other === "." ? "" : other}/recommend`, asked);
  showAnswer("beside-answer", "beside-basis", answer);
}

// What comes back.

function showHistory(fresh, known) {
  const rows = [...fresh, ...known].map((item) => node("li", named(item)));
  fill("history", rows.length ? rows : [node("li", "none")]);
}

function showAnswer(list, basis, answer) {
  const words = { personal: "a known user", history: "the request's history", attributes: "the request's attributes", popular: "popularity" };
  const notes = [answer.degraded && `degraded: ${answer.degraded}`, answer.short,
    answer.ignored && `ignored: ${answer.ignored.join(", ")}`].filter(Boolean);
  at(basis).textContent = [`Rests on ${words[answer.source]}; bundle ${answer.bundle}`, ...notes].join("; ");
  fill(list, answer.items.map((item) => entry(item, list === "answer")));
}

function entry(item, opens) {
  const row = node("li");
  const score = node("span", item.score === null ? " pinned" : ` ${item.score.toFixed(3)}`, { class: "score" });
  if (!opens) {
    row.append(node("span", named(item)), score);
    return row;
  }
  const button = node("button", named(item), { type: "button" });
  button.addEventListener("click", () => mark(item.item_id));
  row.append(button, score);
  const why = [];
  if (item.proposed_by?.length) why.push(`proposed by ${item.proposed_by.join(", ")}`);
  if (item.retrieval_rank) why.push(`candidate ${item.retrieval_rank}`);
  if (why.length) row.append(node("div", why.join("; "), { class: "soft" }));
  return row;
}

function mark(id) {
  for (const row of at("candidates").rows) {
    if (row.dataset.item === String(id)) {
      row.setAttribute("aria-current", "true");
      row.scrollIntoView({ block: "center" });
      row.focus();
    } else {
      row.removeAttribute("aria-current");
    }
  }
}

const number = (value) => node("td", value === undefined || value === null ? "" : String(value), { class: "number" });

function showFunnel(trace) {
  at("funnel").hidden = false;
  const { asks, allowed, candidates, milliseconds } = trace;
  const whom = asks.known_user ? "a known user" : "an unknown user";
  const took = Object.entries(milliseconds).map(([step, ms]) => `${step} ${ms} ms`).join(", ");
  const passed = ["filter", "allow"].filter((name) => name in allowed)
    .map((name) => `${allowed[name]} pass ${name}`);
  at("steps").textContent = [
    `${whom} with ${asks.history} items, ${asks.excluded} excluded`,
    `${allowed.catalogue} in the catalogue`, ...passed, `${allowed.left} may be answered`,
    `${candidates.number} candidates`, candidates.stage_2 ? "ordered by stage 2" : "in the order of stage 1",
    took,
  ].join(" → ");
  fill("sources", trace.sources.map((source) => {
    const row = node("tr");
    row.append(node("th", source.name, { scope: "row" }), number(source.proposes),
      node("td", source.first.slice(0, 3).map(named).join(", ")));
    return row;
  }));
  const names = Object.keys(candidates.first[0]?.by_source ?? {});
  const head = node("tr");
  const heads = ["Item", "Answered at", "Score", "Stage 1's rank", "Stage 1's score", ...names];
  head.append(...heads.map((name, place) => node("th", name, { scope: "col", class: place ? "number" : "" })));
  fill("candidates-head", [head]);
  fill("candidates", candidates.first.map((item) => {
    const row = node("tr", "", { "data-item": item.item_id, tabindex: "-1" });
    row.append(node("th", named(item), { scope: "row" }), number(item.answered_at), number(item.score),
      number(item.retrieval_rank), number(item.retrieval_score),
      ...names.map((name) => number(item.by_source[name])));
    return row;
  }));
}

// The history of the request.

let latest = 0;
async function search() {
  const text = at("search").value.trim();
  const own = ++latest;
  if (!text) return fill("found", []);
  try {
    const { items } = await fetched(pageOf("items", { text }));
    if (own !== latest) return;
    fill("found", items.map((item) => {
      const row = node("li");
      const button = node("button", `Add ${named(item)}`, { type: "button" });
      button.addEventListener("click", () => add(item));
      row.append(button);
      return row;
    }));
  } catch (error) {
    at("problem").textContent = error.message;
  }
}

function add(item) {
  given.push(item);
  at("search").value = "";
  fill("found", []);
  showGiven();
  at("search").focus();
}

function showGiven() {
  fill("given", given.map((item, place) => {
    const row = node("li", `${named(item)} `);
    const button = node("button", "Remove", { type: "button", "aria-label": `Remove ${named(item)}` });
    button.addEventListener("click", () => {
      given.splice(place, 1);
      showGiven();
    });
    row.append(button);
    return row;
  }));
}

// What the service does meanwhile.

const percent = (share) => `${(100 * share).toFixed(1)} %`;

async function live() {
  if (!document.hidden) {
    try {
      const told = await fetched(pageOf("live", {}));
      integers = told.integer_ids;
      at("bundle").textContent = `bundle ${told.bundle}`;
      at("replica").textContent = told.replica;
      const total = Object.values(told.sources).reduce((sum, count) => sum + count, 0);
      const shares = Object.entries(told.sources).map(([name, count]) => `${name} ${percent(count / total)}`);
      const rows = {
        Answers: total,
        "From": shares.join(", ") || "none yet",
        "p50, p99": told.milliseconds ? told.milliseconds.map((ms) => `${ms} ms`).join(", ") : "none yet",
        "Index recall": told.recall === null ? "exact" : percent(told.recall),
        "Catalogue covered": percent(told.coverage),
        Refused: told.refused,
      };
      fill("live", Object.entries(rows).flatMap(([name, value]) => [node("dt", name), node("dd", String(value))]));
    } catch (error) {
      at("bundle").textContent = error.message;
    }
  }
  setTimeout(live, PERIOD);
}

at("ask").addEventListener("submit", ask);
at("search").addEventListener("input", search);
at("diversity").addEventListener("input", () => { at("diversity-is").textContent = at("diversity").value; });
live();
