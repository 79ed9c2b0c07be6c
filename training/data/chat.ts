import type { Turn } from './conversation.ts'
import { BOS, EOS } from './tokenizer/convert.ts'

/**
 * The demo model's chat template, shipped in its tokenizer_config.json. Answers start right after a line break,
 * so no answer starts with a space and joints need no mending.
 */
export const CHAT_TEMPLATE =
  '{{ bos_token }}{% for message in messages %}' +
  "{% if message['role'] == 'assistant' %}{{ 'ASSISTANT:\\n' + message['content'] + eos_token }}" +
  "{% else %}{{ message['role'] | upper + ': ' + message['content'] + '\\n' }}{% endif %}" +
  "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:\\n' }}{% endif %}"

/** The text before the first answer: the template rendered for one user message with a generation prompt. */
export function promptText(prompt: string): string {
  return `${BOS}${turnText(prompt)}`
}

/** Splits a conversation into text segments; only segments with `learned` contribute to the loss. */
export function chatSegments(turns: readonly Turn[]): { text: string; learned: boolean }[] {
  return turns.flatMap((turn, index) => [
    { text: index === 0 ? promptText(turn.prompt) : turnText(turn.prompt), learned: false },
    { text: turn.response + EOS, learned: true },
  ])
}

function turnText(prompt: string): string {
  return `USER: ${prompt}\nASSISTANT:\n`
}

/** Contents of tokenizer_config.json. */
export function tokenizerConfig(maxTokens: number): string {
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: BOS,
    eos_token: EOS,
    unk_token: '<unk>',
    clean_up_tokenization_spaces: false,
    model_max_length: maxTokens,
    chat_template: CHAT_TEMPLATE,
  }
  return `${JSON.stringify(config, null, 2)}\n`
}
