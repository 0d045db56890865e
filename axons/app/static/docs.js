// Draws the page from openapi.json. Text from outside goes through textContent only.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// What a reference points to; anything else is itself.
function resolved(api, schema) {
  if (!schema || !schema.$ref) return schema ?? {};
  return schema.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
}

// A value that fits a schema, to start from.
function example(api, reference, depth = 0) {
  const schema = resolved(api, reference);
  if (schema.default !== undefined) return schema.default;
  if (schema.examples) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  if (schema.const !== undefined) return schema.const;
  if (schema.anyOf) return example(api, schema.anyOf[0], depth);
  if (depth > 4) return null;
  if (schema.type === "object" && schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties).map(([name, part]) => [name, example(api, part, depth + 1)]));
  }
  if (schema.type === "array") return [example(api, schema.items, depth + 1)];
  return { string: "", integer: schema.minimum ?? 0, number: schema.minimum ?? 0, boolean: false, object: {} }[schema.type] ?? null;
}

function limits(schema) {
  const words = [];
  for (const part of [schema, ...(schema.anyOf ?? [])]) {
    if (part.type) words.push(part.type);
    if (part.enum) words.push(part.enum.join(" | "));
    if (part.minimum !== undefined) words.push(`≥ ${part.minimum}`);
    if (part.maximum !== undefined) words.push(`≤ ${part.maximum}`);
    if (part.maxLength !== undefined) words.push(`up to ${part.maxLength} characters`);
  }
  if (schema.default !== undefined && schema.default !== null) words.push(`by default ${JSON.stringify(schema.default)}`);
  return words.join(", ");
}

function fieldTable(api, reference) {
  const schema = resolved(api, reference);
  const table = element("table");
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    const needed = (schema.required ?? []).includes(name) ? " (needed)" : "";
    const inside = resolved(api, part);
    table.append(element("tr", {},
      element("td", {}, element("code", { textContent: name }), needed),
      element("td", { textContent: [limits(inside), part.description ?? inside.description ?? ""].filter(Boolean).join(". ") })));
  }
  return table;
}

async function send(method, path, inputs, body, answer) {
  const query = new URLSearchParams();
  const headers = {};
  for (const [parameter, input] of inputs) {
    if (input.value === "") continue;
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    if (parameter.in === "query") query.append(parameter.name, input.value);
    if (parameter.in === "header") headers[parameter.name] = input.value;
  }
  if (body) headers["Content-Type"] = "application/json";
  const address = `/api${path}${query.size ? `?${query}` : ""}`;
  const response = await fetch(address, { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
  const type = response.headers.get("content-type") ?? "";
  let text = `${type}, ${response.headers.get("content-length") ?? "?"} bytes`;
  if (type.includes("json")) text = JSON.stringify(await response.json(), null, 2);
  else if (type.startsWith("text/")) text = await response.text();
  answer.textContent = `${response.status} ${response.statusText}\n${text}`;
}

function routeDetails(api, path, method, route) {
  const details = element("details", { className: method },
    element("summary", {}, element("b", { textContent: method.toUpperCase() }), element("code", { textContent: path }),
      element("span", { className: "muted", textContent: `  ${route.summary ?? ""}` })));
  details.addEventListener("toggle", () => details.children.length > 1 || fill(api, details, path, method, route));
  return details;
}

function fill(api, details, path, method, route) {
  details.append(element("p", { textContent: route.description ?? "" }),
    element("p", { className: "muted" }, "operation ", element("code", { textContent: route.operationId })));
  const inputs = (route.parameters ?? []).map((parameter) => [parameter, element("input", { ariaLabel: parameter.name })]);
  const table = element("table");
  for (const [parameter, input] of inputs) {
    const words = [parameter.in, limits(resolved(api, parameter.schema)), parameter.description].filter(Boolean).join(". ");
    table.append(element("tr", {}, element("td", {}, element("code", { textContent: parameter.name }), parameter.required ? " (needed)" : ""),
      element("td", { textContent: words }), element("td", {}, input)));
  }
  details.append(table);
  const schema = route.requestBody?.content?.["application/json"]?.schema;
  const body = schema ? element("textarea", { value: JSON.stringify(example(api, schema), null, 2), ariaLabel: "Body" }) : null;
  if (schema) details.append(element("h3", { textContent: "Body" }), fieldTable(api, schema), body);
  const answer = element("pre");
  const button = element("button", { textContent: "Send" });
  button.addEventListener("click", () => send(method, path, inputs, body, answer).catch((error) => { answer.textContent = String(error); }));
  const codes = Object.entries(route.responses ?? {}).map(([code, what]) => `${code} ${what.description}`).join("; ");
  details.append(element("p", { className: "muted", textContent: `Answers: ${codes}` }), button, answer);
}

function draw(api, words) {
  const byTag = new Map();
  for (const [path, routes] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => routes[name])) {
      const route = routes[method];
      const text = `${method} ${path} ${route.summary} ${route.operationId}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) continue;
      const tag = route.tags?.[0] ?? "other";
      byTag.set(tag, [...(byTag.get(tag) ?? []), routeDetails(api, path, method, route)]);
    }
  }
  const parts = [...byTag].sort(([a], [b]) => a.localeCompare(b)).flatMap(([tag, routes]) => [element("h2", { textContent: tag }), ...routes]);
  document.getElementById("routes").replaceChildren(...(parts.length ? parts : ["No route has these words."]));
}

const response = await fetch("openapi.json");
const api = await response.json();
const filter = document.getElementById("filter");
filter.addEventListener("input", () => draw(api, filter.value.toLowerCase().split(/\s+/).filter(Boolean)));
draw(api, []);
