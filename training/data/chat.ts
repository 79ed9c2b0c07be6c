import type { Turn } from './conversation.ts'
import { BOS, EOS } from './tokenizer/convert.ts'

/**
 * The demo model's chat format as it is shipped in tokenizer_config.json. Answers begin right after a line break, so no
 * answer starts with a space and white space needs no mending.
 */
export const CHAT_TEMPLATE =
  '{{ bos_token }}{% for message in messages %}' +
  "{% if message['role'] == 'assistant' %}{{ 'ASSISTANT:\\n' + message['content'] + eos_token }}" +
  "{% else %}{{ message['role'] | upper + ': ' + message['content'] + '\\n' }}{% endif %}" +
  "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:\\n' }}{% endif %}"

/** What precedes the first answer: the template's text for one user message with a generation prompt. */
export function promptText(prompt: string): string {
  return `${BOS}${turnText(prompt)}`
}

/** A conversation as stretches of text; the model learns those that are its own. */
export function chatStretches(turns: readonly Turn[]): { text: string; learned: boolean }[] {
  return turns.flatMap((turn, index) => [
    { text: index === 0 ? promptText(turn.prompt) : turnText(turn.prompt), learned: false },
    { text: turn.response + EOS, learned: true },
  ])
}

function turnText(prompt: string): string {
  return `USER: ${prompt}\nASSISTANT:\n`
}

/** tokenizer_config.json, the file that transformers and apar read beside tokenizer.json. */
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
