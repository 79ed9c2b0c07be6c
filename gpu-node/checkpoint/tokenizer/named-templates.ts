/** As FastChat writes it; Vicuna and the published APAR checkpoints were tuned with these words. */
const VICUNA = `
{%- if messages[0].role == 'system' %}
  {%- set system, chat = messages[0].content, messages[1:] %}
{%- else %}
  {%- set system = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions." %}
  {%- set chat = messages %}
{%- endif %}
{{- system ~ ' ' }}
{%- for message in chat %}
  {%- if message.role == 'user' %}
    {{- 'USER: ' ~ message.content ~ ' ' }}
  {%- elif message.role == 'assistant' %}
    {{- 'ASSISTANT: ' ~ message.content ~ eos_token }}
  {%- else %}
    {{- raise_exception('a system message must be the first one') }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- 'ASSISTANT:' }}
{%- endif %}`

/** As Meta's Llama 2 writes it: the system message is part of the first question, and each turn is a text of its own. */
const LLAMA_2 = `
{%- set start = '' %}
{%- if messages[0].role == 'system' %}
  {%- set start = '<<SYS>>\\n' ~ messages[0].content ~ '\\n<</SYS>>\\n\\n' %}
  {%- set chat = messages[1:] %}
{%- else %}
  {%- set chat = messages %}
{%- endif %}
{%- for message in chat %}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) or message.role == 'system' %}
    {{- raise_exception('after a system message, messages must be of user and assistant in turn') }}
  {%- endif %}
  {%- if message.role == 'user' %}
    {%- if not loop.first %}
      {{- bos_token }}
    {%- endif %}
    {{- '[INST] ' }}
    {%- if loop.first %}
      {{- (start ~ message.content) | trim }}
    {%- else %}
      {{- message.content | trim }}
    {%- endif %}
    {{- ' [/INST]' }}
  {%- else %}
    {{- ' ' ~ message.content | trim ~ ' ' ~ eos_token }}
  {%- endif %}
{%- endfor %}`

const CHATML = `
{%- for message in messages %}
  {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
{%- endif %}`

/**
 * Formats of prompts, for checkpoints without a chat template. `afterRawPrefix`: see chat-template.ts.
 */
export const NAMED_TEMPLATES: ReadonlyMap<string, { source: string; afterRawPrefix?: true }> = new Map([
  ['vicuna_v1.1', { source: VICUNA, afterRawPrefix: true }],
  ['llama-2', { source: LLAMA_2, afterRawPrefix: true }],
  ['chatml', { source: CHATML }],
])
