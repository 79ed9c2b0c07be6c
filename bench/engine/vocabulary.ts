// A vocabulary for models with random weights: both sides need one to open a model; it does not affect the figures.

export const BOS = 1
export const EOS = 2
const SPECIAL = ['<unk>', '<s>', '</s>']
export const CHAT_TEMPLATE = '{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}'
/** The first id that is neither special nor a byte. */
export const FIRST_TEXT = SPECIAL.length + 256

/** SentencePiece's layout, as Llama's: three special tokens, the 256 bytes, then text. Index = id. */
export const PIECES: readonly string[] = Array.from({ length: 32_000 }, (_, id) => {
  if (id < SPECIAL.length) return SPECIAL[id] ?? ''
  const byte = id - SPECIAL.length
  if (id < FIRST_TEXT) return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
  return `▁t${id}`
})

/** The token type of a piece, as a GGUF constant. */
export function pieceType(id: number): number {
  const [NORMAL, UNKNOWN, CONTROL, BYTE] = [1, 2, 3, 6]
  if (id < SPECIAL.length) return id === 0 ? UNKNOWN : CONTROL
  return id < FIRST_TEXT ? BYTE : NORMAL
}

/** tokenizer.json */
export function tokenizerFile(): Record<string, unknown> {
  return {
    version: '1.0',
    added_tokens: SPECIAL.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }] },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(PIECES.map((piece, id) => [piece, id])),
      merges: [],
      unk_token: '<unk>',
      byte_fallback: true,
    },
  }
}

/** tokenizer_config.json */
export function tokenizerConfig(): Record<string, unknown> {
  return {
    bos_token: SPECIAL[BOS],
    eos_token: SPECIAL[EOS],
    unk_token: SPECIAL[0],
    chat_template: CHAT_TEMPLATE,
  }
}
