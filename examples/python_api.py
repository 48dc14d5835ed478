"""The Python API in a few lines: traces in, an internalized checkpoint out.

Usage: `python examples/python_api.py` (about a minute on two cores; too short a training to be right).
"""

import tacit
from tacit.models import from_config, word_tokenizer
from tacit.trace import iter_text


def main(folder: str = "runs/python-api", steps: int = 200) -> None:
    """Trains a tiny student on 3x2-digit products and asks it one."""
    task = tacit.get_task("multiplication")
    traces = task.make(5_000, seed=0, digits="3x2")
    template = tacit.Template()
    tokenizer = word_tokenizer([template.words, *iter_text(traces)])
    model = from_config("gpt2", {"n_layer": 2, "n_embd": 64, "n_head": 4}, tokenizer, positions=64, seed=0)

    args = tacit.StepwiseInternalizationConfig(
        folder, max_steps=steps, schedule="adaptive", learning_rate=2e-3, optimizer="muon", disable_tqdm=True
    )
    trainer = tacit.StepwiseInternalizationTrainer(
        model, args, train_dataset=traces[200:], eval_dataset=traces[:200], processing_class=tokenizer, task=task
    )
    trainer.train()
    student = trainer.student()
    tacit.save(student, f"{folder}/student")

    print(tacit.load(f"{folder}/student").ask("482 * 37").text)
    print(tacit.summarise(tacit.evaluate(student, traces[:200])))


if __name__ == "__main__":
    main()
