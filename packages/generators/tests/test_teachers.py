"""Batched teachers equal teachers trained alone with PEFT."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

from llgbm.deltas.errors import AdapterError, RunError, SettingError, TaskError
from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.task import Example, Task
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.cli import CONSOLE
from llgbm.generators.teachers import teach as teach_module
from llgbm.generators.teachers.batched import BatchedTeachers, TeacherOptim
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry
from llgbm.generators.teachers.shards import make_shards
from llgbm.generators.teachers.teach import TeachConfig, collect_shards, initial_adapters

OPTIM = TeacherOptim(steps=6, examples_per_step=4, lr=5e-3, warmup_steps=2, clip_norm=0.5)


def make_task(name: str, length: int) -> Task:
    examples = tuple(
        Example(f"{name}{'?' * (i % length)} {i}", (f" a{i % 3}", " b"), 0) for i in range(24)
    )
    return Task(name, name, (), examples, examples[:2], examples[2:4])


def shards_of_unequal_lengths():
    return [
        s
        for n, l in (("x", 3), ("longer", 40))
        for s in make_shards(make_task(n, l), 2, "train", 0)
    ]


def start(model, count: int, r: int = 3) -> LoRAWeights:
    spec = LoRASpec.from_model(model, r, 2.0 * r)
    return LoRAWeights.initial(spec, count, torch.Generator().manual_seed(0))


def train_alone(model, tokenizer, shard, initial: LoRAWeights) -> dict[str, torch.Tensor]:
    """The plain way: one PEFT model, padded batches, a torch AdamW, gradient clipping."""
    spec = initial.spec
    config = LoraConfig(
        r=spec.r, lora_alpha=int(spec.lora_alpha), target_modules=list(spec.paths), lora_dropout=0.0
    )
    wrapped = get_peft_model(model, config)
    modules = dict(wrapped.named_modules())
    parameters = {}
    for path in spec.paths:
        layer = modules[f"base_model.model.{path}"]
        for name, factors in (("lora_A", initial.lora_A), ("lora_B", initial.lora_B)):
            parameter = getattr(layer, name)["default"].weight
            parameter.data.copy_(factors[path][0])
            parameters[f"{path}.{name}"] = parameter
    optimizer = torch.optim.AdamW(parameters.values(), lr=OPTIM.lr, weight_decay=0.0)
    for step in range(OPTIM.steps):
        optimizer.param_groups[0]["lr"] = OPTIM.lr_at(step)
        total, count = torch.zeros(()), 0
        for example in shard.batch(step, OPTIM.examples_per_step, 0):
            query = tokenizer(example.query)["input_ids"]
            answer = tokenizer(example.answer)["input_ids"]
            logits = wrapped(input_ids=torch.tensor([query + answer])).logits[0]
            total = total + F.cross_entropy(
                logits[len(query) - 1 : -1], torch.tensor(answer), reduction="sum"
            )
            count += len(answer)
        optimizer.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), OPTIM.clip_norm)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def test_batched_teachers_equal_peft_alone(make_tiny_model, tokenizer) -> None:
    shards = shards_of_unequal_lengths()
    model = make_tiny_model()
    initial = start(model, len(shards))
    teachers = BatchedTeachers(model, tokenizer, shards, initial, OPTIM, seed=0)
    for _ in range(OPTIM.steps):
        teachers.train_step()
    for index in (0, 3):
        alone = train_alone(make_tiny_model(), tokenizer, shards[index], initial.select([index]))
        for path in initial.spec.paths:
            for name, factors in (
                ("lora_A", teachers.weights.lora_A),
                ("lora_B", teachers.weights.lora_B),
            ):
                # AdamW divides by a small second moment: rounding grows from 1e-7 to this.
                torch.testing.assert_close(
                    factors[path][index], alone[f"{path}.{name}"], atol=2e-5, rtol=1e-3
                )
    moved = teachers.weights.lora_B[initial.spec.paths[0]]
    assert float(moved.abs().max()) > 1e-3


def test_a_teacher_does_not_depend_on_its_company(make_tiny_model, tokenizer) -> None:
    shards = shards_of_unequal_lengths()
    model = make_tiny_model()
    initial = start(model, 4)
    together = BatchedTeachers(model, tokenizer, shards, initial, OPTIM, 0)
    alone = BatchedTeachers(model, tokenizer, shards[2:3], initial.select([2]), OPTIM, 0)
    for _ in range(4):
        losses, _ = together.train_step()
        own, _ = alone.train_step()
    torch.testing.assert_close(losses[2], own[0], atol=1e-5, rtol=0)


def test_unequal_teachers_waste_less_than_a_third_on_padding(make_tiny_model, tokenizer) -> None:
    model = make_tiny_model()
    optim = TeacherOptim(steps=4, examples_per_step=12)
    teachers = BatchedTeachers(
        model, tokenizer, shards_of_unequal_lengths(), start(model, 4), optim, 0
    )
    for step in range(4):
        assert teachers.batch(step).padding_share < 1 / 3


def test_a_resumed_state_goes_on_bitwise(make_tiny_model, tokenizer) -> None:
    shards, model = shards_of_unequal_lengths(), make_tiny_model()
    straight, first, second = (
        BatchedTeachers(model, tokenizer, shards, start(model, 4), OPTIM, 0) for _ in range(3)
    )
    for _ in range(6):
        straight.train_step()
    for _ in range(3):
        first.train_step()
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for _ in range(3):
        second.train_step()
    for path in straight.spec.paths:
        assert torch.equal(straight.weights.lora_A[path], second.weights.lora_A[path])
        assert torch.equal(straight.weights.lora_B[path], second.weights.lora_B[path])


def test_shards_share_no_example_and_batches_visit_all_before_any_twice() -> None:
    first, second = make_shards(make_task("x", 3), 2, "train", 0)
    assert not set(first.examples) & set(second.examples)
    assert len(first.examples) + len(second.examples) == 24
    seen = [e for step in range(3) for e in first.batch(step, 4, seed=0)]
    assert set(seen) == set(first.examples)
    assert first.batch(5, 4, 0) == first.batch(5, 4, 0)
    with pytest.raises(TaskError, match="at least 30"):
        make_shards(make_task("x", 3), 30, "train", 0)


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [OPTIM.lr_at(step) for step in range(OPTIM.steps)]
    assert rates[0] == OPTIM.lr / 2
    assert max(rates) == OPTIM.lr
    assert OPTIM.lr * OPTIM.final_lr_share <= rates[-1] < OPTIM.lr


def test_teachers_lower_their_loss_and_are_written_with_prompts(tiny_run) -> None:
    run, _, _ = tiny_run
    manifest = Manifest.read(run / "checkpoints" / "manifest.json")
    assert [entry.id for entry in manifest.adapters] == [
        f"{task}_{index:03d}" for task in ("caps", "digits", "marks") for index in range(2)
    ]
    assert [entry.held_out for entry in manifest.adapters] == [False] * 4 + [True] * 2
    for entry in manifest.adapters:
        # Batches of four differ: the least of six losses, not the last.
        assert min(entry.losses) < 0.95 * entry.losses[0]
        assert math.isfinite(entry.final_loss)
        prompts = json.loads((run / "checkpoints" / entry.path / "prompts.json").read_text())
        assert len(prompts["prompts"]) == len(prompts["answers"]) == 12
    assert not list((run / "checkpoints").glob(".state*"))


def test_an_interrupted_teach_goes_on_to_the_same_adapters(
    tiny_run, tmp_path, monkeypatch, capsys, teach_command
) -> None:
    done, model, files = tiny_run
    step, calls = BatchedTeachers.train_step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return step(self)

    arguments = teach_command(tmp_path / "run", model, files)
    extra = ["--teachers-at-once", "0"]
    monkeypatch.setattr(BatchedTeachers, "train_step", interrupted)
    code = CONSOLE.run([*arguments, *extra])
    monkeypatch.undo()
    if code == 130:
        assert "run the same command again" in capsys.readouterr().err
        assert CONSOLE.run([*arguments, *extra]) == 0
    first, second = (
        Manifest.read(folder / "checkpoints" / "manifest.json")
        for folder in (done, tmp_path / "run")
    )
    assert [e.fingerprint for e in first.adapters] == [e.fingerprint for e in second.adapters]
    assert [e.losses for e in first.adapters] == [e.losses for e in second.adapters]


def test_a_teach_goes_on_where_other_teachers_fit_into_a_forward(
    tiny_run, tmp_path, monkeypatch, teach_command
) -> None:
    _, model, files = tiny_run
    arguments = teach_command(tmp_path / "run", model, files)
    save, written = teach_module._save, []

    def interrupted(*given):
        if written:
            raise KeyboardInterrupt
        written.append(1)
        return save(*given)

    monkeypatch.setitem(teach_module.TOKENS_AT_ONCE, "cpu", 1)
    monkeypatch.setattr(teach_module, "_save", interrupted)
    assert CONSOLE.run([*arguments, "--teachers-at-once", "0"]) == 130
    monkeypatch.undo()
    assert CONSOLE.run([*arguments, "--teachers-at-once", "0"]) == 0
    found = Manifest.read(tmp_path / "run" / "checkpoints" / "manifest.json")
    assert len({e.id for e in found.adapters}) == len(found.adapters) == 6
    assert list(dict.fromkeys(e.task for e in found.adapters)) == ["caps", "digits", "marks"]


def test_other_settings_for_the_same_folder_are_refused(tiny_run, capsys, teach_command) -> None:
    run, model, files = tiny_run
    assert CONSOLE.run(teach_command(run, model, files, "--seed", "1")) == 2
    assert "seed: expected 0 as in the run so far, got 1" in capsys.readouterr().err


def test_a_damaged_manifest_is_named(tmp_path) -> None:
    file = tmp_path / "manifest.json"
    with pytest.raises(RunError, match="run `llgbm teach` first"):
        Manifest.read(file)
    file.write_text('{"format": 9}')
    with pytest.raises(RunError, match="format: expected 2, got 9"):
        Manifest.read(file)


def test_teachers_of_another_spec_than_the_first_are_named(
    tmp_path, tiny_spec, make_teachers
) -> None:
    entries = []
    specs = (tiny_spec, tiny_spec, replace(tiny_spec, r=2), replace(tiny_spec, lora_alpha=4.0))
    for name, spec in zip("abcd", specs, strict=True):
        weights = make_teachers(spec, 1)
        save_adapter(weights, tmp_path / name)
        print_ = adapter_fingerprint(weights)
        entries.append(TeacherEntry(name, "t", "t", "train", name, print_, 8, 1, 0.1, (0.1,)))
    manifest = Manifest("base", "print", {}, tuple(entries))
    assert manifest.load(tmp_path, entries[:2]).n == 2
    for other, words in ((entries[2], "r=2"), (entries[3], "lora_alpha=4")):
        with pytest.raises(AdapterError, match=f"{other.id}: spec: expected .* a .*{words}"):
            manifest.load(tmp_path, [entries[0], other])


def test_a_family_on_both_sides_is_refused(tmp_path) -> None:
    with pytest.raises(RunError, match="'arc' in train and test"):
        collect_shards(TeachConfig(tmp_path, ("arc_easy",), ("arc_challenge",)))
    with pytest.raises(RunError, match="'arc' in train and validation"):
        collect_shards(TeachConfig(tmp_path, ("arc_easy",), (), ("arc_challenge",)))
    with pytest.raises(SettingError, match="validation: expected tasks that are not held out"):
        TeachConfig(tmp_path, ("sciq",), ("csqa",), ("csqa",))
    with pytest.raises(SettingError, match="tasks: expected at least one"):
        TeachConfig(tmp_path, ())
    with pytest.raises(SettingError, match="held_out: expected tasks not among"):
        TeachConfig(tmp_path, ("sciq",), ("sciq",))


def test_all_teachers_start_from_one_A_unless_told_otherwise(tmp_path, tiny_spec) -> None:
    shards = shards_of_unequal_lengths()
    path = tiny_spec.paths[0]
    for shared in (True, False):
        config = TeachConfig(tmp_path, ("x",), shared_A=shared)
        A = initial_adapters(tiny_spec, shards, shards, config).lora_A[path]
        assert torch.equal(A[0], A[3]) == shared
        alone = initial_adapters(tiny_spec, shards, shards[3:], config).lora_A[path]
        assert torch.equal(A[3], alone[0])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("base_model", None, "base_model: expected a string, got None"),
        ("settings", None, "settings: expected an object, got None"),
        ("settings", [], r"settings: expected an object, got \[\]"),
        ("settings.tasks", [1], "settings.tasks: expected a list of strings"),
        ("settings.validation", 1, "settings.validation: expected a list of strings"),
        ("settings.seed", "0", "settings.seed: expected a whole number"),
        ("settings.teachers_per_task", 0, "settings.teachers_per_task: expected .* at least 1"),
        ("settings.optim", 3, "settings.optim: expected an object"),
        ("settings.optim.max_tokens", "many", "settings.optim.max_tokens: expected"),
        ("adapters", 5, "adapters: expected a list of objects, got 5"),
        ("adapters", [5], "adapters: expected a list of objects"),
        ("adapters", [{"id": "x"}], "adapters: expected entries with"),
        ("adapters.0.path", 5, "adapters.0.path: expected a string, got 5"),
        ("adapters.0.split", "seen", "adapters.0.split: expected one of"),
        ("adapters.0.losses", ["x"], "adapters.0.losses: expected a list of finite numbers"),
    ],
)
def test_a_wrong_value_of_the_manifest_is_named(tiny_run, tmp_path, key, value, words) -> None:
    content = json.loads((tiny_run[0] / "checkpoints" / "manifest.json").read_text())
    place, (*parents, last) = content, key.split(".")
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[last] = value
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=f"manifest.json: {words}"):
        Manifest.read(tmp_path / "manifest.json")


def test_a_teacher_whose_folder_is_gone_is_taught_again(
    tiny_run, run_copy, teach_command, capsys
) -> None:
    gone = run_copy / "checkpoints" / "digits" / "digits_001"
    shutil.rmtree(gone)
    assert CONSOLE.run(teach_command(run_copy, *tiny_run[1:])) == 0
    assert "6 teachers" in capsys.readouterr().out
    assert (gone / "adapter_model.safetensors").exists()
    again = Manifest.read(run_copy / "checkpoints" / "manifest.json")
    assert len({entry.id for entry in again.adapters}) == len(again.adapters) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"warmup_steps": 999}, "warmup_steps: expected at most the 40 steps, got 999"),
        ({"final_lr_share": -5}, "final_lr_share: expected 0 to 1, got -5"),
        ({"final_lr_share": math.nan}, "final_lr_share: expected 0 to 1, got nan"),
        ({"weight_decay": -1}, "weight_decay: expected at least 0"),
        ({"weight_decay": math.nan}, "weight_decay: expected at least 0"),
        ({"clip_norm": math.inf}, "clip_norm: expected at least 0 and finite"),
    ],
)
def test_an_optimiser_that_makes_no_sense_is_refused(change, words) -> None:
    with pytest.raises(SettingError, match=words):
        TeacherOptim(**change)


def test_seeds_and_modules_of_teachers_are_bounded(tmp_path) -> None:
    with pytest.raises(SettingError, match="seed: expected from 0 to"):
        TeachConfig(tmp_path, ("sciq",), seed=-1)
    with pytest.raises(SettingError, match="target_modules: expected at least one, got none"):
        TeachConfig(tmp_path, ("sciq",), target_modules=())
