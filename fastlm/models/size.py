"""How large a model is and how much arithmetic it needs; from the config alone, without torch."""

from __future__ import annotations

from fastlm.models.config import ModelConfig


def parameter_count(config: ModelConfig) -> int:
    """Parameters of the model that `fastlm.models.build` makes, the shared embedding counted once."""
    d, v = config.d_model, config.vocab_size
    if config.model == "seq2seq":
        encoder, decoder = config.side("encoder"), config.side("decoder")
        cross = (d + 1) * 4 * d + 2 * d
        shared = v * d if config.embeddings == "shared" else 0
        return parameter_count(encoder) + parameter_count(decoder) + decoder.layers * cross - shared
    if config.model == "classifier":
        width, pooling = _pooling_parameters(config)
        return parameter_count(config.side("encoder")) + pooling + (width + 1) * len(config.labels)
    norm = 2 * d
    embedding = v * d + (config.seq_len * d if config.positions == "learned" else 0) + norm
    final_norm = norm if config.norm == "pre" else 0
    return embedding + config.layers * _block_parameters(config) + final_norm + _head_parameters(config)


def _block_parameters(config: ModelConfig) -> int:
    d, ff = config.d_model, config.ff
    attention = (d + 1) * 3 * d + (d + 1) * d
    mlp = (d + 1) * ff + (ff + 1) * d
    return attention + mlp + 2 * 2 * d


def _pooling_parameters(config: ModelConfig) -> tuple[int, int]:
    """What a classifier's output layer reads, and the parameters before it."""
    d = config.d_model
    if config.pooling == "cnn":
        return 100 * 3, 100 * ((3 + 4 + 5) * d + 3)
    return d, (d + 1) * d if config.pooling == "first" else 0


def _head_parameters(config: ModelConfig) -> int:
    d = config.d_model
    return (d + 1) * d + 2 * d + config.vocab_size if config.head == "transform" else 0


def flops_per_token(
    config: ModelConfig, *, sequence_length: float | None = None, target_share: float | None = None
) -> float:
    """Floating-point operations of one training step (forward and backward), per token of the batch.

    6 for each weight that multiplies a token (2 forward, 4 backward), and 12 * layers * d * S for the two products of
    attention, half of that where it is causal (Chowdhery et al. 2022, PaLM, appendix B). Position and token look-ups
    cost nothing. It is the arithmetic of the plain model: the encoder's shortened last block is not subtracted, so
    that a utilisation computed from it can be compared between models.

    Args:
        config: a language model's.
        sequence_length: S, mean sentence length in tokens, weighted by tokens (each token attends to its own
            sentence); default ``config.seq_len``.
        target_share: share of the tokens that reach the output head; default 1 for a decoder, 0.15 for an encoder.
    """
    d, ff = config.d_model, config.ff
    causal = config.model == "decoder"
    length = config.seq_len if sequence_length is None else sequence_length
    share = (1.0 if causal else 0.15) if target_share is None else target_share
    head = config.vocab_size * d + (d * d if config.head == "transform" else 0)
    weights = config.layers * (4 * d * d + 2 * d * ff) + share * head
    attention = 12 * config.layers * d * length * (0.5 if causal else 1.0)
    return 6 * weights + attention
