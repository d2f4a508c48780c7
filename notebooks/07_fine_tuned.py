"""Is the fine-tuned model better, and where? Paired differences, labels, confidence, cases, costs."""

# ruff: noqa: PLR1711  (marimo writes the returns)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Is the fine-tuned model better")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # Is the fine-tuned model better, and where?

    Each version of a model is asked the same cases, and every answer is a call in the log. So two
    versions are compared case by case, and chance does not pass for progress. The copy in
    `notebooks/rendered/` is about a model that names the subject of a letter, from
    `assets/sample_data/`.
    """)
    return


@app.cell
def setup():
    import marimo as mo
    import polars as pl

    import tracemill
    from tracemill import prices
    from tracemill.analysis import models, plots
    from tracemill.analysis.table import Table

    tm = tracemill.open()
    contests = models.contests(tm.settings, tm.log)
    contest = contests[0] if contests else None
    period = f"{contest.name}, {contest.newest}" if contest else ""
    before = contest.others[-1] if contest and contest.others else None
    return Table, before, contest, contests, mo, models, period, pl, plots, prices, tm


@app.cell(hide_code=True)
def accuracy_question(mo):
    mo.md("""
    ## How often is each of them right?

    `majority` always gives the most frequent label: what a model has to beat. The rest of this page
    is about the first model by name.
    """)
    return


@app.cell
def accuracy(contest, contests, mo, period, plots):
    figures = (
        [
            (key, *each.metrics["accuracy"].model_dump().values())
            for key, each in contest.evaluations.items()
        ]
        if contest
        else []
    )
    for key, value, *_ in figures:
        again = contest.answers[key].mean()
        assert abs(value - again) < 1e-9, f"{key}: its cases give another accuracy than the log has"
    (
        plots.intervals(
            "Right answers",
            [(key, value, low, high) for key, value, low, high, _ in figures],
            unit="share of the cases, with its interval of 95 %",
            period=period,
            n=contest.answers.height,
            of="cases",
        )
        if contests
        else mo.md(
            "No classifier was evaluated by the cases of now: put a recipe into `raw/models/` and run "
            "`tracemill build`, or run `tracemill demo`."
        )
    )
    return


@app.cell(hide_code=True)
def difference_question(mo):
    mo.md("""
    ## Is it better than what was before, beyond chance?

    The difference on the same cases. An interval that does not hold 0 is no chance (95 %).
    """)
    return


@app.cell
def difference(before, contest, mo, models):
    differences = models.differences(contest) if contest else {}
    last = differences.get(f"less {before}")
    if last:
        rose, fell = (models.changed(contest, before, worse=each).height for each in (False, True))
        assert rose + fell == last.changed, "a case changed and is neither better nor worse"
    verdict = (
        None if last is None
        else "better" if last.low > 0
        else "worse" if last.high < 0
        else "neither better nor worse beyond chance"
    )  # fmt: skip
    mo.md(
        f"**{contest.newest}** is {verdict} than {before}: {last.difference:+.1%} "
        f"[{last.low:+.1%}, {last.high:+.1%}] on {last.n:,} cases; {rose:,} became right and "
        f"{fell:,} became wrong."
        if last
        else "There is nothing yet that it could be held against."
    )
    return (differences,)


@app.cell
def difference_plot(contest, differences, period, plots):
    (
        plots.intervals(
            "Difference in right answers",
            [
                (f"{contest.newest} {key}", each.difference, each.low, each.high)
                for key, each in differences.items()
            ],
            unit="share of the cases, with its interval of 95 %",
            period=period,
            n=contest.answers.height,
            of="cases",
            mark=0.0,
        )
        if differences
        else None
    )
    return


@app.cell(hide_code=True)
def labels_question(mo):
    mo.md("""
    ## For which labels?

    Recall: of the cases with this label, how many it named; precision: of those that it named so,
    how many have it.
    """)
    return


@app.cell
def labels(Table, contest, mo, models, period, pl):
    by_label = models.by_label(contest) if contest else None
    if by_label is not None:
        assert by_label["cases"].sum() == contest.answers.height, "a case has no label"
    (
        Table(by_label.with_columns(pl.selectors.float().round(3)), "Labels",
              "share", period, contest.answers.height, "cases")
        if by_label is not None
        else mo.md("There are no labels yet.")
    )  # fmt: skip
    return (by_label,)


@app.cell(hide_code=True)
def confusion_question(mo):
    mo.md("""
    ## What does it take for what?

    A row for each label that is right, a column for each that was given.
    """)
    return


@app.cell
def confusion(by_label, contest, mo, models, period, pl, plots):
    confused = models.confusion(contest) if contest else pl.DataFrame()
    shown = sorted(by_label.sort("cases", "label", descending=[True, False])["label"][:16].to_list()
                   if contest else [])  # fmt: skip
    counts = {(right, given): n for right, given, n in confused.iter_rows()}
    hits = sum(n for (right, given), n in counts.items() if right == given)
    assert not contest or hits == contest.answers[contest.newest].sum(), "the diagonal is not right"
    (
        plots.heat(
            "Given labels by right labels",
            shown,
            shown,
            [[counts.get((right, given)) for given in shown] for right in shown],
            unit="cases",
            period=period,
            n=contest.answers.filter(pl.col("expected").is_in(shown)).height,
            of="cases",
        )
        if contest
        else mo.md("There is nothing to confuse yet.")
    )
    return (counts,)


@app.cell
def confused_most(Table, counts, contest, period, pl):
    wrong = [(right, given, n) for (right, given), n in counts.items() if right != given]
    most = pl.DataFrame(wrong, ["right", "given", "cases"], orient="row") if wrong else None
    (
        Table(most.sort("cases", "right", "given", descending=[True, False, False]).head(5),
              "Confused most often", "cases", period, sum(n for *_, n in wrong), "wrong cases")
        if contest and most is not None
        else None
    )  # fmt: skip
    return


@app.cell(hide_code=True)
def calibration_question(mo):
    mo.md("""
    ## Is it as sure as it is right?

    Cases in eight parts of the same size, from the least sure to the most. On the line of `as sure
    as right` confidence is exact; above it the model is too modest, below it too sure.
    """)
    return


@app.cell
def calibration(contest, mo, models, pl, tm):
    sure = models.confidences(tm.settings, contest) if contest else pl.DataFrame()
    calibrated = models.calibration(sure) if sure.height else None
    if calibrated is not None:
        assert calibrated["cases"].sum() == contest.answers.height, "a case is in no part or in two"
    mo.md(
        f"Confidence is **{models.calibration_error(calibrated):.1%}** away from the share of right "
        f"answers, on average. The half of the cases that it is most sure of is right "
        f"{sure.sort('confidence', 'id')['right'][sure.height // 2 :].mean():.1%} of the time."
        if calibrated is not None
        else "There is no model here that could be asked how sure it is."
    )
    return (calibrated,)


@app.cell
def calibration_plot(calibrated, contest, period, plots):
    (
        plots.lines(
            "Confidence and right answers",
            calibrated["confidence"].to_list(),
            {
                "right answers": calibrated["right"].to_list(),
                "as sure as right": calibrated["confidence"].to_list(),
            },
            unit="share of the cases",
            period=period,
            n=contest.answers.height,
            of="cases",
            x_unit="confidence; the band is the interval of 95 %",
            bands={"right answers": (calibrated["low"].to_list(), calibrated["high"].to_list())},
        )
        if calibrated is not None
        else None
    )
    return


@app.cell(hide_code=True)
def worse_question(mo):
    mo.md("""
    ## Which cases got worse?

    Read them: a version that is better on the whole may have lost what mattered.
    """)
    return


@app.cell
def worse(before, contest, mo, models):
    lost = models.changed(contest, before, worse=True) if before else None
    cases_to_read = [
        f"- {asked[:400]} It is **{right}**; {before} said _{was}_, {contest.newest} _{now}_."
        for asked, right, was, now in (lost.head(10).iter_rows() if lost is not None else ())
    ]
    none_got_worse = "No case got worse." if contest else "There are no cases to read yet."
    mo.md("\n".join(cases_to_read) or none_got_worse)
    return


@app.cell
def better(Table, before, contest, models, period):
    won = models.changed(contest, before, worse=False) if before else None
    (
        Table(won.head(5), f"Wrong in {before}, right now", "", period, won.height, "cases")
        if won is not None and won.height
        else None
    )
    return


@app.cell(hide_code=True)
def cost_question(mo):
    mo.md("""
    ## What does it cost?

    To train it, to keep it, and to ask it; and what the same answers would have cost elsewhere, by
    the shipped prices.
    """)
    return


@app.cell
def cost(contest, mo, pl, prices, tm):
    calls = tm.sql(
        "SELECT status, ended_at, input_tokens, output_tokens, cost_usd FROM calls "
        "WHERE request_model = $model",
        {"model": contest.evaluations[contest.newest].model if contest else ""},
    )
    version = contest and next(
        each for each in contest.versions
        if each.model == contest.evaluations[contest.newest].model
    )  # fmt: skip
    trained = version and version.training_cost_usd
    spent = calls["cost_usd"].cast(pl.Float64).sum()
    elsewhere = prices.what_if(calls).select(
        "provider", "request_model", "calls", "input_tokens", "output_tokens",
        pl.col("cost_usd").cast(pl.Float64).round(4),
    )  # fmt: skip
    assert not contest or (elsewhere["calls"] == calls.height).all(), "a call was left out"
    mo.md(
        f"It learned from {version.rows:,} examples for "
        f"{'nothing that is billed' if not trained else f'{trained:,.2f} USD'} and takes "
        f"{version.size_bytes / 1e6:.1f} MB. {calls.height:,} calls cost {spent:,.4f} USD."
        if contest
        else "There is nothing that could cost anything yet."
    )
    return (elsewhere,)


@app.cell
def cost_table(Table, contest, elsewhere, period):
    (
        Table(
            elsewhere, "The same calls elsewhere", "USD", period, elsewhere["calls"].max(), "calls"
        )
        if contest
        else None
    )
    return


if __name__ == "__main__":
    app.run()
