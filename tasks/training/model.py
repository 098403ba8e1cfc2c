"""Models: causal language models built from a config, and reward models made from them.

Everything is saved in the formats of transformers (safetensors, config.json, tokenizer files), so that any program
opens it with `from_pretrained`, and in the same bytes for the same weights.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from artifacts.errors import UserError
from tasks.training.shapes import ModelConfig as ModelConfig

# Models come from the store or from a folder; nothing here may ask a server, not even for a newer version.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

WEIGHTS = (".safetensors", ".bin", ".pt", ".index.json")
NOT_TOKENIZER = ("config.json", "generation_config.json", "README.md", "manifest.json")


def _transformers_config(config: ModelConfig, vocab_size: int, end: int | None) -> Any:
    if config.architecture == "gpt2":
        from transformers import GPT2Config

        return GPT2Config(
            vocab_size=vocab_size,
            n_positions=config.context,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            resid_pdrop=config.dropout,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            summary_first_dropout=0.0,
            bos_token_id=end,
            eos_token_id=end,
        )
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        max_position_embeddings=config.context,
        hidden_size=config.width,
        # SwiGLU has three matrices where GELU has two: 8/3 of the width keeps the parameters of 4 (Shazeer 2020).
        intermediate_size=-(-8 * config.width // 3 // 16) * 16,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=None,
    )


def build_causal(config: ModelConfig, vocab_size: int, seed: int, end_id: int | None = None) -> Any:
    """A causal LM with fresh weights (fp32, SDPA attention), which are a function of config, size and seed.

    GPT-2's initialisation: normal with deviation .02, residual projections scaled by 1/sqrt(2 layers).

    Args:
        end_id: the id of `<|endoftext|>`, written into the model's config as both bos and eos.
    """
    from transformers import AutoModelForCausalLM

    shape = _transformers_config(config, vocab_size, end_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(shape, attn_implementation="sdpa", dtype=torch.float32)
    return model


def load_causal(folder: str | Path, dropout: float = 0.0) -> Any:
    """The causal LM of a model folder, fp32, in training mode off, with the given residual dropout.

    Raises:
        UserError: the folder holds no such model, or the architecture has no residual dropout and one was asked for.
    """
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, folder, dropout)


def _load(loader: Any, folder: str | Path, dropout: float, labels: int | None = None) -> Any:
    _quiet()
    try:
        shape = _load_shape(folder, dropout)
        if labels is not None:
            shape.num_labels = labels
        model = loader.from_pretrained(
            folder,
            config=shape,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,  # never the pickles of `pytorch_model.bin`
            trust_remote_code=False,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: not a model that transformers opens ({error})") from error
    model.eval()
    return model


def _load_shape(folder: str | Path, dropout: float) -> Any:
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if hasattr(shape, "resid_pdrop"):
        shape.resid_pdrop, shape.embd_pdrop, shape.attn_pdrop = dropout, 0.0, 0.0
    elif dropout:
        raise UserError(f"{folder}: a {shape.model_type} model has no residual dropout; set dropout to 0")
    return shape


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a folder (`AutoTokenizer`), from local files only."""
    from transformers import AutoTokenizer

    _quiet()
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no tokenizer that transformers opens ({error})") from error


def hidden_states(model: Any, ids: Tensor, mask: Tensor | None = None, position_ids: Tensor | None = None) -> Tensor:
    """The last hidden states (B, T, width) of a causal LM, behind its final norm: what its head multiplies.

    Args:
        mask, position_ids: (B, T), wanted for left-padded input only; right-padded input needs neither.
    """
    found: Tensor = model.base_model(
        input_ids=ids, attention_mask=mask, position_ids=position_ids, use_cache=False
    ).last_hidden_state
    return _in_autocast(found)


def head_weight(model: Any) -> Tensor:
    """The output embedding (vocabulary, width) of a causal LM."""
    return _in_autocast(model.get_output_embeddings().weight)


def _in_autocast(tensor: Tensor) -> Tensor:
    # Cast here and not by the matrix product: a loss that computes its logits again in backward, where autocast is
    # off, would otherwise get others there than in forward.
    if torch.is_autocast_enabled(tensor.device.type):
        return tensor.to(torch.get_autocast_dtype(tensor.device.type))
    return tensor


def count_parameters(model: nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def save_causal(model: Any, tokenizer_folder: str | Path, folder: str | Path) -> None:
    """Write weights, config and the tokenizer's files; equal weights give equal bytes."""
    _save(model, tokenizer_folder, folder)


def _save(model: Any, tokenizer_folder: str | Path, folder: str | Path) -> None:
    _quiet()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    config = json.loads((target / "config.json").read_text())
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"):
        if name in config:
            config[name] = 0.0  # how it was trained is in the manifest; whoever opens it wants it without
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    copy_tokenizer(tokenizer_folder, target)


def copy_tokenizer(source: str | Path, target: str | Path) -> None:
    """Copy what belongs to the tokenizer from a tokenizer's or a model's folder."""
    for path in sorted(Path(source).iterdir()):
        if path.is_file() and path.name not in NOT_TOKENIZER and not path.name.endswith(WEIGHTS):
            shutil.copyfile(path, Path(target) / path.name)


class RewardModel(nn.Module):
    """A transformer with a scalar head: r(x, y) is the head at the last real token, plus a bias.

    The same class is PPO's critic, which reads the head at every token. The bias is a buffer: it is set after training,
    so that the demonstrations score 0 on average (Ouyang et al. 2022, section 3.5), and not learnt.

    Attributes:
        bias: fp32 scalar, added to every score and value.
    """

    bias: Tensor

    def __init__(self, classifier: Any, bias: float = 0.0) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float32))

    @classmethod
    def from_causal(cls, folder: str | Path, seed: int, dropout: float = 0.0) -> RewardModel:
        """The transformer of a causal LM under a fresh head: normal, 1/sqrt(width + 1) (lm-human-preferences)."""
        from transformers import AutoModelForSequenceClassification

        classifier = _load(AutoModelForSequenceClassification, folder, dropout, labels=1)
        head = classifier.score.weight
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            head.normal_(0.0, (head.shape[1] + 1) ** -0.5, generator=generator)
        return cls(classifier)

    @classmethod
    def load(cls, folder: str | Path, dropout: float = 0.0) -> RewardModel:
        """What `save` wrote. Raises `UserError` if the folder holds no reward model."""
        from transformers import AutoModelForSequenceClassification

        shape = Path(folder) / "config.json"
        if not shape.exists() or "reward_bias" not in json.loads(shape.read_text()):
            raise UserError(f"{folder}: no reward model of this pipeline (config.json has no reward_bias)")
        classifier = _load(AutoModelForSequenceClassification, folder, dropout)
        return cls(classifier, float(classifier.config.reward_bias))

    def save(self, folder: str | Path, tokenizer_folder: str | Path) -> None:
        """Write what `load` and `AutoModelForSequenceClassification` open; the bias is `reward_bias` in config.json."""
        self.classifier.config.reward_bias = float(self.bias)
        _save(self.classifier, tokenizer_folder, folder)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.scores(ids, lengths)

    def scores(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B,) of right-padded ids (B, T) at the last real token, `lengths` (B,) real tokens each."""
        hidden = self.classifier.base_model(input_ids=ids, use_cache=False).last_hidden_state
        last = hidden[torch.arange(ids.shape[0], device=ids.device), lengths.to(ids.device) - 1]
        return self._head(last)

    def values(self, ids: Tensor, mask: Tensor | None = None, position_ids: Tensor | None = None) -> Tensor:
        """Values (B, T), one a token; mask and position ids as in `hidden_states`. On pads they mean nothing."""
        hidden = self.classifier.base_model(
            input_ids=ids, attention_mask=mask, position_ids=position_ids, use_cache=False
        ).last_hidden_state
        return self._head(hidden)

    def _head(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.classifier.score(hidden).squeeze(-1).float()
        return scores + self.bias
