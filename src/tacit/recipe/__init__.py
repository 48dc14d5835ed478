"""Recipes: one YAML file = one experiment that anybody can rerun.

    name: quickstart
    task: multiplication
    data: {digits: 4x2, train: 100000, validation: 500, test: 2000, seed: 1234}   # or files: {train: a.jsonl, ...}
    model: {architecture: gpt2, config: {n_layer: 2}}                             # or {name: openai-community/gpt2}
    train: {max_steps: 8000, learning_rate: 2e-3}     # any field of StepwiseInternalizationConfig
    methods:                                          # what is trained, each with fields of its own
      stepwise: {schedule: adaptive}
      cot: {from: stepwise}
      no_cot: {}
      random: {}                                      # baselines without training
      socratic: {guidance: steps, solver: {max_steps: 9000}}   # a decomposer and a solver, trained on sub-questions
      oracle: {}                                      # the same solver, asked the gold sub-questions
      implicit_kd: {emulator: {max_steps: 9000}}      # ICoT-KD, with the student of cot as its teacher
    seeds: [0]
    vary: {train.weight_decay: [0.0, 0.1]}            # each value makes cells of its own
    # or, with labels, several settings at once: {methods.stepwise: {full: {}, no smoothing: {removal_smoothing: inf}}}

Usage: `recipe = load_recipe("recipes/quickstart.yaml", ["train.max_steps=100", "seeds=[1,2]"])`.
"""

from tacit.recipe.document import load_recipe, parse_recipe
from tacit.recipe.methods import METHODS, NETWORKS, OTHERWISE, Socratic
from tacit.recipe.recipe import Recipe

__all__ = ["METHODS", "NETWORKS", "OTHERWISE", "Recipe", "Socratic", "load_recipe", "parse_recipe"]
