"""Train the shipped weights: `python -m presel_lightning.quickstart.pretrain [--out DIR]`.

Three stages replace the pretraining of the models before LLaVA's instruction tuning:

0. vision: supervised training of the tower on the contents of each cell (replaces CLIP);
1. captions: projector and language model on LLaVA's plain template, `<image>caption</s>`;
2. talk: questions about scenes described *in words*, mixed with captions (replaces a language model
   that follows instructions). No question about an image is in the training data.

A DINOv2 is trained by SimCLR on the images, a SigLIP on images and captions. Step counts and seeds are fixed, on one thread, so that
the weights are reproducible.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    Dinov2Model,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipModel,
)

from presel_lightning.quickstart.networks import (
    IMAGE_TOKENS,
    TEXT_TOKENS,
    build_encoder,
    build_llava,
    build_matcher,
    encoder_processor,
    llava_processor,
    matcher_processor,
    to_pixels,
)
from presel_lightning.quickstart.scenes import (
    BACKGROUNDS,
    COLOURS,
    DIGITS,
    SHAPES,
    Rng,
    Scene,
    draw_scene,
    render,
)
from presel_lightning.quickstart.tokenizer import BOS_ID, IMAGE_ID, build_tokenizer
from presel_lightning.quickstart.world import WORDINGS, caption, facts, makers

SEED = 2025
FACTS = 0.6
"""Share of the captions that are tags of single objects."""
MAKERS = makers(
    {
        **WORDINGS,
        "colour": (
            "What colour is the {kind}?",
            "Which colour does the {kind} have?",
            "Name the colour of the {kind}.",
        ),
        "shape": (
            "What shape is the {colour} object?",
            "Which shape do you see in the {place}?",
            "Name the {colour} shape.",
        ),
        "position": (
            "Where is the {colour} {kind}?",
            "In which direction is the {kind}?",
            "Locate the {colour} object.",
        ),
    }
)
"""Questions about scenes described in words; most are worded differently from the pool's."""
KINDS = ("nothing", *SHAPES, *DIGITS)
HUES = ("nothing", *COLOURS)


@dataclass(frozen=True)
class Plan:
    """Step counts and sizes; the defaults are those of the shipped weights."""

    scenes: int = 8000
    vision: int = 400
    captions: int = 1200
    talk: int = 1400
    encoder: int = 250
    matcher: int = 400
    batch: int = 32


@dataclass(frozen=True)
class World:
    """Scenes and their images, distinct from those of the pool."""

    scenes: list[Scene]
    pixels: Tensor  # (N, 3, 48, 48)


@dataclass(frozen=True)
class Line:
    """A token sequence; tokens from `start` on count in the loss."""

    ids: list[int]
    start: int
    scene: int | None = None


def make_world(n: int, rng: Rng) -> World:
    """Sample scenes of one to five shapes, or of digits and at most one shape."""
    scenes = [
        draw_scene(rng, shapes=int(rng.integers(2)), digits=int(rng.integers(1, 4)))
        if rng.random() < 0.35
        else draw_scene(rng, shapes=int(rng.integers(1, 6)))
        for _ in range(n)
    ]
    pictures = np.stack([render(scene, rng) for scene in scenes])
    return World(scenes, to_pixels(torch.from_numpy(pictures)))


def make_tokenizer(rng: Rng) -> PreTrainedTokenizerFast:
    """Train the tokenizer on conversations and captions of the world."""
    texts = []
    for make in MAKERS.values():
        for _ in range(600):
            example = make(rng)
            turns = [f"USER: {q} ASSISTANT: {a}" for q, a in example.turns]
            texts += [caption(example.scene), facts(example.scene, rng), *turns]
    return build_tokenizer(texts)


def train(
    name: str,
    parameters: list[nn.Parameter],
    loss_of: Callable[[], Tensor],
    steps: int,
    lr: float,
) -> float:
    """Minimize a loss by AdamW with warm-up and cosine decay; print the progress.

    Returns:
        The mean loss of the last tenth of the steps.
    """
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm_up, 0.5 + 0.5 * np.cos(np.pi * step / steps)),
    )
    losses, begin = [], time.perf_counter()
    for step in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            recent = np.mean(losses[-50:])
            print(f"{name} {step + 1}/{steps}: loss {recent:.4f}", flush=True)
    final = float(np.mean(losses[-max(1, steps // 10) :]))
    print(f"{name}: final loss {final:.4f}, {time.perf_counter() - begin:.0f} s", flush=True)
    return final


def batches(n: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of row numbers in shuffled epochs, endlessly."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(n, generator=generator)
        yield from (order[begin : begin + size] for begin in range(0, n, size))


def learn_to_see(model: LlavaForConditionalGeneration, world: World, plan: Plan) -> None:
    """Run stage 0: linear heads predict kind, color, background and place of every image token."""
    cells = torch.zeros(len(world.scenes), IMAGE_TOKENS, 4, dtype=torch.long)
    cells[..., 3] = torch.arange(IMAGE_TOKENS)
    for row, scene in enumerate(world.scenes):
        cells[row, :, 2] = BACKGROUNDS.index(scene.background)
        for thing in scene.things:
            cells[row, thing.cell, 0] = KINDS.index(thing.kind)
            cells[row, thing.cell, 1] = HUES.index(thing.colour)
    tower = model.model.vision_tower
    sizes = (len(KINDS), len(HUES), len(BACKGROUNDS), IMAGE_TOKENS)
    heads = nn.ModuleList(nn.Linear(tower.config.hidden_size, size) for size in sizes)
    deal = batches(len(world.scenes), 2 * plan.batch, SEED)

    def loss_of() -> Tensor:
        rows = next(deal)
        tokens = image_tokens(model, world.pixels[rows])  # (B, 9, 96)
        parts = [
            F.cross_entropy(head(tokens).flatten(0, 1), cells[rows][..., i].flatten())
            for i, head in enumerate(heads)
        ]
        return torch.stack(parts).sum()

    train("vision", [*tower.parameters(), *heads.parameters()], loss_of, plan.vision, 2e-3)


def image_tokens(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Return the tower features that LLaVA uses: the penultimate layer, without [CLS]."""
    hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
    tokens: Tensor = hidden[:, 1:]
    return tokens  # (B, 9, 96)


def caption_line(tokenizer: PreTrainedTokenizerFast, world: World, row: int, rng: Rng) -> Line:
    """Build a line of LLaVA's plain template: `<s>`, the image, a caption or tag, `</s>`."""
    scene = world.scenes[row]
    text = facts(scene, rng) if rng.random() < FACTS else caption(scene)
    head = [BOS_ID] + [IMAGE_ID] * IMAGE_TOKENS
    return Line(head + _ids(tokenizer, text + "</s>"), len(head), row)


def talk_line(tokenizer: PreTrainedTokenizerFast, rng: Rng) -> Line:
    """Build a conversation with the caption in place of the image."""
    example = MAKERS[list(MAKERS)[int(rng.integers(len(MAKERS)))]](rng)
    question, answer = example.turns[0]
    head = [BOS_ID, *_ids(tokenizer, "USER: ")]
    head += _ids(tokenizer, caption(example.scene))
    head += _ids(tokenizer, f"\n{question} ASSISTANT:")
    return Line(head + _ids(tokenizer, f" {answer}</s>"), len(head))


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def line_loss(model: LlavaForConditionalGeneration, lines: list[Line], features: Tensor) -> Tensor:
    """Compute the mean cross-entropy over the counted tokens of a batch of lines."""
    lines = sorted(lines, key=lambda line: line.scene is None)
    width = max(len(line.ids) for line in lines)
    ids = torch.zeros(len(lines), width, dtype=torch.long)  # padding is id 0
    labels = torch.full((len(lines), width), -100)
    for row, line in enumerate(lines):
        ids[row, : len(line.ids)] = torch.tensor(line.ids)
        labels[row, line.start : len(line.ids)] = ids[row, line.start : len(line.ids)]
    extra: dict[str, Any] = {}
    scenes = [line.scene for line in lines if line.scene is not None]
    if scenes:
        embedded = model.model.multi_modal_projector(features[scenes])
        extra["mm_encoder_outputs"] = {"image": SimpleNamespace(pooler_output=list(embedded))}
    mask = (torch.arange(width) < torch.tensor([[len(line.ids)] for line in lines])).long()
    loss: Tensor = model(
        input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, **extra
    ).loss
    return loss


def learn_to_talk(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    plan: Plan,
) -> None:
    """Run stages 1 and 2, with the tower frozen and its features computed once."""
    with torch.no_grad():
        pixels = DataLoader(TensorDataset(world.pixels), batch_size=500)
        features = torch.cat([image_tokens(model, part) for (part,) in pixels])  # (N, 9, 96)
    parameters = [
        *model.model.multi_modal_projector.parameters(),
        *model.model.language_model.parameters(),
        *model.lm_head.parameters(),
    ]
    rng = np.random.default_rng([SEED, 2])
    deal = batches(len(world.scenes), plan.batch, SEED + 1)
    half = batches(len(world.scenes), plan.batch // 2, SEED + 2)

    def caption_loss() -> Tensor:
        lines = [caption_line(tokenizer, world, int(row), rng) for row in next(deal)]
        return line_loss(model, lines, features)

    def talk_loss() -> Tensor:
        lines = [caption_line(tokenizer, world, int(row), rng) for row in next(half)]
        lines += [talk_line(tokenizer, rng) for _ in range(plan.batch // 2)]
        return line_loss(model, lines, features)

    train("captions", parameters, caption_loss, plan.captions, 2e-3)
    train("talk", parameters, talk_loss, plan.talk, 2e-3)


def learn_to_compare(world: World, plan: Plan) -> Dinov2Model:
    """Train a DINOv2 by SimCLR: two views of an image are positives, all others negatives."""
    torch.manual_seed(SEED + 3)
    encoder = build_encoder()
    width = encoder.config.hidden_size
    head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 64))
    deal = batches(len(world.scenes), 4 * plan.batch, SEED + 3)
    temperature = 0.2

    def loss_of() -> Tensor:
        pixels = world.pixels[next(deal)]
        views = torch.cat([augment(pixels), augment(pixels)])
        z = F.normalize(head(encoder(views).last_hidden_state[:, 0]), dim=-1)  # (2B, 64)
        similarity = z @ z.T / temperature
        similarity.fill_diagonal_(float("-inf"))
        partner = torch.arange(len(z)).roll(len(pixels))
        return F.cross_entropy(similarity, partner)

    train("encoder", [*encoder.parameters(), *head.parameters()], loss_of, plan.encoder, 1e-3)
    return encoder


def augment(pixels: Tensor) -> Tensor:
    """Augment images: zoom and shift, mirror, brightness and contrast, noise."""
    n = len(pixels)
    zoom = torch.empty(n).uniform_(0.75, 1.05)
    mirror = torch.randint(0, 2, (n,)) * 2.0 - 1.0
    shift = torch.empty(n, 2).uniform_(-0.15, 0.15)
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = zoom * mirror, zoom, shift
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    view = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    contrast = torch.empty(n, 1, 1, 1).uniform_(0.7, 1.3)
    light = torch.empty(n, 3, 1, 1).uniform_(-0.15, 0.15)
    return view * contrast + light + 0.05 * torch.randn_like(view)


def learn_to_match(tokenizer: PreTrainedTokenizerFast, world: World, plan: Plan) -> SiglipModel:
    """Train a SigLIP: of the captions and images of a batch those of one scene belong together.

    The loss is the mean cross-entropy in both directions, as in CLIP.
    """
    torch.manual_seed(SEED + 4)
    model = build_matcher(len(tokenizer))
    deal = batches(len(world.scenes), 2 * plan.batch, SEED + 4)
    rng = np.random.default_rng([SEED, 3])

    def loss_of() -> Tensor:
        rows = next(deal)
        scenes = [world.scenes[int(row)] for row in rows]
        texts = [facts(s, rng) if rng.random() < FACTS / 2 else caption(s) for s in scenes]
        ids = tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=TEXT_TOKENS,
            return_tensors="pt",
        )["input_ids"]
        found = model(input_ids=ids, pixel_values=world.pixels[rows])
        similarity = 10 * found.text_embeds @ found.image_embeds.T
        pairs = torch.arange(len(rows))
        return (F.cross_entropy(similarity, pairs) + F.cross_entropy(similarity.T, pairs)) / 2

    train("matcher", list(model.parameters()), loss_of, plan.matcher, 2e-3)
    return model


def save(model: PreTrainedModel, folder: Path, *others: Any) -> None:  # noqa: ANN401
    """Store weights as fp16 under a float32 config, so that they are loaded as float32."""
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
    (folder / "model.safetensors").chmod(0o644)  # safetensors restricts it to the owner
    for other in others:
        other.save_pretrained(folder)


def pretrain(out: Path, plan: Plan) -> None:
    """Run all stages and write `llava/`, `dinov2/` and `siglip/` into `out`."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    world = make_world(plan.scenes, np.random.default_rng([SEED, 0]))
    tokenizer = make_tokenizer(np.random.default_rng([SEED, 1]))
    model = build_llava(len(tokenizer))
    print(f"LLaVA: {len(tokenizer)} tokens, {model.num_parameters()} weights", flush=True)
    learn_to_see(model, world, plan)
    learn_to_talk(model, tokenizer, world, plan)
    save(model, out / "llava", tokenizer, llava_processor())
    encoder = learn_to_compare(world, plan)
    save(encoder, out / "dinov2", encoder_processor())
    save(learn_to_match(tokenizer, world, plan), out / "siglip", tokenizer, matcher_processor())


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, and train the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    pretrain(parser.parse_args(arguments).out, Plan())


if __name__ == "__main__":
    main()
