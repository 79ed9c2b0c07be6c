import {
  headerOf,
  type Json,
  SPECIAL,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTokenizer,
  tinyTokenizerConfig,
} from './tiny-checkpoint.ts'

/** How far the token that follows stands out: no sampling chooses another. */
const SURE = 30

export interface Script {
  readonly template: string
  /**
   * What the model answers, by the last character of its prompt. A list has pieces that are tokens of their own, such as
   * markers; a piece of text becomes several.
   */
  readonly answers: Readonly<Record<string, string | readonly string[]>>
  /** Pieces that are added tokens. `true`: special ones, which have no text. */
  readonly markers?: Readonly<Record<string, boolean>>
}

/**
 * A checkpoint that answers as a script says, whatever it is asked, on the real engine: attention and MLP are 0, so that
 * each token decides alone which one follows, and the head has that for each. Pieces of text are therefore tokens that occur
 * once in the script. `[Fork]` and `[Child]` may each be a piece once.
 */
export function scriptedCheckpoint({ template, answers, markers = {} }: Script): TinyFolder {
  const tokenizer = tinyTokenizer()
  const { vocab } = tokenizer.model as { vocab: Record<string, number> }
  const ids = new Map<string, number>(Object.entries(SPECIAL))
  const added = [...(tokenizer.added_tokens as object[])]
  let size = Math.max(...Object.values(SPECIAL)) + 1
  for (const [content, special] of Object.entries(markers)) {
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false }
    added.push({ id: size, content, special, ...flags })
    ids.set(content, size++)
  }
  const follows = new Map<number, number>()
  const chain = (from: number, to: number) => {
    if (follows.has(from)) throw new Error(`token ${from} is followed by two others`)
    follows.set(from, to)
  }
  for (const [last, answer] of Object.entries(answers)) {
    let before = last.charCodeAt(0)
    for (const piece of typeof answer === 'string' ? [answer] : answer) {
      const known = ids.get(piece)
      const chunks = known === undefined ? chunksOf(piece, vocab) : [piece]
      for (const chunk of chunks) {
        const id = known ?? size++
        if (known === undefined) vocab[spelled(chunk, vocab)] = id
        // [Child] is given to a branch, and its parent's text goes on behind [Fork].
        if (before >= 0) chain(before, id)
        before = id
      }
      if (piece === '</s>') before = -1
    }
    if (before >= 0) chain(before, SPECIAL['</s>'])
  }
  // One component a token.
  const hidden = Math.ceil(size / 64) * 64
  const config = {
    ...tinyConfig(),
    ...{ vocab_size: size, hidden_size: hidden, tie_word_embeddings: false, max_position_embeddings: 16_384 },
  }
  const folder = tinyCheckpoint()
  folder.write('config.json', config)
  folder.write('tokenizer.json', { ...tokenizer, added_tokens: added } as Json)
  folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template: template })
  folder.write('model.safetensors', weights(size, hidden, follows))
  return folder
}

/** Short pieces that are no tokens yet. */
function chunksOf(text: string, vocab: Record<string, number>): string[] {
  const chunks: string[] = []
  const isNew = (chunk: string) => !(spelled(chunk, vocab) in vocab) && !chunks.includes(chunk)
  let chunk = ''
  for (const char of text) {
    chunk += char
    if (chunk.length < 2 || !isNew(chunk)) continue
    chunks.push(chunk)
    chunk = ''
  }
  // What is left goes to the one before it.
  while (chunk !== '' && !isNew(chunk)) {
    const before = chunks.pop()
    if (before === undefined) throw new Error(`${JSON.stringify(text)} is a token already`)
    chunk = before + chunk
  }
  return chunk === '' ? chunks : [...chunks, chunk]
}

/** As GPT-2's table writes bytes. */
function spelled(text: string, vocab: Record<string, number>): string {
  const charOf = new Map(Object.entries(vocab).flatMap(([char, id]) => (id < 256 ? [[id, char]] : [])))
  return [...Buffer.from(text)].map((byte) => charOf.get(byte) ?? '').join('')
}

function weights(size: number, hidden: number, follows: ReadonlyMap<number, number>): Buffer {
  const layer = 'model.layers.0'
  const half = hidden / 2
  const shapes = new Map([
    ['model.embed_tokens.weight', [size, hidden]],
    ['lm_head.weight', [size, hidden]],
    ['model.norm.weight', [hidden]],
    [`${layer}.input_layernorm.weight`, [hidden]],
    [`${layer}.self_attn.q_proj.weight`, [hidden, hidden]],
    [`${layer}.self_attn.k_proj.weight`, [half, hidden]],
    [`${layer}.self_attn.v_proj.weight`, [half, hidden]],
    [`${layer}.self_attn.o_proj.weight`, [hidden, hidden]],
    [`${layer}.post_attention_layernorm.weight`, [hidden]],
    [`${layer}.mlp.gate_proj.weight`, [16, hidden]],
    [`${layer}.mlp.up_proj.weight`, [16, hidden]],
    [`${layer}.mlp.down_proj.weight`, [hidden, 16]],
  ])
  const header = headerOf(shapes)
  const json = Buffer.from(JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8))
  const data = new Float32Array(
    Math.max(...Object.values(header).map(({ data_offsets: [, end] }) => end)) / 4,
  )
  const begin = (name: string) => (header[name]?.data_offsets[0] ?? 0) / 4
  for (let i = 0; i < hidden; i++) data[begin('model.norm.weight') + i] = 1
  for (let id = 0; id < size; id++) data[begin('model.embed_tokens.weight') + id * hidden + id] = 1
  for (const [from, to] of follows) data[begin('lm_head.weight') + to * hidden + from] = SURE
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, Buffer.from(data.buffer)])
}
