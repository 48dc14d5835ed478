"""Settings, models and data of a recipe tried once: what cannot work fails before anything is trained or removed."""

from __future__ import annotations

from pathlib import Path

from tacit.errors import TacitError
from tacit.evaluation.evaluate import render_problems
from tacit.evaluation.prompting import PROMPT_OF
from tacit.implicit.states import check_student
from tacit.models import is_encoder_decoder
from tacit.recipe import METHODS, OTHERWISE, Recipe
from tacit.rendering import render
from tacit.run.asking import Listener, asked_otherwise
from tacit.run.beginnings import Beginnings, baseline
from tacit.run.folder import cells
from tacit.student import Student
from tacit.training.data import check_positions, render_training
from tacit.training.implicit import check_settings

REHEARSAL = "recipe"  # as the listener is told of it
REHEARSED = 5_000  # rows of a student: rendering all may take minutes


def rehearse(recipe: Recipe, folder: Path, beginnings: Beginnings, tell: Listener) -> None:
    """Raises `TacitError` for what would stop a run after hours."""
    tell(REHEARSAL, {"event": "note", "text": "trying models and data"})
    for cell in cells(recipe, folder):
        if cell.trains:
            for name in recipe.at(cell.value).students(cell.method):
                recipe.at(cell.value).settings(cell.method, cell.seed, cell.folder / name, name)
    for value, variant in (recipe.variants or {None: recipe}).items():
        test = variant.traces()[2]
        trained = [method for method, own in variant.methods.items() if method in METHODS and "from" not in own]
        if trained:
            settings = variant.settings(trained[0], variant.seeds[0], folder)
            model, tokenizer = beginnings.make(value, settings, 0)
            render_problems(Student(model, tokenizer, settings.make_template(tokenizer)), test)
        for method in trained:
            if method == "implicit_kd":
                check_student(model)
            for name, roles in variant.students(method).items():
                settings = variant.settings(method, variant.seeds[0], folder, name)
                if method == "implicit_kd":
                    check_settings(settings)
                    teacher = variant.settings(variant.methods["cot"].get("from", "cot"), variant.seeds[0], folder)
                    if settings.make_template(tokenizer) != teacher.make_template(tokenizer):
                        raise TacitError(
                            "implicit_kd reads and writes as its teacher does: its template, prompt, separator and "
                            "marker must be those of cot"
                        )
                train, evaluated = variant.examples(method, roles, settings)
                render_training(train[:REHEARSED], tokenizer, model, settings)
                if evaluated:
                    template = settings.make_template(tokenizer)
                    rendered = render(evaluated, tokenizer, template, is_encoder_decoder(model))
                    check_positions(rendered, evaluated, model)
        for method in variant.methods:
            if method in OTHERWISE:
                asked_otherwise(variant, method, test)
            if method in PROMPT_OF:
                asked = baseline(variant, method)
                asked.prompts(asked.unseen(test))
