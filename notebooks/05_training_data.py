"""What is in the training data? What was left out and why, duplicates, people, splits, leaks."""

# ruff: noqa: PLR1711  (marimo shows a cell's last expression and writes the returns)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="What is in the training data")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # What is in the training data?

    Records go through steps, and each step leaves what it kept and what it dropped in the warehouse,
    with the reason. This page reads those tables. The copy in `notebooks/rendered/` is made from
    `assets/sample_data/`: letters to the makers of a watering computer that does not exist, with
    faults that were planted on purpose.
    """)
    return


@app.cell
def setup():
    import marimo as mo
    import polars as pl

    import tracemill
    from tracemill.analysis import dataset, families, plots
    from tracemill.analysis.table import Table

    tm = tracemill.open()
    card = dataset.card(tm.settings)
    span = card.get("period", {})
    period = f"{span['from'][:10]} to {span['to'][:10]}" if span else ""
    nothing = mo.md(
        "Nothing was built yet: put records into `raw/records/`, or run `tracemill demo`."
    )
    return Table, card, dataset, families, mo, nothing, period, pl, plots, tm


@app.cell(hide_code=True)
def steps_question(mo):
    mo.md("""
    ## How many records are left, step by step?

    Read, cleaned, without personal data, short enough, each once, unseen by evaluations, split.
    """)
    return


@app.cell
def steps_answer(dataset, mo, nothing, tm):
    steps = dataset.steps(tm.settings)
    came, lost = (steps["kept"][:1].sum(), steps["dropped"][1:].sum())
    left = steps["kept"][-1:].sum()
    refused_lines = steps["dropped"][:1].sum()
    assert left >= came - lost, "a record was neither kept nor dropped"
    says = (
        f"**{came:,}** records were read and **{left:,}** became training data "
        f"({left / max(came, 1):.0%}). {lost:,} were dropped on the way, and {refused_lines:,} "
        "lines or files were no records."
    )
    nothing if steps.is_empty() else mo.md(says)
    return came, steps


@app.cell
def steps_plot(came, period, plots, steps):
    (
        plots.bars(
            "Records that each step kept",
            steps["step"].to_list(),
            steps["kept"].to_list(),
            unit="records",
            period=period,
            n=came,
            of="records read",
        )
        if came
        else None
    )
    return


@app.cell(hide_code=True)
def reasons_question(mo):
    mo.md("""
    ## Why were lines refused, and records dropped?

    Whatever is left out has a reason, and `tracemill quarantine` shows its text.
    """)
    return


@app.cell
def reasons(Table, came, dataset, mo, period, steps, tm):
    left_out = dataset.left_out(tm.settings)
    gone = left_out["records"].sum()
    assert gone == steps["dropped"].sum(), "a table of what was dropped disagrees with its reasons"
    (
        Table(left_out, "What was left out", "records", period, gone, "lines and records")
        if came
        else mo.md("Nothing was left out, as nothing was read.")
    )
    return (left_out,)


@app.cell
def refused(Table, dataset, left_out, period, pl, tm):
    lines = dataset.refused(tm.settings).with_columns(pl.col("text").str.slice(0, 80))
    read_step = left_out.filter(step=dataset.READ)["records"].sum()
    assert lines.height == read_step, "a refused line has no reason"
    (
        Table(lines, "Lines that are no records", "lines", period, lines.height, "lines")
        if lines.height
        else None
    )
    return


@app.cell(hide_code=True)
def duplicates_question(mo):
    mo.md("""
    ## Which records are nearly the same?

    Of those that share at least four fifths of their word 5-grams one stays, the longest. Each
    record is a dot, the dark one stayed; a line says how much two of them share.
    """)
    return


@app.cell
def duplicates(came, dataset, mo, tm):
    twice = dataset.duplicates(tm.settings)
    near, exact = (twice.filter(reason=f"{kind} duplicate") for kind in ("near", "exact"))
    stayed = set(near["kept_id"])
    assert not stayed & set(twice["record_id"]) - set(exact["record_id"]), (
        "a record was dropped for one that was dropped itself"
    )
    found_twice = (
        f"**{near.height:,}** records were dropped as nearly the same as one of {len(stayed):,} "
        f"that stayed, and **{exact.height:,}** as exactly the same."
    )
    mo.md(found_twice if came else "There are no records to compare yet.")
    return


@app.cell
def clusters(came, dataset, families, period, tm):
    largest = dataset.families(tm.settings, most=6)
    title_of_families = "The largest families of near-duplicates"
    families.clusters(title_of_families, largest, period=period) if came else None
    return (largest,)


@app.cell(hide_code=True)
def read_question(mo):
    mo.md("""
    ## What do two of them differ in?

    One pair to read: the words that only one of them has are struck out or in bold.
    """)
    return


@app.cell
def read_pair(dataset, largest, mo, tm):
    def marked(passage):
        if passage.shared:
            return passage.kept
        return f"~~{passage.dropped}~~ **{passage.kept}**"

    pair = dataset.explained(tm.settings, largest[0].members[1]) if largest else None
    mo.md(
        f"> {' '.join(marked(each) for each in pair.passages())}\n\n{pair.rule}."
        if pair
        else "There is no pair of near-duplicates to read."
    )
    return


@app.cell(hide_code=True)
def languages_question(mo):
    mo.md("""
    ## In which languages are the answers?

    By the answer; one of a few words does not tell.
    """)
    return


@app.cell
def languages(came, dataset, mo, period, pl, plots, tm):
    written = dataset.written(tm.settings)
    spoken = (
        written.with_columns(pl.col("language").fill_null("too short to tell"))["language"]
        .value_counts()
        .sort("count", "language", descending=[True, False])
    )
    assert spoken["count"].sum() == written.height, "a record has no language or two"
    (
        plots.bars(
            "Languages of the answers",
            spoken["language"].to_list(),
            spoken["count"].to_list(),
            unit="records",
            period=period,
            n=written.height,
            of="records",
        )
        if came
        else mo.md("There are no answers yet.")
    )
    return (written,)


@app.cell(hide_code=True)
def lengths_question(mo):
    mo.md("""
    ## How long are the records?

    In tokens of the default tokenizer, with what a chat adds to each message.
    """)
    return


@app.cell
def lengths(mo, written):
    middle, longest = written["tokens"].median(), written["tokens"].max()
    mo.md(
        f"Half of the records have **{middle:,.0f}** tokens or fewer, the longest has "
        f"{longest:,}; together they are {written['tokens'].sum():,} tokens."
        if written.height
        else "There are no records to measure yet."
    )
    return


@app.cell
def lengths_plot(period, plots, written):
    (
        plots.histogram(
            "Length of the records",
            written["tokens"],
            unit="tokens",
            period=period,
            n=written.height,
            of="records",
        )
        if written.height
        else None
    )
    return


@app.cell(hide_code=True)
def people_question(mo):
    mo.md("""
    ## What was found about people, and what became of it?

    Mail addresses, numbers and keys are looked for before duplicates are; the check looks for them
    anew in what was written.
    """)
    return


@app.cell
def people(dataset, mo, tm, written):
    personal = dataset.personal(tm.settings)
    still = dataset.still_personal(tm.settings)
    allowed = "kept" in personal["became"].to_list()
    assert still == 0 or allowed, "something personal stands in what was written"
    places = personal["found"].sum()
    mo.md(
        f"**{places:,}** places held something personal; in what was written there are {still:,}."
        if written.height
        else "Nothing was looked through yet."
    )
    return (personal,)


@app.cell
def people_table(Table, period, personal):
    (
        Table(personal, "Personal data", "places", period, personal["found"].sum(), "places")
        if personal.height
        else None
    )
    return


@app.cell
def people_read(Table, period, pl, written):
    told = pl.col("question").str.extract(r"([^.?!]*\[(?:email|phone|card|ip|iban)\][^.?!]*[.?!]?)")
    redacted = written.with_columns(told.alias("sentence")).drop_nulls("sentence")
    one_each = redacted.unique(
        pl.col("sentence").str.extract(r"\[(\w+)\]"), keep="first", maintain_order=True
    ).select("split", "origin", pl.col("sentence").str.strip_chars())
    (
        Table(one_each, "How it reads now", "", period, one_each.height, "examples")
        if one_each.height
        else None
    )
    return


@app.cell(hide_code=True)
def splits_question(mo):
    mo.md("""
    ## What is in which split?

    Records that ask nearly the same, or are of one conversation, are a group and on one side.
    """)
    return


@app.cell
def splits(mo, pl, written):
    sizes = written["split"].value_counts().sort("count", "split", descending=[True, False])
    groups = written["group_id"].n_unique()
    torn = written.group_by("group_id").n_unique().filter(pl.col("split") > 1)
    assert torn.is_empty(), "a group stands in two splits"
    mo.md(
        f"{written.height:,} records in **{groups:,}** groups: "
        + ", ".join(f"{name} {count:,}" for name, count in sizes.iter_rows())
        + ". No group stands in two of them."
        if written.height
        else "Nothing was split yet."
    )
    return (sizes,)


@app.cell
def splits_plot(period, pl, plots, sizes, written):
    by = "label" if written["label"].n_unique() > 1 else "origin"
    named = written.with_columns(pl.col(by).fill_null("none"))
    largest_first = named[by].value_counts().sort("count", by, descending=[True, False])
    shown_rows = named.filter(pl.col(by).is_in(largest_first[by][:20].to_list()))
    rows = shown_rows.pivot(
        "split", index=by, values="record_id", aggregate_function=pl.len()
    ).sort(by)
    names = sizes["split"].to_list()
    (
        plots.heat(
            f"Records by {by} and split",
            rows[by].to_list(),
            names,
            rows.select(names).fill_null(0).rows(),
            unit="records",
            period=period,
            n=shown_rows.height,
            of="records",
        )
        if written.height
        else None
    )
    return


@app.cell(hide_code=True)
def leaks_question(mo):
    mo.md("""
    ## Does a split give another one away?

    Looked for anew in the files, by stricter bands than those that cut the splits. `alone` says what
    would have leaked had each record been placed by itself.
    """)
    return


@app.cell
def leaks(dataset, mo, tm, written):
    leaking = dataset.leaks(tm.settings)
    assert (leaking["found"] * 10_000 <= leaking["looked_at"]).all(), "a split leaks into another"
    spared = leaking["alone"].max()
    mo.md(
        f"**{leaking['found'].sum():,}** records stand in two splits or hold a question of an "
        f"evaluation. Placed one by one, {spared:,} of {written.height:,} would have had their "
        "double on another side."
        if written.height
        else "There are no splits to look into yet."
    )
    return (leaking,)


@app.cell
def leaks_table(Table, leaking, period, written):
    (
        Table(leaking, "Leaks", "records", period, written.height, "records")
        if written.height
        else None
    )
    return


if __name__ == "__main__":
    app.run()
