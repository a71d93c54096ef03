"""The `hf` export read by plain transformers: its own processor, chat template and weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlamaForCausalLM

from presel_lightning.cli.main import main
from presel_lightning.export.hf import export_hf_merged
from presel_lightning.export.llava import export_llava
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.models import LoRA, load_model, load_processor, save_model
from presel_lightning.models.vicuna import chat_template
from presel_lightning.records import Turn
from presel_lightning.run.files import read_json
from tests.models import tiny
from tests.models.llama_file import SlowLlama, text, write_trained

KINDS = [(torch.float16, False), (torch.bfloat16, True), (torch.float32, None)]


class Tuned:
    """An adapter on a language model of some precision, whose CLIP is in fp32, and its export."""

    def __init__(self, root: Path, dtype: torch.dtype, legacy: bool | None) -> None:
        self.dtype = dtype
        parts = tiny.write_parts(root, partial(write_trained, legacy=legacy))
        language: Any = LlamaForCausalLM.from_pretrained(parts.language_model)
        language.to(dtype).save_pretrained(parts.language_model)
        self.size = language.config.vocab_size
        self.slow = SlowLlama(
            Path(parts.language_model) / "tokenizer.model", legacy=legacy is not False
        )
        self.run = root / "final"
        model = load_model(parts, "lora", LoRA(r=4, alpha=8), "float32")
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        save_model(model, self.run)
        load_processor(parts).save(self.run)
        self.out = export_hf_merged(str(self.run), root / "out")
        self.processor: Any = AutoProcessor.from_pretrained(self.out, backend="pil")
        self.model: Any = AutoModelForImageTextToText.from_pretrained(self.out)


@pytest.fixture(scope="module", params=KINDS, ids=["fp16-first", "bf16-legacy", "fp32-unsaid"])
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("hf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRESEL_LIGHTNING_CACHE", str(root / "cache"))
        yield Tuned(root, *request.param)


def prompts() -> list[tuple[list[Turn], str]]:
    """Earlier turns and a question, with code, spaces and scripts in them; the last has no words."""
    rng = np.random.default_rng(3)

    def part() -> str:
        written = text(rng)
        for token in ("</s>", "<s>", "<unk>"):
            written = written.replace(token, "")
        return written.strip() or "a  dog?"

    asked = [([Turn(part(), part())] * (number % 3), part()) for number in range(9)]
    return [*asked, ([], "")]


def chat(history: list[Turn], question: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, turn in enumerate([*history, Turn(question, "")]):
        shown = [] if number else [{"type": "image"}]
        words = [{"type": "text", "text": turn.question}] if turn.question else []
        found.append({"role": "user", "content": [*shown, *words]})
        found.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return found[:-1]


def read(tuned: Tuned, history: list[Turn], question: str) -> Any:
    """What plain transformers makes of a chat."""
    return tuned.processor.apply_chat_template(
        chat(history, question),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"images": [tiny.picture()]},
    )


def test_exported_processor_ten_prompts_gives_the_ids_of_training(tuned: Tuned) -> None:
    encoder = Encoder("vicuna_v1", load_processor(str(tuned.run)), 2048)
    for history, question in prompts():
        found = read(tuned, history, question)
        ours = encoder.prompts([(history, question, tiny.picture())])
        assert torch.equal(found["input_ids"], ours["input_ids"]), question
        torch.testing.assert_close(found["pixel_values"], ours["pixel_values"])
        system = tuned.processor.chat_template.split('"')[1]
        image = "<image>\n" if history or question else "<image>"
        turns = [*history, Turn(question, "")]
        asked = [f"USER: {t.question} ASSISTANT:" for t in turns]
        asked[0] = f"USER: {image}{turns[0].question} ASSISTANT:"
        answered = [f"{a} {t.answer}</s>" for a, t in zip(asked, history, strict=False)]
        ids = tuned.slow.with_image(f"{system}{''.join(answered)}{asked[-1]}")
        place = ids.index(tuned.slow.image)
        ids[place : place + 1] = [tuned.slow.image] * tiny.PLACES
        assert found["input_ids"][0].tolist() == ids, question


@pytest.mark.parametrize("name", TEMPLATES)
def test_chat_template_writes_the_prompt_that_was_trained_on(name: str) -> None:
    """Of every `data.template`; this tokenizer does not write the token that begins a text."""
    tokenizer = load_processor("quickstart").tokenizer
    template = chat_template(tokenizer, name)
    for history, question in prompts()[:-1]:
        messages, turns = chat(history, question), [*history, Turn(question, "42")]
        asked = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        assert asked == "<s>" + TEMPLATES[name].prompt(history, question)
        messages += [{"role": "assistant", "content": "42"}]
        whole = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        assert whole == "<s>" + TEMPLATES[name].render(turns, with_question=True).text


def test_exported_model_answers_the_benchmark_as_the_run_did(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """In plain transformers, by the chat template; the quickstart's prompt has no system sentence."""
    command = ["export", "--run", str(finished), "--to", "hf", "--path", str(tmp_path / "out")]
    assert main(command) == 0
    processor: Any = AutoProcessor.from_pretrained(tmp_path / "out", backend="pil")
    model: Any = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    records = read_json(pool_folder / "test.json")
    answers = pq.read_table(finished / "predictions" / "final.parquet")["prediction"].to_pylist()
    assert len(records) == len(answers) and len(set(answers)) > 1
    for record, answer in zip(records[::3], answers[::3], strict=True):
        inputs = processor.apply_chat_template(
            chat([], record["conversations"][0]["value"].replace("<image>\n", "")),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"images": [Image.open(pool_folder / record["image"])]},
        )
        found = model.generate(**inputs, max_new_tokens=32, do_sample=False)
        new = found[0, inputs["input_ids"].shape[1] :]
        assert processor.decode(new, skip_special_tokens=True).strip() == answer


def test_exported_model_read_by_transformers_gives_the_logits(tuned: Tuned) -> None:
    base = read_json(tuned.run / "adapter_config.json")["base_model_name_or_path"]
    whole = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    expected: Any = PeftModel.from_pretrained(whole, tuned.run).merge_and_unload().eval()
    for parameter in expected.parameters():
        parameter.data = parameter.data.to(tuned.dtype).float()
    model: Any = AutoModelForImageTextToText.from_pretrained(tuned.out, dtype=torch.float32)
    for history, question in prompts():
        inputs = read(tuned, history, question)
        with torch.inference_mode():
            found, wanted = model(**inputs).logits, expected(**inputs).logits
            own = tuned.model(**inputs.to(tuned.dtype)).logits
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(own.float(), wanted, rtol=0, atol=0.15)


def test_export_is_in_the_precision_of_the_language_model(tuned: Tuned, tmp_path: Path) -> None:
    """Also in LLaVA's layout, and when the export is exported again."""
    name = str(tuned.dtype).removeprefix("torch.")
    again = export_hf_merged(str(tuned.out), tmp_path / "again")
    for folder in (tuned.out, again):
        config = read_json(folder / "config.json")
        parts = (config, config["text_config"], config["vision_config"])
        assert [part["dtype"] for part in parts] == [name] * 3
        weights = load_file(folder / "model.safetensors").values()
        assert {tensor.dtype for tensor in weights} == {tuned.dtype}
    assert tuned.model.dtype == tuned.dtype
    llava = export_llava(str(tuned.run), tmp_path / "llava")
    assert read_json(llava / "config.json")["torch_dtype"] == name
    weights = load_file(llava / "model.safetensors").values()
    assert {tensor.dtype for tensor in weights} == {tuned.dtype}


def test_exported_model_never_answers_with_an_added_row(tuned: Tuned) -> None:
    with torch.no_grad():
        tuned.model.lm_head.weight[tuned.size :] = 5
    inputs = read(tuned, [], "a dog?").to(tuned.dtype)
    answer = tuned.model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert int(answer[0, inputs["input_ids"].shape[1] :].max()) < tuned.size
