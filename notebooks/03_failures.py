"""Why do calls fail?"""

# ruff: noqa: B018, PLR1711  (marimo shows a cell's last expression and writes the returns)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Why do calls fail?")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # Why do calls fail?

    A failed call is recorded as faithfully as an answered one, with what was asked and what was done
    about it. This page reads the nearest warehouse, or the one that `TRACEMILL_WAREHOUSE` names.
    """)
    return


@app.cell
def setup():
    import marimo as mo
    import polars as pl

    import tracemill
    from tracemill.analysis import plots
    from tracemill.analysis.table import Drawing, Table
    from tracemill.detection import rate_changed

    tm = tracemill.open()
    return Drawing, Table, mo, pl, plots, rate_changed, tm


@app.cell(hide_code=True)
def rates_question(mo):
    mo.md("""
    ## How many calls fail, and of which class?

    A class is a word that is the same for all providers. A stream that its reader stopped did not
    fail.
    """)
    return


@app.cell
def rates(mo, tm):
    rates_by_class = tm.errors(by="error_type")
    mo.stop(
        not len(rates_by_class),
        mo.md(
            "No call has failed yet, so there is nothing to explain: `tracemill demo` makes some."
        ),
    )
    failed, n = rates_by_class["failed"].sum(), rates_by_class.n
    in_view = tm.sql("SELECT count(*) FROM failures WHERE status <> 'finished'").item()
    assert failed == in_view, "the views disagree about what failed"
    most = rates_by_class.frame.row(0, named=True)
    mo.md(
        f"**{failed:,} of {n:,} calls failed**, {100 * failed / n:.1f} %; most often "
        f"`{most['error_type']}`, {most['failed']:,} times."
    )
    return failed, rates_by_class


@app.cell
def rates_plot(rates_by_class):
    rates_by_class.plot()
    return


@app.cell
def rates_by_model(failed, tm):
    by_model = tm.errors(by="model")
    assert by_model["failed"].sum() == failed, "a failed call has no model"
    by_model
    return


@app.cell(hide_code=True)
def retries_question(mo):
    mo.md("""
    ## What was spent on trying again?

    An attempt that failed may be followed by another, after a wait. It is worth it where the call is
    answered in the end.
    """)
    return


@app.cell
def retries(Table, mo, rates_by_class, tm):
    again = tm.sql("""
        SELECT error_type, sum(retries)::BIGINT AS retries, sum(calls)::BIGINT AS calls,
               sum(recovered)::BIGINT AS answered_then, sum(lost)::BIGINT AS lost_anyway,
               round((sum(waited_ms) + sum(spent_ms)) / 1000)::BIGINT AS spent_s
        FROM retries GROUP BY ALL ORDER BY retries DESC, error_type
    """)
    attempts = tm.sql("SELECT count(*) FROM attempts").item()
    assert again["retries"].sum() == attempts, "an attempt is in no class"
    Table(
        again,
        "What trying again took, by class of error",
        "attempts",
        rates_by_class.period,
        attempts,
        "attempts",
    ) if len(again) else mo.md("No call was tried again.")
    return (again,)


@app.cell
def retries_told(again, mo):
    calls, answered = again["calls"].sum(), again["answered_then"].sum()
    mo.md(
        f"{calls:,} calls were tried again, {answered:,} of them were answered in the end; "
        f"{again['spent_s'].sum() / 60:,.0f} minutes went into attempts that failed and into waiting."
        if calls
        else "So nothing was spent on it."
    )
    return


@app.cell(hide_code=True)
def timeline_question(mo):
    mo.md("""
    ## When do they fail?

    Each class on each day is held against the same class on all other days, allowing for days that
    differ anyway. What stands out would do so in one of a thousand such pages by chance.
    """)
    return


@app.cell
def timeline(Drawing, Table, pl, rates_by_class, tm):
    by_class = tm.errors(by=["day", "error_type"]).frame.select("day", "error_type", "failed")
    by_day = tm.costs(by="day").frame.select("day", "calls").sort("day")
    days = Table(
        by_class.sort("day", "error_type"),
        "Failed calls by day and class",
        "failed calls a day",
        rates_by_class.period,
        int(by_class["failed"].sum()),
        "failed calls",
        drawing=Drawing("stacked", "failed", ("day",), ("error_type",)),
    )
    grid = (
        by_day.join(by_class.select("error_type").unique(), how="cross")
        .join(by_class, on=["day", "error_type"], how="left")
        .with_columns(pl.col("failed").fill_null(0))
        .sort("error_type", "day")
    )
    assert grid["failed"].sum() == days.n, "a failure is on no day"
    return days, grid


@app.cell
def timeline_plot(days):
    days.plot()
    return


@app.cell
def stands_out(grid, mo, pl, rate_changed):
    bursts = []
    for (_error_type,), _rows in grid.group_by("error_type", maintain_order=True):
        for _place, _row in enumerate(_rows.rows(named=True)):
            _others = _rows.with_row_index().filter(pl.col("index") != _place)
            if _row["failed"] < 3 or _others.height < 14:
                continue
            _change = rate_changed(
                _others["failed"].sum(),
                _others["calls"].sum(),
                _row["failed"],
                _row["calls"],
                alpha=0.001 / grid.height,
                history=(_others["failed"].to_numpy(), _others["calls"].to_numpy()),
            )
            if _change.changed and _change.difference > 0:
                bursts.append({"error_type": _error_type, **_row, "usual": float(_change.before)})
    assert all(each["failed"] / each["calls"] > each["usual"] for each in bursts)
    words = [
        f"**`{each['error_type']}` on {each['day']}**: {each['failed']} of {each['calls']} calls, "
        f"{100 * each['failed'] / each['calls']:.0f} % where {100 * each['usual']:.1f} % is usual"
        for each in bursts
    ]
    mo.md(
        f"What stands out: {'; '.join(words)}." if words else "No day stands out from the others."
    )
    return (bursts,)


@app.cell
def burst_hours(bursts, mo, pl, tm):
    mo.stop(not bursts)
    worst = max(bursts, key=lambda each: each["failed"])
    hours = tm.sql(
        """
        SELECT hour(ended_at AT TIME ZONE 'UTC')::INT AS hour, request_model, count(*) AS failed
        FROM failures
        WHERE error_type = ? AND (ended_at AT TIME ZONE 'UTC')::DATE = ? AND status <> 'finished'
        GROUP BY ALL ORDER BY ALL
        """,
        [worst["error_type"], worst["day"]],
    ).pivot("request_model", index="hour", values="failed")
    counted = (
        pl.DataFrame({"hour": range(24)}, schema={"hour": pl.Int32})
        .join(hours, on="hour", how="left", maintain_order="left")
        .fill_null(0)
    )
    in_hours = counted.drop("hour").sum_horizontal().sum()
    assert in_hours == worst["failed"], "the hours are not the day"
    return counted, worst


@app.cell
def burst_plot(counted, plots, worst):
    plots.stacked(
        f"{worst['error_type']}, hour by hour",
        [f"{hour:02}" for hour in counted["hour"]],
        {name: counted[name].to_list() for name in counted.columns[1:]},
        unit="failed calls an hour",
        period=f"{worst['day']} UTC",
        n=worst["failed"],
        of="failed calls",
    )
    return


@app.cell(hide_code=True)
def clusters_question(mo):
    mo.md("""
    ## What is behind them?

    The same cause is told in many ways. Failures are grouped by what their messages mean, within
    their class; the label is the class and the most telling words.
    """)
    return


@app.cell
def clusters(failed, tm):
    causes = tm.failures.cluster()
    assert causes.calls["call_id"].is_unique().all(), "a failure is in two clusters"
    assert causes.frame["n"].sum() == causes.n >= failed, "a failure is in no cluster"
    causes
    return (causes,)


@app.cell
def clusters_plot(causes):
    causes.plot()
    return


@app.cell
def clusters_told(causes, mo, pl):
    named = causes.frame.filter(pl.col("cluster") > 0)
    items = [
        f"1. **{label}** ({n:,}, {wordings} wording{'s' * (wordings > 1)}): *{error or prompt}*"
        for label, n, wordings, error, prompt in named.select(
            "label", "n", "wordings", "error", "prompt"
        )
        .head(10)
        .rows()
    ]
    mo.md(
        f"{causes.n:,} failures have {named.height} causes. The most typical of each:\n\n"
        + "\n".join(items)
    )
    return (named,)


@app.cell(hide_code=True)
def similar_question(mo):
    mo.md("""
    ## Has this happened before, and what helped?

    Past failures like the latest one of the largest cluster, and what was done next.
    """)
    return


@app.cell
def similar(causes, mo, named, tm):
    ids = (
        causes.of(int(named["cluster"][0]))["call_id"] if named.height else causes.calls["call_id"]
    )
    like = tm.failures.similar(ids[-1], n=8)
    own = tm.sql("SELECT error_type FROM failures WHERE call_id = ?", [ids[-1]]).item()
    kinds = tm.sql("SELECT call_id FROM failures WHERE error_type = ?", [own])["call_id"]
    nearest = like["call_id"].is_in(kinds.implode())
    assert nearest.to_list() == sorted(nearest, reverse=True), "another class comes before its own"
    mo.md(f"The latest failure of that cluster is the call `{ids[-1]}`, of the class `{own}`.")
    return (like,)


@app.cell
def similar_table(Table, like, pl):
    done = pl.col("next").struct
    Table(
        like.frame.select(
            pl.col("similarity").round(2),
            "same",
            pl.col("when").dt.date(),
            pl.col("error").str.slice(0, 59),
            pl.col("prompt").str.slice(0, 59),
            pl.concat_str(done.field("how"), pl.lit(", "), done.field("status")).alias("next"),
        ),
        like.title,
        like.unit,
        like.period,
        like.n,
        like.of,
    )
    return


@app.cell(hide_code=True)
def next_question(mo):
    mo.md("""
    ## Did another model help?

    A failed call may be answered by another model in its place.
    """)
    return


@app.cell
def fallbacks(Table, mo, rates_by_class, tm):
    instead = tm.sql("""
        SELECT f.error_type, f.request_model AS failed_model, c.request_model AS next_model,
               count(*) AS calls, count(*) FILTER (c.status = 'finished') AS answered
        FROM calls AS c JOIN failures AS f ON f.call_id = c.fallback_of
        GROUP BY ALL ORDER BY calls DESC, f.error_type, failed_model, next_model
    """)
    assert (instead["answered"] <= instead["calls"]).all(), "more were answered than asked"
    Table(
        instead,
        "Calls that were made in place of failed ones",
        "calls",
        rates_by_class.period,
        int(instead["calls"].sum()),
    ) if len(instead) else mo.md("No failed call was followed by a fallback.")
    return


if __name__ == "__main__":
    app.run()
