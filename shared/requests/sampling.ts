import { z } from 'zod'
import { DryFields, FurtherFields, GenerateRequest, PromptAndEnd } from '../protocol/request.ts'
import { ignored, ignoredAs, unsupported, unsupportedList } from './fields.ts'

const { top_k, min_p, repetition_penalty } = FurtherFields.shape
const { seed, max_tokens } = GenerateRequest.shape
const { min_tokens, ignore_eos, stop_token_ids } = PromptAndEnd.shape
const { add_generation_prompt, continue_final_message, chat_template_kwargs } = PromptAndEnd.shape

/** Some clients send -1 for "no limit". */
export const MaxTokens = z.union(
  [z.literal(-1), max_tokens.unwrap()],
  'must be a whole number from 1 to 1000000, or -1 for no limit',
)

/** Options that OpenAI's and Anthropic's APIs lack, as the clients of vLLM, SGLang and llama.cpp write them. */
export const SamplingFields = {
  ...{ top_k, min_p, repetition_penalty, seed },
  ...DryFields.shape,
  ...{ min_tokens, ignore_eos, stop_token_ids },
}

/** The same about how the chat template makes the prompt. */
export const TemplateFields = { add_generation_prompt, continue_final_message, chat_template_kwargs }

/** Options of other servers that would change the answer. Clients of those servers send their neutral values always. */
export const NEUTRAL_OF_OTHERS = {
  /** A chat template writes them: either value is neutral. vLLM's default for chats is false. */
  add_special_tokens: unsupported('another value than true or false is', true, false),
  skip_special_tokens: unsupported('special tokens in the text are', true),
  spaces_between_special_tokens: ignoredAs(z.boolean()),
  return_token_ids: unsupported('token ids in answers are', false),
  return_tokens_as_token_ids: unsupported('token ids in answers are', false),
  detokenize: unsupported('an answer without text is', true),
  include_stop_str_in_output: unsupported('the stop string in the text is', false),
  no_stop_trim: unsupported('the stop string in the text is', false),
  stop_regex: unsupportedList('stop patterns are'),
  bad_words: unsupportedList('bad_words are'),
  allowed_token_ids: unsupportedList('allowed_token_ids are'),
  truncate_prompt_tokens: unsupported('truncating the prompt is'),
  use_beam_search: unsupported('beam search is', false),
  length_penalty: unsupported('beam search, which length_penalty is for, is', 1),
  typical_p: unsupported('typical_p is', 1),
  tfs_z: unsupported('tfs_z is', 1),
  top_a: unsupported('top_a is', 0),
  mirostat: unsupported('mirostat is', 0),
  dynatemp_range: unsupported('dynatemp_range is', 0),
  xtc_probability: unsupported('xtc_probability is', 0),
  typ_p: unsupported('typ_p is', 1),
  top_n_sigma: unsupported('top_n_sigma is', 0, -1),
  smoothing_factor: unsupported('smoothing_factor is', 0),
  epsilon_cutoff: unsupported('epsilon_cutoff is', 0),
  eta_cutoff: unsupported('eta_cutoff is', 0),
  guidance_scale: unsupported('guidance_scale is', 1),
  n_probs: unsupported('n_probs is (logprobs asks for them), other values are', 0),
  return_hidden_states: unsupported('hidden states in answers are', false),
  // They say more about one of these, which is off.
  ...{ mirostat_tau: ignored, mirostat_eta: ignored, dynatemp_exponent: ignored, xtc_threshold: ignored },
  ...{ smoothing_curve: ignored, early_stopping: ignored, min_keep: ignored, n_keep: ignored },
  repeat_penalty: unsupported('repeat_penalty is (its name here is repetition_penalty), other values are', 1),
  lora: unsupportedList('adapters of a request are'),
  lora_path: unsupported('adapters of a request are'),
  chat_template: unsupported('a template of the request is'),
  documents: unsupportedList('documents are'),
  guided_decoding_backend: ignored,
  guided_whitespace_pattern: ignored,
  priority: ignoredAs(z.number()),
  request_id: ignored,
  rid: ignored,
  cache_salt: ignored,
  cache_prompt: ignored,
  id_slot: ignored,
  timings_per_token: ignored,
  return_progress: ignored,
  verbose: ignored,
  separate_reasoning: ignored,
  stream_reasoning: ignored,
  include_reasoning: ignored,
  reasoning_format: ignored,
}

/** Of OpenRouter: who else may answer, and that the usage is told. */
export const OF_ROUTERS = {
  models: ignored,
  plugins: unsupportedList('plugins are'),
  provider: ignored,
  route: ignored,
  transforms: unsupportedList('transforms of the prompt are'),
  usage: ignored,
}

/** What says who asks and why, and where an answer may be computed or kept: nothing of it changes the answer. */
export const ABOUT_THE_CALL = {
  user: ignored,
  metadata: ignored,
  store: ignoredAs(z.boolean()),
  service_tier: ignored,
  safety_identifier: ignored,
  /** Calls with the same one go to the same gpu node while it has room. */
  prompt_cache_key: z.string().max(1024).optional(),
  prompt_cache_retention: ignored,
  /** Every prompt is kept in the cache: where a client marks it, and for how long, is no matter. */
  prompt_cache_options: ignored,
}
