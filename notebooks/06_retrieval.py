"""Does retrieval find the right passage? Recall, ranks, the misses to read, and "not found"."""

# ruff: noqa: PLR1711  (marimo writes the returns)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Does retrieval find the right passage")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # Does retrieval find the right passage?

    People label questions with the passage that answers them, in `raw/questions/`; a build puts them
    to the collection and keeps at which rank the right passage came. Without labels, questions are
    made from the collection's own text. The copy in `notebooks/rendered/` asks the handbook of a
    watering computer that does not exist (`notebooks/sample/`).
    """)
    return


@app.cell
def setup():
    import marimo as mo
    import polars as pl

    import tracemill
    from tracemill.analysis import plots, retrieval
    from tracemill.analysis.table import Table

    tm = tracemill.open()
    evaluated = retrieval.evaluated(tm.settings, tm.log)
    asked = evaluated[0] if evaluated else None
    period = f"collection {asked.event.index}" if asked else ""
    return Table, asked, evaluated, mo, period, pl, plots, retrieval, tm


@app.cell(hide_code=True)
def which_question(mo):
    mo.md("""
    ## Which collections were evaluated?

    By the newest evaluation of each. The rest of this page is about the first of them.
    """)
    return


@app.cell
def which(Table, evaluated, mo, pl):
    rows = [
        {
            "collection": each.event.index,
            "questions": each.event.questions,
            "labelled by": "people" if each.by_people else "its own text",
            "without an answer": each.event.unanswerable,
            **{
                name: round(each.event.metrics[name], 3)
                for name in ("recall@1", "recall@10", "mrr@10")
            },
        }
        for each in evaluated
    ]
    answered = [each.event.questions - each.event.unanswerable for each in evaluated]
    kept = [each.outcomes.height for each in evaluated]
    assert answered == kept, "an evaluation did not keep what came of each question"
    (
        Table(pl.DataFrame(rows), "Collections", "share", "", sum(kept), "questions with an answer")
        if rows
        else mo.md(
            "No collection was evaluated yet: put documents into `raw/documents/` and run "
            "`tracemill build`, or run `tracemill demo`."
        )
    )
    return


@app.cell(hide_code=True)
def recall_question(mo):
    mo.md("""
    ## How often is the right passage among the first?

    Recall at 1, 5 and 10, of all questions and by how far they use the words of the passage: two
    thirds of their words or more, a third or more, or fewer. The lines hold the true share in 95 of
    100 cases.
    """)
    return


@app.cell
def recall_answer(asked, mo, pl, retrieval):
    recall = retrieval.recall(asked) if asked else pl.DataFrame()
    best = recall.filter(kind="all questions").sort("k") if asked else recall
    if asked:
        told = dict(best.select("k", "value").iter_rows())
        recorded = asked.event.metrics
        assert all(abs(told[k] - recorded[f"recall@{k}"]) < 1e-9 for k in told), (
            "the ranks that were kept give another recall than the log has"
        )
    mo.md(
        f"The right passage comes first for **{best['value'][0]:.0%}** of "
        f"{asked.outcomes.height:,} questions, and is among the first ten for "
        f"**{best['value'][-1]:.0%}** [{best['low'][-1]:.0%}, {best['high'][-1]:.0%}]."
        if asked
        else "There is no recall without an evaluation."
    )
    return (recall,)


@app.cell
def recall_plot(asked, period, plots, recall):
    (
        plots.intervals(
            "Recall by kind of question",
            [
                (f"{kind}, first {k}", value, low, high)
                for kind, k, value, low, high in recall.select(
                    "kind", "k", "value", "low", "high"
                ).iter_rows()
            ],
            unit="share of the questions, with its interval of 95 %",
            period=period,
            n=asked.outcomes.height,
            of="questions",
        )
        if asked
        else None
    )
    return


@app.cell(hide_code=True)
def ranks_question(mo):
    mo.md("""
    ## At which rank does it come?

    What is not among the first ten is not found.
    """)
    return


@app.cell
def ranks(asked, mo, period, plots, retrieval):
    ranked = retrieval.ranks(asked) if asked else None
    if ranked is not None:
        counted = ranked["questions"].sum()
        assert counted == asked.outcomes.height, "a question has no rank or two"
    (
        plots.bars(
            "Rank of the right passage",
            ranked["rank"].to_list(),
            ranked["questions"].to_list(),
            unit="questions",
            period=period,
            n=asked.outcomes.height,
            of="questions",
        )
        if ranked is not None
        else mo.md("There are no ranks yet.")
    )
    return


@app.cell(hide_code=True)
def misses_question(mo):
    mo.md("""
    ## Which questions miss, and what came instead?

    The worst first: those whose right passage is not among the ten, then those where it is not the
    first. `instead` is what came at rank 1.
    """)
    return


@app.cell
def misses(Table, asked, mo, period, pl, retrieval):
    missed = retrieval.misses(asked) if asked and not asked.questions.is_empty() else None
    if missed is not None:
        firsts = asked.outcomes.filter(pl.col("first") == 1).height
        assert missed.height == asked.outcomes.height - firsts, "a miss is missing"
    (
        Table(
            missed.select("question", "kind", "rank", "right", "instead"),
            "Misses",
            "rank of the right passage",
            period,
            missed.height,
            "questions",
        )
        if missed is not None
        else mo.md("There is no question to read yet, or they are no longer in the warehouse.")
    )
    return (missed,)


@app.cell
def misses_read(missed, mo):
    read = missed.head(3).iter_rows(named=True) if missed is not None else ()
    passages = "\n\n".join(
        f"**{row['question']}**\n\n"
        f"- right, _{row['right']}_: {row['right_text'][:300]}\n"
        f"- came instead, _{row['instead']}_: {row['instead_text'][:300]}"
        for row in read
    )
    mo.md(passages) if passages else None
    return


@app.cell(hide_code=True)
def unanswerable_question(mo):
    mo.md("""
    ## Is "not found" said where nothing is to be found?

    Some questions have no answer in the collection. To say so is right there, and wrong elsewhere.
    """)
    return


@app.cell
def unanswerable(asked, mo, pl, retrieval, tm):
    said = retrieval.not_found(asked, tm.log) if asked else pl.DataFrame()
    none_there = said.filter(~pl.col("answerable")) if said.height else said
    there = said.filter("answerable") if said.height else said
    right = none_there.filter("said").height if none_there.height else 0
    wrong = there.filter("said").height if there.height else 0
    if said.height:
        recorded_recall = asked.event.metrics.get("not_found_recall")
        again = right / none_there.height if none_there.height else None
        assert again is None or recorded_recall is None or abs(again - recorded_recall) < 1e-9, (
            "the answers in the log are not those that the evaluation counted"
        )
    mo.md(
        f'"Not found" was said to **{right} of {none_there.height}** questions without an answer, '
        f"and wrongly to **{wrong} of {there.height}** that have one."
        if said.height
        else "Nobody answered labelled questions yet: put some into `raw/questions/` and build."
    )
    return (said,)


@app.cell
def unanswerable_plot(period, pl, plots, said):
    names = {True: "in the collection", False: "nowhere"}
    counts = {
        (answerable, spoken): count
        for answerable, spoken, count in (
            said.group_by("answerable", "said").agg(pl.len()).iter_rows() if said.height else ()
        )
    }
    (
        plots.heat(
            "Where the answer is, and what was said",
            list(names.values()),
            ["answered", "not found"],
            [[counts.get((there, spoken), 0) for spoken in (False, True)] for there in names],
            unit="questions",
            period=period,
            n=said.height,
            of="questions",
        )
        if said.height
        else None
    )
    return


if __name__ == "__main__":
    app.run()
