"""A LLaVA's template, told by the tokens and the chat template that it has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.models import processor_of
from presel_lightning.quickstart import CHECKPOINT
from presel_lightning.records import Turn

OWN = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def llava(place: Path, template: str | None) -> str:
    """The shipped LLaVA, its answers ended by `<|eot_id|>`."""
    shutil.copytree(CHECKPOINT, place)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (place / file).read_text().replace('"</s>"', '"<|eot_id|>"')
        (place / file).write_text(text)
    settings = json.loads((place / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    if template is not None:
        (place / "chat_template.jinja").write_text(template)
    return str(place)


def test_auto_is_vicuna_where_its_end_is_a_token() -> None:
    encoder = encoder_of("auto", processor_of("quickstart"), 512)
    assert isinstance(encoder, Encoder) and encoder.template == "vicuna_v1"


def test_auto_is_the_own_template_of_a_llava_with_another_end(tmp_path: Path) -> None:
    processor: Any = processor_of(llava(tmp_path / "model", OWN), aspect="square")
    encoder = encoder_of("auto", processor, 512)
    assert isinstance(encoder, ChatEncoder)
    assert encoder.processor.own.image_processor is processor.image_processor
    tokenizer = processor.tokenizer
    encoded = encoder([Turn("what is it?", "a thing")])
    labels = [label for label in encoded.labels if label >= 0]
    assert tokenizer.decode(labels) == "a thing<|eot_id|>"
    assert encoder.stop_ids() == [tokenizer.eos_token_id]


def test_auto_without_any_template_is_vicuna_without_a_stop(tmp_path: Path) -> None:
    encoder = encoder_of("auto", processor_of(llava(tmp_path / "model", None)), 512)
    assert isinstance(encoder, Encoder) and encoder.template == "vicuna_v1"
    assert encoder.stop_ids() == []
