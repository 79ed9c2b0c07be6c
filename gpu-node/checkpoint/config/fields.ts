import type { Refuse } from '../refusals.ts'

/** What is known of fields that the reader of a configuration has no use for. */
export interface FieldRules {
  /** Fields that would change what is computed, with the values besides null that change nothing. */
  readonly neutral: Readonly<Record<string, readonly unknown[]>>
  /** Fields that change nothing, whatever they are. */
  readonly irrelevant: ReadonlySet<string>
}

/**
 * Decides for each field that is not `read`: a known one with a value that is not computed is refused by its name.
 * @returns the names of unknown fields whose values could mean something, fit for one line of a log.
 */
export function checkFields(
  fields: Readonly<Record<string, unknown>>,
  read: ReadonlySet<string>,
  { neutral, irrelevant }: FieldRules,
  refuse: Refuse,
): string[] {
  const unknown: string[] = []
  for (const [field, value] of Object.entries(fields)) {
    if (value == null || read.has(field) || irrelevant.has(field)) continue
    const allowed = Object.hasOwn(neutral, field) ? neutral[field] : undefined
    if (!allowed) {
      if (!meansNothing(value)) unknown.push(field)
    } else if (!allowed.includes(value)) {
      const only = allowed.length > 0 ? ` (only ${allowed.map(String).join(', ')})` : ''
      refuse(field, `${shown(value)} is not computed${only}`)
    }
  }
  const names = unknown.slice(0, MAX_NAMES).map((name) => (PLAIN_NAME.test(name) ? name : shown(name)))
  return unknown.length > MAX_NAMES ? [...names, `… and ${unknown.length - MAX_NAMES} more`] : names
}

const MAX_NAMES = 16
const PLAIN_NAME = /^[\w.-]{1,60}$/

/** Values by which configurations turn something off. */
function meansNothing(value: unknown): boolean {
  if (typeof value === 'object') return value === null || Object.keys(value).length === 0
  return [false, 0, 1, ''].includes(value as string)
}

const SHOWN_CHARS = 60

function shown(value: unknown): string {
  const text = JSON.stringify(value)
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}…` : text
}

const OFF = [false, 0]

/** Fields of config.json. */
export const CONFIG_RULES: FieldRules = {
  neutral: {
    hidden_act: ['silu', 'swish'],
    hidden_activation: ['silu', 'swish'],
    activation_function: ['silu', 'swish'],
    norm_type: ['rms_norm', 'rmsnorm'],
    // Scaled, capped or clipped values.
    attn_logit_softcapping: [0],
    final_logit_softcapping: [0],
    logit_scale: [1],
    logits_scaling: [1],
    embedding_multiplier: [1],
    residual_multiplier: [1],
    lm_head_multiplier: [1],
    attention_multiplier: [],
    attention_scale: [],
    query_pre_attn_scalar: [],
    softmax_scale: [],
    scale_emb: [1],
    scale_depth: [],
    dim_model_base: [],
    clip_qkv: [],
    swiglu_limit: [],
    attn_temperature_tuning: OFF,
    // Other positions.
    alibi: OFF,
    use_alibi: OFF,
    position_embedding_type: ['rope', 'rotary'],
    use_rope: [true],
    rope_interleaved: OFF,
    rope_interleave: OFF,
    use_mrope: OFF,
    // Other attention.
    attention_chunk_size: [],
    attn_output_gate: OFF,
    kv_lora_rank: [],
    q_lora_rank: [],
    num_kv_shared_layers: OFF,
    qk_norm: OFF,
    use_qk_norm: OFF,
    qk_layernorm: OFF,
    qk_layer_norm: OFF,
    use_attention_sinks: OFF,
    is_causal: [true],
    use_bidirectional_attention: OFF,
    // Other layers.
    parallel_attn: OFF,
    use_parallel_residual: OFF,
    num_experts: OFF,
    num_local_experts: OFF,
    n_routed_experts: OFF,
    // Other models.
    is_encoder_decoder: OFF,
    add_cross_attention: OFF,
    cross_attention_layers: [],
    text_config: [],
    vision_config: [],
    audio_config: [],
    // Quantised by MLX, or by compressed-tensors before it had a quantization_config.
    quantization: [],
    compression_config: [],
  },
  irrelevant: new Set([
    ...[
      '_name_or_path',
      'model_type',
      'transformers_version',
      'transformers.js_config',
      'tokenizer_class',
      'prefix',
    ],
    ...['_attn_implementation', '_attn_implementation_autoset', '_flash_attn_2_enabled', 'is_llama_config'],
    ...[
      'unsloth_fixed',
      'unsloth_version',
      'base_model_name_or_path',
      'max_sequence_length',
      'model_max_length',
    ],
    // How weights are stored and results returned.
    ...[
      'torch_dtype',
      'dtype',
      'use_bfloat16',
      'torchscript',
      'tf_legacy_loss',
      'pretraining_tp',
      'use_cache',
    ],
    ...[
      'return_dict',
      'output_attentions',
      'output_hidden_states',
      'chunk_size_feed_forward',
      'pruned_heads',
    ],
    // Training.
    ...[
      'initializer_range',
      'attention_dropout',
      'attn_pdrop',
      'hidden_dropout',
      'hidden_dropout_prob',
      'embd_pdrop',
    ],
    ...[
      'resid_pdrop',
      'residual_dropout',
      'gradient_checkpointing',
      'router_aux_loss_coef',
      'label_smoothing',
    ],
    // Of models without windows or experts; a window in effect bounds the whole context.
    ...['sliding_window_pattern', 'num_experts_per_tok', 'output_router_logits', 'moe_intermediate_size'],
    // Bias vectors are tensors: one that is not expected is refused there.
    ...['bias', 'use_bias', 'qkv_bias'],
    // Other tasks.
    ...[
      'is_decoder',
      'tie_encoder_decoder',
      'cross_attention_hidden_size',
      'finetuning_task',
      'problem_type',
    ],
    ...[
      'id2label',
      'label2id',
      'num_labels',
      'task_specific_params',
      'decoder_start_token_id',
      'sep_token_id',
    ],
    // The tokenizer has these.
    ...['bos_token_id', 'pad_token_id', 'unk_token_id'],
    // Sampling, which generation_config.json says.
    ...['do_sample', 'temperature', 'top_k', 'top_p', 'typical_p', 'repetition_penalty', 'length_penalty'],
    ...['max_length', 'min_length', 'early_stopping', 'num_beams', 'num_beam_groups', 'diversity_penalty'],
    ...['no_repeat_ngram_size', 'encoder_no_repeat_ngram_size', 'bad_words_ids', 'num_return_sequences'],
    ...['output_scores', 'return_dict_in_generate', 'forced_bos_token_id', 'forced_eos_token_id'],
    ...[
      'remove_invalid_values',
      'exponential_decay_length_penalty',
      'suppress_tokens',
      'begin_suppress_tokens',
    ],
  ]),
}
