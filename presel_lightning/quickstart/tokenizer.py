"""The tiny LLaVA's tokenizer: byte-level BPE, so that any text survives a round trip."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

UNK, BOS, EOS, IMAGE = "<unk>", "<s>", "</s>", "<image>"
PAD_ID, BOS_ID, EOS_ID, IMAGE_ID = 0, 1, 2, 3
"""Special tokens, with the ids 0 to 3; `<unk>` is also the padding, as in LLaVA."""

VOCABULARY = 800
"""Maximum vocabulary size: 4 special tokens, 256 bytes, and merges."""

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER:  ASSISTANT:"
)
COMMON_WORDS = (
    "the of and to in is you that it he was for on are as with his they at be this have from or "
    "one had by word but not what all were we when your can said there use an each which she do "
    "how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number no way could people my than first water been "
    "call who now find long down day did get come made may part over new sound take only little "
    "work know place year live me back give most very after thing our just name good sentence man "
    "think say great where help through much before line right too mean old any same tell boy "
    "follow came want show also around form three small set put end does another well large must "
    "big even such because turn here why ask went men read need land different home us move try "
    "kind hand picture again change off play spell air away animal house point page letter answer "
    "question image photo main object person woman dog cat bird food car tree yes no single phrase "
    "short left option choice caption describe following using based shown"
)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train merges on texts, LLaVA's system prompt and common words.

    Text is not normalized and no space is added, so `decode(encode(x)) == x` for every text.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(t, normalized=False) for t in (UNK, BOS, EOS, IMAGE)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words = [f"{word} {word}" for word in COMMON_WORDS.split()]
    # a number is read digit by digit, so no merge may join two digits
    corpus = ["".join(c for c in text if not c.isdigit()) for text in texts]
    tokenizer.train_from_iterator([*corpus, SYSTEM, *words], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNK,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=UNK,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
