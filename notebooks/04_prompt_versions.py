"""Is a version of a prompt better?"""

# ruff: noqa: B018, PLR1711  (marimo shows a cell's last expression and writes the returns)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Is a version of a prompt better?")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # Is a version of a prompt better?

    Two versions of a prompt are held against each other by what came of their calls: answers,
    feedback, cost, time. This page reads the nearest warehouse, or the one that
    `TRACEMILL_WAREHOUSE` names.
    """)
    return


@app.cell
def setup():
    import marimo as mo
    import polars as pl

    import tracemill
    from tracemill.analysis import plots
    from tracemill.analysis.table import Table
    from tracemill.detection import rate_changed
    from tracemill.intervals import TWO_SIDED_95, holm, paired

    tm = tracemill.open()
    return TWO_SIDED_95, Table, holm, mo, paired, pl, plots, rate_changed, tm


@app.cell(hide_code=True)
def board_question(mo):
    mo.md("""
    ## Which versions are there?
    """)
    return


@app.cell
def board(Table, mo, tm):
    versions = tm.sql("""
        SELECT prompt_name AS prompt, left(prompt_version, 8) AS version,
               array_to_string(labels, ', ') AS labels, calls, failure_rate, feedback,
               mean_feedback, cost_per_call_usd, p50_latency_ms
        FROM prompt_scoreboard WHERE calls > 0 ORDER BY prompt, calls DESC, version
    """)
    mo.stop(
        not len(versions),
        mo.md(
            "No call was made by a registered prompt yet: `tracemill demo` makes some, "
            "and `tracemill prompts add` registers yours."
        ),
    )
    named = tm.sql(
        "SELECT count(*) FROM calls WHERE prompt_name IS NOT NULL AND ended_at IS NOT NULL"
    )
    assert versions["calls"].sum() == named.item(), "a call is of no version"
    first_last = tm.sql("SELECT min(started_at)::DATE, max(started_at)::DATE FROM calls").row(0)
    period = f"{first_last[0]} to {first_last[1]} UTC"
    Table(versions, "Versions of prompts", "", period, int(versions["calls"].sum()))
    return


@app.cell(hide_code=True)
def choice_question(mo):
    mo.md("""
    ## Which two are compared?

    The two most used versions of one prompt, over the days on which both were in use: what happened
    on other days, such as an outage, says nothing of either.
    """)
    return


@app.cell
def choice(mo, pl, tm):
    used = tm.sql("""
        SELECT prompt_name, prompt_version, count(*) AS calls,
               min(started_at)::DATE AS first, max(started_at)::DATE AS last
        FROM calls WHERE prompt_name IS NOT NULL AND status <> 'running'
        GROUP BY ALL ORDER BY calls DESC, first
    """)
    two = (
        used.group_by("prompt_name", maintain_order=True)
        .head(2)
        .filter(pl.len().over("prompt_name") == 2)
        .with_columns(
            since=pl.col("first").max().over("prompt_name"),
            until=pl.col("last").min().over("prompt_name"),
            fewer=pl.col("calls").min().over("prompt_name"),
        )
        .filter(pl.col("since") <= pl.col("until"))
        .sort("fewer", "first", descending=[True, False], maintain_order=True)
        .head(2)
        .sort("first")
    )
    mo.stop(
        not len(two),
        mo.md(
            "No prompt has two versions that were in use at the same time, so there is nothing to "
            "compare: let a part of the calls use the other version for some days, or ask logged "
            "calls again with `tm.replay(calls, prompt='NAME@VERSION')`."
        ),
    )
    prompt, since, until = two["prompt_name"][0], two["since"][0], two["until"][0]
    old, new = two["prompt_version"]
    assert old != new, "a version is compared with itself"
    mo.md(
        f"**{prompt}**: `{old[:8]}` (the older, *before*) and `{new[:8]}` (*after*), from {since} to {until}."
    )
    return new, old, prompt, since, until


@app.cell
def answers(new, old, pl, prompt, since, tm, until):
    answered = tm.sql(
        """
        SELECT call_id, prompt_version AS version, prompt AS question,
               (status IN ('finished', 'cached') AND finish_reason IS DISTINCT FROM 'content_filter'
                OR status = 'aborted' AND error_type = 'interrupted')::INT AS answered,
               score, repriced_usd::DOUBLE AS cost_usd,
               latency_ms / 1000 AS latency_s, output_tokens
        FROM calls
        LEFT JOIN (SELECT call_id, avg(score) AS score FROM feedback GROUP BY ALL) USING (call_id)
        LEFT JOIN (SELECT call_id, repriced_usd FROM call_costs) USING (call_id)
        WHERE prompt_name = ? AND prompt_version IN (?, ?) AND status <> 'running'
          AND started_at::DATE BETWEEN ? AND ?
        ORDER BY started_at, call_id
        """,
        [prompt, old, new, since, until],
    ).with_columns(
        # Of a call that failed, cost and time are not those of an answer.
        pl.when(pl.col("answered") == 1).then(pl.col("cost_usd", "latency_s", "output_tokens")),
        good=(pl.col("score") > 0).cast(pl.Int64),
    )
    by_version = [answered.filter(pl.col("version") == each) for each in (old, new)]
    assert min(map(len, by_version)) > 0, "a version has no call on these days"
    assert answered["call_id"].is_unique().all(), "a call is counted twice"
    return answered, by_version


@app.cell(hide_code=True)
def unpaired_question(mo):
    mo.md("""
    ## How do they differ over all calls?

    Whether there was an answer, and whether it was judged good, decide; cost, time and length are
    beside. The intervals hold the true difference in 95 of 100 cases: Newcombe's for shares, Welch's
    for means. `p` is two-sided, corrected by Holm as there are two figures that decide. All this
    holds where chance decided which call got which version.
    """)
    return


@app.cell
def unpaired(TWO_SIDED_95, Table, by_version, holm, pl, prompt, rate_changed, since, until):
    before, after = by_version
    _rows = []
    for _name in ("answered", "good", "cost_usd", "latency_s", "output_tokens"):
        _was, _became = before[_name].drop_nulls(), after[_name].drop_nulls()
        if min(len(_was), len(_became)) < 10:
            continue
        _row = {"figure": _name, "n_before": len(_was), "n_after": len(_became)}
        _row |= {"before": _was.mean(), "after": _became.mean()}
        _row["difference"] = _row["after"] - _row["before"]
        if _name in ("answered", "good"):
            _change = rate_changed(_was.sum(), len(_was), _became.sum(), len(_became), alpha=0.05)
            _row |= {"low": float(_change.low), "high": float(_change.high), "p": float(_change.p)}
        else:
            _error = TWO_SIDED_95 * (_was.var() / len(_was) + _became.var() / len(_became)) ** 0.5
            _row |= {
                "low": _row["difference"] - _error,
                "high": _row["difference"] + _error,
                "p": None,
            }
        _rows.append(_row)
    ends = ["before", "after", "difference", "low", "high", "p"]
    schema = {"figure": pl.String, "n_before": pl.Int64, "n_after": pl.Int64}
    frame = pl.DataFrame(_rows, schema=schema | dict.fromkeys(ends, pl.Float64))
    tested = frame["p"].is_not_null()
    corrected = iter(holm(frame["p"].drop_nulls().to_list()))
    frame = frame.with_columns(
        pl.Series("p", [next(corrected) if each else None for each in tested], pl.Float64)
    )
    assert frame["difference"].is_between(frame["low"], frame["high"]).all(), "an interval misses"
    apart = Table(
        frame,
        f"{prompt}: after less before, over all calls",
        "",
        f"{since} to {until} UTC",
        len(before) + len(after),
    )
    apart
    return (apart,)


@app.cell
def unpaired_plot(apart, pl, plots):
    relative = apart.frame.filter(pl.col("before") > 0).with_columns(
        (pl.col("difference", "low", "high") * 100 / pl.col("before")).name.keep()
    )
    plots.intervals(
        apart.title,
        relative.select("figure", "difference", "low", "high").rows(),
        unit="% of before; intervals for 95 %",
        period=apart.period,
        n=apart.n,
        mark=0.0,
    )
    return


@app.cell(hide_code=True)
def paired_question(mo):
    mo.md("""
    ## And on the same questions?

    Where both versions were asked the same, each question is held against itself: what is hard for
    one is hard for the other, so far fewer calls tell as much. McNemar's exact test, with Tango's
    interval, for shares; resampled differences for the others. `p` is that of a change for the
    worse.
    """)
    return


@app.cell
def pairs(Table, answered, apart, mo, new, old, paired, pl, prompt):
    figures = ("answered", "good", "cost_usd", "latency_s", "output_tokens")
    sides = [
        answered.filter(pl.col("version") == each).group_by("question").agg(pl.col(figures).mean())
        for each in (old, new)
    ]
    both = sides[0].join(sides[1], on="question", suffix="_after").sort("question")
    measured = []
    for _figure in figures if both.height >= 10 else ():
        _share = _figure in ("answered", "good")
        _found = paired(
            both[_figure].to_list(),
            both[f"{_figure}_after"].to_list(),
            unit=_share,
            lower=not _share,
        )
        if _found.n >= 10:
            measured.append({"figure": _figure, **_found._asdict()})
    _columns = ["figure", "before", "after", "difference", "low", "high", "p", "n", "test"]
    on_same = (
        pl.DataFrame(measured, infer_schema_length=None).select(_columns) if measured else None
    )
    assert both["question"].is_unique().all(), "a question has two pairs"
    mo.md(
        f"Only {both.height} questions were put to both versions: too few for pairs. "
        "`tm.replay(calls, prompt='NAME@VERSION')` asks logged calls again by another version."
    ) if on_same is None else Table(
        on_same,
        f"{prompt}: after less before, on the same questions",
        "",
        apart.period,
        both.height,
        "questions",
    )
    return (on_same,)


@app.cell(hide_code=True)
def verdict_question(mo):
    mo.md("""
    ## So which one?

    Worse is a version whose share of answers, or of good ones, is lower by more than chance explains.
    Pairs go before all calls where there are any.
    """)
    return


@app.cell
def verdict(apart, mo, new, old, on_same, pl):
    judged = apart.frame if on_same is None else on_same
    decisive = judged.filter(pl.col("figure").is_in(["answered", "good"]))
    lower = decisive.filter(pl.col("high") < 0)
    higher = decisive.filter(pl.col("low") > 0)
    worse = new if lower.height and not higher.height else None
    worse = old if higher.height and not lower.height else worse
    told = [
        f"{row['figure']} {100 * row['before']:.1f} % before and {100 * row['after']:.1f} % after "
        f"({100 * row['difference']:+.1f} points, {100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        for row in decisive.rows(named=True)
    ]
    cost = apart.frame.filter(pl.col("figure") == "cost_usd")
    assert not (lower.height and worse == old), "the better version is called worse"
    mo.md(
        (f"**The version `{worse[:8]}` is worse**: " if worse else "**Neither is clearly worse**: ")
        + ("; ".join(told) or "there is too little to say so")
        + "."
        + "".join(
            f" An answer costs {1000 * row['before']:.2f} USD a thousand before, "
            f"{1000 * row['after']:.2f} USD after."
            for row in cost.rows(named=True)
        )
    )
    return


@app.cell(hide_code=True)
def power_question(mo):
    mo.md("""
    ## How many calls does it take to see a difference?

    Of each version, so that a true drop of so many points is found in 80 of 100 trials, at 5 % false
    alarms (Fleiss 1981, for two independent shares). Days are at the pace of these two.
    """)
    return


@app.cell
def power(TWO_SIDED_95, Table, apart, pl, since, until):
    z_power = 0.8416212335729143  # of 80 %: the quantile of the normal distribution
    days = (until - since).days + 1
    _needed = []
    for _row in apart.frame.filter(pl.col("figure").is_in(["answered", "good"])).rows(named=True):
        _usual, _seen = _row["before"], min(_row["n_before"], _row["n_after"])
        for _points in (1, 2, 5, 10, 20):
            _then = _usual - _points / 100
            if _then <= 0:
                continue
            _even = (_usual + _then) / 2
            _spread = TWO_SIDED_95 * (2 * _even * (1 - _even)) ** 0.5
            _spread += z_power * (_usual * (1 - _usual) + _then * (1 - _then)) ** 0.5
            _calls = int((_spread / (_usual - _then)) ** 2) + 1
            _needed.append(
                (_row["figure"], 100 * _usual, _points, _calls, _seen, round(_calls * days / _seen))
            )
    _columns = ["figure", "before_percent", "drop_points", "needed_of_each", "there_are", "days"]
    sizes = pl.DataFrame(
        _needed,
        schema=dict(zip(_columns, [pl.String, pl.Float64, *[pl.Int64] * 4], strict=True)),
        orient="row",
    )
    falling = sizes.select((pl.col("needed_of_each").diff().over("figure").fill_null(-1) < 0).all())
    assert falling.item(), "a smaller difference needs fewer calls"
    power_table = Table(sizes, "Calls of each version to see a drop", "", apart.period, apart.n)
    power_table
    return (sizes,)


@app.cell
def power_told(mo, pl, sizes):
    least = sizes.filter(pl.col("there_are") >= pl.col("needed_of_each")).group_by(
        "figure", maintain_order=True
    ).agg(pl.col("drop_points").min())  # fmt: skip
    can = [f"a drop of {points} points of *{name}*" for name, points in least.rows()]
    mo.md(
        f"These calls are enough to see {' and '.join(can)}; for less it takes more of them."
        if can
        else "These calls are too few even for a drop of 20 points."
    )
    return


if __name__ == "__main__":
    app.run()
