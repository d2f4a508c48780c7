"""What did the models do, and what did it cost? A first look at the log's calls."""

# ruff: noqa: B018, PLR1711  (marimo shows a cell's last expression and writes the returns)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="A first look at the calls")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # A first look at the calls

    Every call of a model is an event in the log. This page asks the log five questions about
    them. It reads the nearest warehouse, or the one that `TRACEMILL_WAREHOUSE` names.
    """)
    return


@app.cell
def setup():
    import marimo as mo

    import tracemill
    from tracemill.analysis import plots
    from tracemill.analysis.table import Table

    tm = tracemill.open()
    return Table, mo, plots, tm


@app.cell(hide_code=True)
def who_question(mo):
    mo.md("""
    ## Whose calls are these?

    The log says who asked for each call, so this page can say what it was made from. The copy in
    `notebooks/rendered/` is made from `assets/sample_log/`, and every event of that says so.
    """)
    return


@app.cell
def who(Table, mo, tm):
    whose = tm.sql("""
        SELECT coalesce(actor, 'nobody named') AS actor, count(*) AS calls,
               min(occurred_at)::DATE AS first, max(occurred_at)::DATE AS last
        FROM events WHERE kind IN ('llm.call.started', 'llm.call.cached')
        GROUP BY actor ORDER BY calls DESC
    """)
    mo.stop(whose.is_empty(), mo.md("No model was called yet: `tracemill demo` makes some calls."))
    period = f"{whose['first'].min()} to {whose['last'].max()} UTC"
    n = int(whose["calls"].sum())
    assert n == tm.sql("SELECT count(*) FROM calls").item(), "a call has two beginnings"
    Table(whose, "Calls by who asked for them", "calls", period, n)
    return n, period


@app.cell(hide_code=True)
def how_many_question(mo):
    mo.md("""
    ## How many calls were answered?

    A call begins as one event and ends as another. One without an end is still running, or its
    process was killed.
    """)
    return


@app.cell
def how_many(Table, n, period, tm):
    by_status = tm.sql("""
        SELECT status, provider, request_model, count(*) AS calls,
               sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens
        FROM calls GROUP BY ALL ORDER BY ALL
    """)
    assert by_status["calls"].sum() == n, "a call that never started has ended"
    Table(by_status, "Calls by what came of them", "calls", period, n)
    return


@app.cell(hide_code=True)
def latest_question(mo):
    mo.md("""
    ## What was asked last?

    The newest calls, as the view `calls` has them; `tm.calls` takes a period, a model, a user, a tag.
    """)
    return


@app.cell
def latest(Table, n, tm):
    newest = tm.calls(limit=5)
    assert newest["started_at"].is_sorted(descending=True), "the newest do not come first"
    assert len(newest) == min(5, n), "there are fewer calls than were counted"
    Table(
        newest.frame.select("started_at", "request_model", "status", "prompt", "answer"),
        "The newest calls",
        "calls",
        newest.period,
        newest.n,
    )
    return


@app.cell(hide_code=True)
def cost_question(mo):
    mo.md("""
    ## What did they cost, by day and model?

    The price is the one that was in force on the day of the call. Days are UTC.
    """)
    return


@app.cell
def cost(n, tm):
    costs = tm.costs(by=["day", "model"])
    assert costs["calls"].sum() <= n, "more calls have ended than have begun"
    costs.plot()
    return (costs,)


@app.cell
def cost_by_model(costs, tm):
    by_model = tm.costs(by="model")
    assert by_model["cost_usd"].sum() == costs["cost_usd"].sum(), "the models are not the whole"
    by_model
    return


@app.cell(hide_code=True)
def failures_question(mo):
    mo.md("""
    ## Which calls failed, and why?

    A failed call is recorded as faithfully as an answered one.
    """)
    return


@app.cell
def failures(mo, n, tm):
    by_error = tm.errors(by=["error_type", "model"])
    in_view = tm.sql("SELECT count(*) FROM failures WHERE status <> 'finished'").item()
    assert by_error["failed"].sum() == in_view <= n, "the views disagree about failures"
    by_error if len(by_error) else mo.md("No call failed.")
    return


@app.cell(hide_code=True)
def latency_question(mo):
    mo.md("""
    ## How long did they take?

    From the request to the whole answer: the median, and up to what nine of ten took. Answers of a
    batch take as long as the batch.
    """)
    return


@app.cell
def latency(n, plots, tm):
    times = tm.latency(by=["model", "operation"])
    assert (times["p50_ms"] <= times["p90_ms"]).all(), "quantiles out of order"
    assert times["calls"].sum() <= n, "more calls were answered than asked"
    plots.intervals(
        times.title,
        [
            (f"{model}, {operation}", p50, p50, p90)
            for model, operation, p50, p90 in times.frame.select(
                "model", "operation", "p50_ms", "p90_ms"
            ).rows()
        ],
        unit="ms, the median and up to the 90th percentile",
        period=times.period,
        n=times.n,
    )
    return (times,)


@app.cell
def latency_table(times):
    times
    return


if __name__ == "__main__":
    app.run()
