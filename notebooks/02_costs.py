"""What did we spend, and what would it cost elsewhere?"""

# ruff: noqa: B018, PLR1711, S608  (marimo shows a cell's last expression and writes the returns; no SQL is of users)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="What did we spend?")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # What did we spend, and what would it cost elsewhere?

    Costs are by the shipped prices of the day of each call, in US dollars. This page reads the
    nearest warehouse, or the one that `TRACEMILL_WAREHOUSE` names.
    """)
    return


@app.cell
def setup():
    import marimo as mo
    import polars as pl

    import tracemill
    from tracemill.analysis import plots
    from tracemill.analysis.table import Table
    from tracemill.prices import WELL_KNOWN

    tm = tracemill.open()
    return Table, WELL_KNOWN, mo, pl, plots, tm


@app.cell(hide_code=True)
def spent_question(mo):
    mo.md("""
    ## How much was it, by day and model?
    """)
    return


@app.cell
def spent(mo, pl, tm):
    costs = tm.costs(by=["day", "model"])
    mo.stop(not len(costs), mo.md("No call has ended yet: `tracemill demo` makes some."))
    daily = costs.frame.group_by("day").agg(pl.col("cost_usd").sum()).sort("day")
    total = daily["cost_usd"].sum()
    dearest = daily.sort("cost_usd").row(-1, named=True)
    assert total == tm.sql("SELECT sum(cost_usd) FROM costs_by_day").item(), "the views disagree"
    mo.md(
        f"{costs.n:,} calls on {daily.height} days cost **{total:,.2f} USD**, "
        f"{total / daily.height:,.2f} USD a day. The dearest day was {dearest['day']} with "
        f"{dearest['cost_usd']:,.2f} USD; half of the days cost less than "
        f"{daily['cost_usd'].cast(float).median():,.2f} USD."
    )
    return costs, total


@app.cell
def spent_plot(costs):
    costs.plot()
    return


@app.cell
def spent_by_model(tm, total):
    by_model = tm.costs(by="model")
    assert by_model["cost_usd"].sum() == total, "the models are not the whole"
    by_model
    return


@app.cell(hide_code=True)
def known_question(mo):
    mo.md("""
    ## How much of it is known?

    A call of a model without a known price costs nothing here, which it did not; tokens that we
    counted ourselves, because the provider did not tell, are near but not exact.
    """)
    return


@app.cell
def known(mo, tm, total):
    what = tm.sql("""
        SELECT sum(billed) AS billed, sum(priced) AS priced, sum(unpriced) AS unpriced,
               sum(estimated) AS estimated, sum(running) AS running
        FROM completeness
    """).row(0, named=True)
    recorded = tm.sql("SELECT coalesce(sum(recorded_usd), 0) FROM costs_by_day").item()
    assert what["priced"] + what["unpriced"] == what["billed"], "a call is neither priced nor not"
    mo.md(
        f"Of {what['billed']:,} answers that are paid for **{what['priced']:,} have a price** and "
        f"{what['unpriced']:,} have none; of {what['estimated']:,} the tokens are estimated; "
        f"{what['running']:,} calls have not ended. When the calls were made {recorded:,.2f} USD "
        f"were recorded for them, by the prices of now it is {total:,.2f} USD."
    )
    return


@app.cell
def unpriced(Table, costs, tm):
    Table(
        tm.sql("""
            SELECT provider, request_model, unpriced_reason, count(*) AS calls,
                   sum(input_tokens)::BIGINT AS input_tokens,
                   sum(output_tokens)::BIGINT AS output_tokens
            FROM call_costs WHERE repriced_usd IS NULL GROUP BY ALL ORDER BY calls DESC LIMIT 20
        """),
        "Calls without a known price",
        "calls",
        costs.period,
        int(costs["unpriced"].sum()),
    )
    return


@app.cell(hide_code=True)
def who_question(mo):
    mo.md("""
    ## Who spent it?

    By key, by the tags of the calls, by prompt version and by user. A call has one key, and may have
    several tags or none.
    """)
    return


@app.cell
def who(Table, costs, pl, tm, total):
    shares = tm.sql("""
        SELECT 'key' AS by, coalesce(key_id, 'none') AS name, calls, cost_usd FROM costs_by_key
        UNION ALL
        SELECT 'tag ' || tag, value, calls, cost_usd FROM costs_by_tag WHERE tag IS NOT NULL
        UNION ALL
        SELECT 'prompt', coalesce(prompt_name || '@' || left(prompt_version, 8), 'none'),
               calls, cost_usd FROM costs_by_prompt
        UNION ALL
        FROM (SELECT 'user' AS by, coalesce(user_id, 'none'), calls, cost_usd
              FROM costs_by_user ORDER BY cost_usd DESC, user_id LIMIT 5)
    """).with_columns(
        pl.col("cost_usd").cast(float),
        percent=(100 * pl.col("cost_usd") / (float(total) or 1)).round(1),
    )
    by_key = shares.filter(pl.col("by") == "key")["cost_usd"].sum()
    assert abs(by_key - float(total)) < 1e-6, "the keys are not the whole"
    order = pl.col("by").replace_strict({"key": 0, "prompt": 2, "user": 3}, default=1)
    Table(
        shares.sort(order, "by", "cost_usd", "name", descending=[False, False, True, False]),
        "Costs by key, tag, prompt version, and the five users who cost most",
        "USD",
        costs.period,
        costs.n,
    )
    return (shares,)


@app.cell
def who_plot(costs, pl, plots, shares):
    tagged = shares.filter(pl.col("by").str.starts_with("tag ") | (pl.col("by") == "key"))
    tagged = tagged.sort("cost_usd", "by", "name", descending=[True, False, False])
    plots.bars(
        "Costs by key and tag",
        [f"{by.removeprefix('tag ')}: {name}" for by, name in tagged.select("by", "name").rows()],
        tagged["cost_usd"].to_list(),
        unit="USD",
        period=costs.period,
        n=costs.n,
    )
    return


@app.cell(hide_code=True)
def elsewhere_question(mo):
    mo.md("""
    ## What would the same calls have cost elsewhere?

    The same tokens by the prices of other models, on the day of each call. Another model would count
    and write somewhat more or fewer. What caches gave is left out, as each provider has its own.
    """)
    return


@app.cell
def elsewhere(Table, WELL_KNOWN, costs, pl, tm):
    asked = [f"{provider}/{model}" for provider, model in WELL_KNOWN]
    rows = [
        tm.sql(
            "SELECT ? AS model, sum(calls)::BIGINT AS calls, sum(cost_usd) AS paid_usd, "
            "sum(then_usd) AS then_usd, sum(unpriced)::BIGINT AS unpriced "
            "FROM reprice(model := ?, caching := 0)",
            [model, model],
        )
        for model in asked
    ]
    other = (
        pl.concat(rows)
        .with_columns(pl.col("paid_usd", "then_usd").cast(float).fill_null(0))
        .sort("then_usd", "model", descending=[True, False])
    )
    paid = tm.sql("SELECT coalesce(sum(repriced_usd), 0)::DOUBLE FROM call_costs").item()
    assert (other["paid_usd"] <= paid + 1e-6).all(), "more was paid for some calls than for all"
    compared = Table(
        other,
        "The same tokens on other models",
        "USD",
        costs.period,
        int(other["calls"].max() or 0),
        note="unpriced: calls that have no price there or here, and are in neither sum",
    )
    compared
    return (compared,)


@app.cell
def elsewhere_plot(compared, plots):
    frame = compared.frame.filter(compared["then_usd"] > 0)
    plots.bars(
        compared.title,
        ["paid", *frame["model"]] if len(frame) else [],
        [compared["paid_usd"].max(), *frame["then_usd"]] if len(frame) else [],
        unit="USD",
        period=compared.period,
        n=compared.n,
    )
    return


@app.cell
def elsewhere_told(compared, mo, pl):
    cheaper = compared.frame.filter(
        (pl.col("then_usd") > 0) & (pl.col("then_usd") < pl.col("paid_usd"))
    )
    names = [
        f"{model} ({usd:,.2f} USD)" for model, usd in cheaper.select("model", "then_usd").rows()
    ]
    mo.md(
        f"Of these, {len(names)} would have cost less than what was paid: {', '.join(names)}. "
        "Whether they answer as well is a matter for `tm.replay` and for the notebook on prompts."
        if names
        else "None of these would have cost less."
    )
    return


@app.cell(hide_code=True)
def savings_question(mo):
    mo.md("""
    ## What do batches and caches save?

    What a batch would have saved if every call could wait a day, and what it would cost without any
    cache of a provider or with four fifths of every prompt read from one.
    """)
    return


@app.cell
def savings(Table, costs, pl, tm):
    ways = {
        "nothing in batches": "reprice()",
        "all in batches": "reprice(batch := true)",
        "without the providers' caches": "reprice(caching := 0)",
        "80 % of the input from caches": "reprice(caching := 0.8)",
    }
    saved = pl.concat(
        [
            tm.sql(
                "SELECT ? AS how, sum(calls)::BIGINT AS calls, sum(cost_usd)::DOUBLE AS paid_usd, "
                f"sum(then_usd)::DOUBLE AS then_usd, sum(unpriced)::BIGINT AS unpriced FROM {call}",
                [how],
            )
            for how, call in ways.items()
        ]
    ).with_columns(pl.col("paid_usd", "then_usd").fill_null(0))
    never, batches, uncached, cached = saved["then_usd"]
    assert batches <= never, "batches cost more"
    assert cached <= uncached, "caches cost more"
    savings_table = Table(
        saved, "The same calls, paid in another way", "USD", costs.period, costs.n
    )
    savings_table
    return (savings_table,)


@app.cell
def savings_told(mo, savings_table, tm):
    answers = tm.sql("""
        SELECT coalesce(sum(answered), 0)::BIGINT AS answered,
               coalesce(sum(answers_saved_usd), 0)::DOUBLE AS answers_usd,
               coalesce(sum(reads_saved_usd), 0)::DOUBLE AS reads_usd,
               coalesce(sum(hits), 0)::BIGINT AS hits
        FROM cache_savings
    """).row(0, named=True)
    less = savings_table["paid_usd"] - savings_table["then_usd"]
    in_calls = tm.sql("SELECT count(*) FROM calls WHERE status = 'cached'").item()
    assert answers["answered"] == in_calls, "the view of caches has lost an answer"
    mo.md(
        f"In batches it would have cost **{less[1]:,.2f} USD** less. The providers' caches read for "
        f"{answers['hits']:,} calls and saved {answers['reads_usd']:,.2f} USD; our own cache "
        f"answered {answers['answered']:,} calls and saved {answers['answers_usd']:,.2f} USD."
    )
    return


if __name__ == "__main__":
    app.run()
