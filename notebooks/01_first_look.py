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
    import matplotlib.pyplot as plt
    import polars as pl

    from tracemill import EventLog

    log = EventLog.open()
    pl.Config(
        tbl_formatting="MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=20,
        tbl_cols=12,
        tbl_width_chars=1_000,
        fmt_str_lengths=100,
    )
    plt.rc("axes.spines", top=False, right=False)
    return log, mo, pl, plt


@app.cell(hide_code=True)
def who_question(mo):
    mo.md("""
    ## Whose calls are these?

    The log says who asked for each call, so this page can say what it was made from. The copy in
    `notebooks/rendered/` is made from the sample that lies beside it.
    """)
    return


@app.cell
def who(log, mo):
    whose = log.sql("""
        SELECT coalesce(actor, 'nobody named') AS actor, count(*) AS calls,
               min(occurred_at)::DATE AS first, max(occurred_at)::DATE AS last
        FROM events WHERE kind = 'llm.call.started' GROUP BY actor ORDER BY calls DESC
    """)
    mo.md("No model was called yet: run `tracemill demo`." if whose.is_empty() else str(whose))
    return (whose,)


@app.cell(hide_code=True)
def how_many_question(mo):
    mo.md("""
    ## How many calls were answered?

    A call begins as one event and ends as another. One without an end is still running, or its
    process was killed.
    """)
    return


@app.cell
def how_many(log, mo, whose):
    by_status = log.sql("""
        SELECT status, provider, request_model, count(*) AS calls,
               sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens
        FROM calls GROUP BY ALL ORDER BY ALL
    """)
    assert by_status["calls"].sum() == whose["calls"].sum(), "a call that never started has ended"
    mo.md(str(by_status))
    return


@app.cell(hide_code=True)
def cost_question(mo):
    mo.md("""
    ## What did they cost, by day and model?

    The price is the one that was in force on the day of the call. Days are UTC.
    """)
    return


@app.cell
def cost(log, pl, plt, whose):
    costs = log.sql("FROM costs_by_day ORDER BY day, request_model").with_columns(
        pl.col("cost_usd").cast(pl.Float64)
    )
    days = [f"{day:%d %b}" for day in costs["day"].unique().sort()]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axes, column, unit in zip(
        panels, ("calls", "cost_usd"), ("calls", "US dollars"), strict=True
    ):
        by_day = costs.pivot("request_model", index="day", values=column).fill_null(0).sort("day")
        below = pl.zeros(by_day.height, eager=True)
        for model in sorted(set(by_day.columns) - {"day"}):
            label = model if column == "calls" else None
            axes.bar(days, by_day[model], bottom=below, width=0.6, label=label)
            below += by_day[model]
        axes.set_xlim(-0.5, max(len(days), 7) - 0.5)
        axes.tick_params(axis="x", rotation=45)
        axes.set_ylabel(unit)
    if days:
        figure.legend(loc="outside right upper", frameon=False)
    assert costs["calls"].sum() <= whose["calls"].sum(), "more calls have ended than have begun"
    figure
    return (costs,)


@app.cell
def cost_table(costs, mo, pl):
    by_model = (
        costs.group_by("provider", "request_model")
        .agg(
            pl.col("calls", "failed", "input_tokens", "output_tokens", "cost_usd", "unpriced").sum()
        )
        .sort("cost_usd", "request_model", descending=[True, False])
    )
    mo.md(str(by_model))
    return


@app.cell(hide_code=True)
def failures_question(mo):
    mo.md("""
    ## Which calls failed, and why?

    A failed call is recorded as faithfully as an answered one.
    """)
    return


@app.cell
def failures(costs, log, mo):
    by_error = log.sql("""
        SELECT error_type, request_model, count(*) AS calls, min(error_message) AS for_example
        FROM failures GROUP BY ALL ORDER BY calls DESC, error_type, request_model
    """)
    assert by_error["calls"].sum() == costs["failed"].sum(), "the views disagree about failures"
    mo.md("No call failed." if by_error.is_empty() else str(by_error))
    return


@app.cell(hide_code=True)
def latency_question(mo):
    mo.md("""
    ## How long did they take?

    From the request to the whole answer; the scale is logarithmic, for the first call of a
    process loads the model.
    """)
    return


@app.cell
def latency(log, pl, plt):
    times = log.sql("SELECT request_model, latency_ms FROM calls WHERE status = 'finished'")
    shortest, longest = times["latency_ms"].min() or 0.1, times["latency_ms"].max() or 1.0
    edges = [shortest * (longest / shortest) ** (step / 40) for step in range(41)]
    latency_figure, latency_axes = plt.subplots(figsize=(9, 3), layout="constrained")
    for name in times["request_model"].unique().sort():
        of_model = times.filter(pl.col("request_model") == name)["latency_ms"]
        latency_axes.hist(of_model, bins=edges, alpha=0.7, label=name)
    latency_axes.set_xscale("log")
    latency_axes.set_xlabel("milliseconds, logarithmic")
    latency_axes.set_ylabel("calls")
    if times.height:
        latency_figure.legend(loc="outside right upper", frameon=False)
    latency_figure
    return (times,)


@app.cell
def latency_table(mo, pl, times):
    spent = pl.col("latency_ms")
    quantiles = times.group_by("request_model").agg(
        pl.len().alias("calls"),
        spent.median().round(2).alias("median_ms"),
        spent.quantile(0.95).round(2).alias("p95_ms"),
        spent.max().round(2).alias("slowest_ms"),
    )
    assert (quantiles["median_ms"] <= quantiles["p95_ms"]).all(), "quantiles out of order"
    mo.md(str(quantiles.sort("request_model")))
    return


if __name__ == "__main__":
    app.run()
