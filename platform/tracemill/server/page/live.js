// The live tail: each call that ends becomes a row on top of the table.
const body = document.getElementById("tail");
const state = document.getElementById("tail-state");
if (body && window.EventSource) {
  const source = new EventSource("/live");
  source.onopen = () => { state.textContent = "live"; };
  source.onerror = () => { state.textContent = "reconnecting"; };
  source.onmessage = (message) => {
    const call = JSON.parse(message.data);
    const row = document.createElement("tr");
    const cell = (text, name) => {
      const made = document.createElement("td");
      made.textContent = text;
      if (name) made.className = name;
      row.append(made);
      return made;
    };
    const link = document.createElement("a");
    link.href = "/calls/" + encodeURIComponent(call.call_id);
    link.textContent = call.ended_at;
    cell("").append(link);
    cell(call.status, "status " + call.status);
    cell(call.model);
    cell(call.tokens === null ? "" : call.tokens.toLocaleString("en"), "n");
    cell(call.usd === null ? "" : "$" + Number(call.usd).toPrecision(3), "n");
    cell(call.latency_ms === null ? "" : Math.round(call.latency_ms).toLocaleString("en") + " ms", "n");
    cell("");
    body.prepend(row);
    while (body.rows.length > 100) body.deleteRow(-1);
  };
}
