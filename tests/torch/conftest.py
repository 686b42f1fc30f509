"""A tiny BERT, built on the disk: nothing is downloaded."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of it is imported

import pytest

WORDS = (
    *"a the duck swims on water red car drives fast blue query passage : , .".split(),  # noqa: SIM905 - readable
    *"represent document for retrieval question supporting documents retrieving".split(),  # noqa: SIM905
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch: Any = pytest.importorskip("torch")
    sentence_transformers: Any = import_module("sentence_transformers")
    modules: Any = import_module("sentence_transformers.sentence_transformer.modules")
    transformers: Any = import_module("transformers")
    base, made = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    transformers.BertTokenizerFast({word: number for number, word in enumerate(words)}).save_pretrained(base)
    torch.manual_seed(7)
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(WORDS) + 5,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
    ).save_pretrained(base)
    parts = [modules.Transformer(str(base)), modules.Pooling(16)]
    sentence_transformers.SentenceTransformer(modules=parts).save(str(made))
    return made
