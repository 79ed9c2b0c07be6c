import {
  SPECIAL,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTokenizer,
  tinyTokenizerConfig,
} from './tiny-checkpoint.ts'

/** Ids of the tokens that begin a call: `logit_bias` makes a model call a tool. */
export const CALL_TOKENS = { '<tool_call>': 258, '[TOOL_CALLS]': 259 } as const

const TURNS = `{{ bos_token }}{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}`

/** Templates that write calls in one of the formats. */
export const TOOL_TEMPLATES = {
  hermes: `${TURNS}{% for call in m.tool_calls or [] %}<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}\n{% endfor %}A:`,
  mistral: `${TURNS}{% if m.tool_calls %}[TOOL_CALLS][{% for call in m.tool_calls %}{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}{% endfor %}]{% endif %}\n{% endfor %}A:`,
} as const

/** A tiny model whose tokenizer has the markers of calls: one as text, and one as a token without text. */
export function toolCheckpoint(template: string): TinyFolder {
  const folder = tinyCheckpoint()
  const { apar: _, ...config } = tinyConfig()
  folder.write('config.json', { ...config, max_position_embeddings: 8192 })
  const tokenizer = tinyTokenizer()
  const { '[Fork]': fork, '[Child]': child } = SPECIAL
  const added = (tokenizer.added_tokens as { id: number }[]).filter(({ id }) => id !== fork && id !== child)
  const marker = (content: string, id: number, special: boolean) => {
    return { id, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false }
  }
  folder.write('tokenizer.json', {
    ...tokenizer,
    added_tokens: [
      ...added,
      marker('<tool_call>', CALL_TOKENS['<tool_call>'], false),
      marker('[TOOL_CALLS]', CALL_TOKENS['[TOOL_CALLS]'], true),
    ],
  })
  folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template: template })
  return folder
}
