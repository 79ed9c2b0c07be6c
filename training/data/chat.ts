/**
 * The demo model's chat template, shipped in its tokenizer_config.json. Answers start right after a line break,
 * so no answer starts with a space and joints need no mending.
 */
export const CHAT_TEMPLATE =
  '{{ bos_token }}{% for message in messages %}' +
  "{% if message['role'] == 'assistant' %}{{ 'ASSISTANT:\\n' + message['content'] + eos_token }}" +
  "{% else %}{{ message['role'] | upper + ': ' + message['content'] + '\\n' }}{% endif %}" +
  "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:\\n' }}{% endif %}"

/** A question and its answer as the template writes them, without special tokens: for training a tokenizer. */
export function turnText(prompt: string, answer: string): string {
  return `USER: ${prompt}\nASSISTANT:\n${answer}`
}
