//! The fields of a `config.json`: mapped, carried along, refused, or known to be without effect. A
//! field in none of these tables is warned about.

/// Fields without effect on the result of a forward pass in f32: training, storage, task
/// labels, the library's own bookkeeping.
const WITHOUT_EFFECT: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_name_or_path",
    "_num_labels",
    "attn_implementation",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cross_attention_hidden_size",
    "dtype",
    "embd_pdrop",
    "embed_dropout",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "n_ctx",
    "model_parallel",
    "n_special",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "predict_special_tokens",
    "prefix",
    // The scale is folded into the product in f32; scores are f32 here anyway.
    "reorder_and_upcast_attn",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "summary_first_dropout",
    "task_specific_params",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "xla_device",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_bfloat16",
    "use_cache",
    "decoder_start_token_id",
];

/// Settings for generation, carried to where generation looks for them.
pub(super) const GENERATION: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "penalty_alpha",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Fields that change the model into one this library does not run, unless they are empty or false.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("add_cross_attention", "cross-attention layers"),
    ("pruned_heads", "pruned heads"),
    (
        "quantization_config",
        "weights quantized by another library",
    ),
];

/// The fields that are mapped, each with the other name it may have.
pub(super) mod field {
    pub(in super::super) const VOCAB_SIZE: &[&str] = &["vocab_size"];
    pub(in super::super) const POSITIONS: &[&str] = &["n_positions", "max_position_embeddings"];
    pub(in super::super) const EMBD: &[&str] = &["n_embd", "hidden_size"];
    pub(in super::super) const LAYER: &[&str] = &["n_layer", "num_hidden_layers"];
    pub(in super::super) const HEAD: &[&str] = &["n_head", "num_attention_heads"];
    pub(in super::super) const INNER: &[&str] = &["n_inner"];
    pub(in super::super) const EPSILON: &[&str] = &["layer_norm_epsilon"];
    pub(in super::super) const ACTIVATION: &[&str] = &["activation_function"];
    pub(in super::super) const SCALE_ATTENTION: &[&str] = &["scale_attn_weights"];
    pub(in super::super) const SCALE_BY_LAYER: &[&str] = &["scale_attn_by_inverse_layer_idx"];
    pub(in super::super) const TIED: &[&str] = &["tie_word_embeddings"];
    pub(in super::super) const ARCHITECTURES: &[&str] = &["architectures"];
    pub(in super::super) const LABELS: &[&str] = &["id2label"];
    pub(in super::super) const LABEL_COUNT: &[&str] = &["num_labels"];
    pub(in super::super) const PROBLEM_TYPE: &[&str] = &["problem_type"];
    pub(in super::super) const SUMMARY_TYPE: &[&str] = &["summary_type"];
    pub(in super::super) const SUMMARY_ACTIVATION: &[&str] = &["summary_activation"];
    pub(in super::super) const SUMMARY_USE_PROJECTION: &[&str] = &["summary_use_proj"];
    pub(in super::super) const SUMMARY_TO_LABELS: &[&str] = &["summary_proj_to_labels"];
    pub(in super::super) const MODEL_TYPE: &[&str] = &["model_type"];
    pub(in super::super) const BOS: &[&str] = &["bos_token_id"];
    pub(in super::super) const EOS: &[&str] = &["eos_token_id", "eos_token_ids"];
    pub(in super::super) const PAD: &[&str] = &["pad_token_id"];
}

/// All mapped fields, for telling the unknown ones.
const MAPPED: &[&[&str]] = &[
    field::VOCAB_SIZE,
    field::POSITIONS,
    field::EMBD,
    field::LAYER,
    field::HEAD,
    field::INNER,
    field::EPSILON,
    field::ACTIVATION,
    field::SCALE_ATTENTION,
    field::SCALE_BY_LAYER,
    field::TIED,
    field::ARCHITECTURES,
    field::LABELS,
    field::LABEL_COUNT,
    field::PROBLEM_TYPE,
    field::SUMMARY_TYPE,
    field::SUMMARY_ACTIVATION,
    field::SUMMARY_USE_PROJECTION,
    field::SUMMARY_TO_LABELS,
    field::MODEL_TYPE,
    field::BOS,
    field::EOS,
    field::PAD,
];

/// Whether a field's name is one of those above.
pub(super) fn is_known(name: &str) -> bool {
    WITHOUT_EFFECT.contains(&name)
        || GENERATION.contains(&name)
        || REFUSED.iter().any(|(refused, _)| *refused == name)
        || MAPPED.iter().any(|names| names.contains(&name))
}
