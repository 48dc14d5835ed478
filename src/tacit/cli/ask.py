"""`tacit ask`, `eval`: one question for a student, or many, with what its answers are worth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacit.cli.shell import AsJson, Overwrite, UsageError, extra_options, print_json, refuse_existing, usage, waiting
from tacit.errors import TacitError, unknown_name
from tacit.formats import FORMATS, read
from tacit.grading import GRADERS
from tacit.tasks import get_task
from tacit.trace import Trace, dump_json, write_lines

if TYPE_CHECKING:
    from tacit.socratic.pipeline import Dialogue, SocraticPipeline
    from tacit.student import Student
    from tacit.tasks import Task

Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint folder.", show_default=False)]
Calculating = Annotated[
    bool,
    typer.Option("--calculator", help="Let a calculator write the value of each `<<48/2=` that the model begins."),
]


def evaluate(
    context: typer.Context,
    checkpoint: Checkpoint,
    data: Annotated[Path | None, typer.Option("--data", metavar="FILE", help="Problems with their answers.")] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Fresh problems of a built-in task (`tacit tasks`).")
    ] = None,
    source: Annotated[str, typer.Option("--from", metavar="FORMAT", help=f"Of FILE: {', '.join(FORMATS)}.")] = "tacit",
    size: Annotated[int, typer.Option(min=1, metavar="N", help="How many fresh problems.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of the fresh problems.")] = 1,
    grader: Annotated[str, typer.Option(metavar="GRADER", help=f"One of {', '.join(GRADERS)}.")] = GRADERS[0],
    batch_size: Annotated[int, typer.Option(min=1, metavar="B", help="Problems at a time.")] = 256,
    questions: Annotated[
        str | None,
        typer.Option(
            metavar="gold|FILE",
            help="Of Socratic CoT: ask the sub-questions in the data, or in a file, instead of the decomposer's.",
        ),
    ] = None,
    gold_plan: Annotated[
        bool, typer.Option("--gold-plan", help="Of Socratic CoT: guide the decomposer by the steps in the data.")
    ] = False,
    calculator: Calculating = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the predictions, one a line.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Accuracy with its interval, tokens per answer, speed. Of Socratic CoT, the measures of its dialogues as well.

    With --task, the task's own options follow (such as --digits 4x2); by default they are the training data's, and no
    problem of the training data is used.
    """
    if (data is None) == (task is None):
        raise UsageError("give either --data FILE or --task NAME")
    with usage():
        if source not in FORMATS:
            raise unknown_name("format", source, FORMATS)
        if grader not in GRADERS:
            raise unknown_name("grader", grader, GRADERS)
    if data is not None and context.args:
        raise UsageError(f"{context.args[0]!r} was not expected")
    options = extra_options(context.args)
    if output is not None:
        refuse_existing(output, overwrite)
    with waiting("loading"):
        from tacit.evaluation.evaluate import evaluate, measure_speed, summarise
        from tacit.models import hush
        from tacit.socratic.pipeline import SocraticPipeline, load

        hush()
        student = load(checkpoint)
        student.calculator = calculator
    pipeline = student if isinstance(student, SocraticPipeline) else None
    if questions and gold_plan:
        raise UsageError("--questions and --gold-plan exclude each other: a plan guides the decomposer")
    if (questions or gold_plan) and pipeline is None:
        raise UsageError(f"--questions and --gold-plan go with students of Socratic CoT; {checkpoint} answers alone")
    if gold_plan and pipeline and pipeline.wording.guidance == "none":
        raise UsageError(f"--gold-plan goes with a decomposer that was trained with guidance; {checkpoint} has none")
    if data is not None:
        traces = read(data, source)
    else:
        with waiting("making problems"):
            traces = _fresh(student, task or "", size, seed, options)
    with waiting(f"answering {len(traces):,} problems"):
        dialogues: dict[str, Any] = {}
        if pipeline:
            from tacit.evaluation.socratic import evaluate_dialogues

            given = _given(pipeline, traces, questions, source, gold_plan)
            predictions, dialogues = evaluate_dialogues(pipeline, traces, batch_size, grader, **given)
        else:
            predictions = evaluate(student, traces, batch_size, grader)
        result = summarise(predictions)
        if not (questions or gold_plan):  # with these it would be the speed of another way to answer
            asked = [trace.question for trace in traces[:512]]
            result["batch_size"] = min(batch_size, len(asked))
            result["examples_per_second"] = round(measure_speed([student], asked, result["batch_size"])[0], 1)
        if dialogues:
            result["dialogues"] = dialogues
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_lines((dump_json(prediction.to_dict()) for prediction in predictions), output)
    if as_json:
        print_json(result)
        return
    _tell("exact match", _share({**result, "share": result["accuracy"]}))
    reasoning, generated = result["reasoning_tokens"], result["generated_tokens"]
    _tell("reasoning tokens", f"{reasoning:.2f} per answer, of {generated:.2f} generated")
    if "batch_size" in result:
        _tell("speed", f"{result['examples_per_second']:,.0f} answers/s at batch size {result['batch_size']}")
    if dialogues:
        _tell_measures(dialogues)
    if output is not None:
        _tell("predictions", str(output))


def _tell(name: str, text: str) -> None:
    print(f"{name:<17} {text}")


def _share(found: dict[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{found['share']:.4f}  (95 % interval {low:.4f} to {high:.4f}, n = {found['n']:,})"


def _tell_measures(measures: dict[str, Any]) -> None:
    """Of dialogues: how they compare with those in the data, and what went wrong."""
    in_data = f", {measures['gold_questions']:.2f} in the data" if measures["gold"] else ""
    _tell("sub-questions", f"{measures['questions']:.2f} a problem{in_data}")
    if measures["gold"]:
        _tell("as many as there", _share(measures["same_count"]))
        _tell("the very same", _share(measures["same_questions"]))
        _tell("their BLEU", f"{measures['bleu']:.1f}")
        for name, found in (("steps right", measures["steps"]), ("with gold history", measures.get("gold_history"))):
            if found:
                _tell(name, _share(found))
        places = {place: count for place, count in measures["first_wrong"].items() if place != "nowhere"}
        if places:
            _tell("went wrong first", ", ".join(f"{place}: {count:,}" for place, count in places.items()))
    for index, (note, count) in enumerate(measures["notes"].items()):
        _tell("" if index else "fallbacks", f"{note} in {count:,} of {measures['n']:,} dialogues")


def _given(
    pipeline: SocraticPipeline, traces: list[Trace], questions: str | None, source: str, gold_plan: bool
) -> dict[str, Any]:
    """Sub-questions or plans that do not come from the pipeline itself."""
    from tacit.socratic.rows import guide, questions_of

    given: dict[str, Any] = {}
    if questions:
        others = traces if questions == "gold" else read(Path(questions), source)
        try:
            given["asked"] = questions_of(traces, others, pipeline.task)
        except TacitError as error:
            raise TacitError(f"--questions {questions}: {error}") from None
    if gold_plan:
        if bare := [trace for trace in traces if not trace.steps]:
            raise TacitError(f"--gold-plan: {len(bare):,} of {len(traces):,} problems have no steps to plan by")
        given["plans"] = [guide(trace, pipeline.wording.guidance) for trace in traces]
    return given


def _fresh(student: Student | SocraticPipeline, name: str, size: int, seed: int, given: dict[str, str]) -> list[Trace]:
    """Problems of a task that the student was not trained on."""
    from tacit.recipe import parse_recipe

    with usage():
        task = get_task(name)
        seen: set[str] = set()
        options: dict[str, Any] = {}
        if name == student.task.name and "recipe" in student.info:
            recipe = parse_recipe({**student.info["recipe"], "train": {}, "methods": {"no_cot": {}}})  # for its data
            if isinstance(recipe.data.train, int):
                options.update(recipe.data.options)
                seen = {task.problem(trace.question) for trace in recipe.traces()[0]}
        options.update(given)
        task.settings(options)
    wanted = size
    while True:  # until enough of them are new
        try:
            made = task.make(wanted, seed, **options)
        except TacitError as error:
            few = f"fewer than {size:,} problems are left that it was not trained on; ask for fewer with --size"
            raise UsageError(few if wanted > size else str(error)) from None
        fresh = [trace for trace in made if task.problem(trace.question) not in seen]
        if len(fresh) >= size:
            return fresh[:size]
        wanted += size - len(fresh)


def ask(
    checkpoint: Checkpoint,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="As a person types it.", show_default=False)],
    asked: Annotated[
        list[str] | None,
        typer.Option(
            "--sub-question",
            "-q",
            metavar="TEXT",
            help="Of Socratic CoT: ask this instead of what the decomposer would; give it once for each.",
        ),
    ] = None,
    calculator: Calculating = False,
    text: Annotated[bool, typer.Option("--text", help="Print all that the model wrote.")] = False,
    as_json: AsJson = False,
) -> None:
    """A person's question, a person's answer. Of Socratic CoT, each sub-question and its answer as well."""
    with waiting("loading"):
        from tacit.models import hush
        from tacit.socratic.pipeline import Dialogue, SocraticPipeline, load

        hush()
        student = load(checkpoint)
        if asked and not isinstance(student, SocraticPipeline):
            raise UsageError(
                f"--sub-question goes with students of Socratic CoT; {checkpoint} is one that answers alone"
            )
        student.calculator = calculator
        reply = student.ask(question, asked) if isinstance(student, SocraticPipeline) else student.ask(question)
    if as_json:
        about: dict[str, Any] = {"question": question, "answer": reply.shown, "text": reply.text}
        if isinstance(reply, Dialogue):
            about |= {"plan": reply.plan, "turns": [turn._asdict() for turn in reply.turns], "notes": reply.notes}
        print_json({**about, "reasoning_tokens": reply.reasoning_tokens})
    elif isinstance(reply, Dialogue) and not text:
        _print_dialogue(reply, student.task)
    else:
        print(reply.text if text else reply.shown)


def _print_dialogue(dialogue: Dialogue, task: Task) -> None:
    from tacit.report.dialogues import FALLBACKS

    if dialogue.plan:
        print(f"plan  {task.show_question(dialogue.plan)}")
    for turn in dialogue.turns:
        print(f"Q  {task.show_question(turn.question)}")
        told = [task.show_question(turn.text), task.show_answer(turn.answer)]
        print(f"A  {' -> '.join(filter(None, told))}")
    for note, count in Counter(dialogue.notes).items():
        print(f"!  {note}: {FALLBACKS[note]}{f' ({count} times)' if count > 1 else ''}")
    print(dialogue.shown)
