import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { cp, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readConfig } from '../../../gpu-node/checkpoint/config.ts'
import { PromptEncoder } from '../../../gpu-node/text/prompt-encoder.ts'
import { ChatEncoder } from '../../../training/data/encode/chat-encoder.ts'
import { readBaseModel } from '../../../training/data/model/base-model.ts'
import type { ForkTokens } from '../../../training/data/model/fork-tokens.ts'
import { writeModel } from '../../../training/data/model/write-model.ts'
import { ggufOfConfig, writeGgufConfig } from '../../support/gguf-of-config.ts'

const GOLDEN = 'test/golden'
const folder = mkdtempSync(join(tmpdir(), 'apar-model-'))
let made = 0
const out = () => join(folder, `model-${made++}`)
const json = (path: string, name: string) => JSON.parse(readFileSync(join(path, name), 'utf8'))

/** A base without weights: a golden tokenizer beside a golden config.json. */
async function base(tokenizer: string, template?: string): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'apar-base-'))
  await cp(tokenizer, path, { recursive: true })
  const config = json(join(GOLDEN, 'architectures/llama'), 'config.json')
  writeFileSync(join(path, 'config.json'), JSON.stringify({ ...config, vocab_size: 600, eos_token_id: 2 }))
  if (template) writeFileSync(join(path, 'chat_template.jinja'), template)
  return path
}

describe('fork tokens', () => {
  it('are what the model has', async () => {
    const path = out()
    const model = await writeModel(readBaseModel('models/demo'), 'own', path)
    expect([model.fork.content, model.child.content, model.vocabSize]).toEqual(['[Fork]', '[Child]', 4096])
    const config = json(path, 'config.json')
    expect([config.apar, config.branching]).toEqual([
      undefined,
      { fork_token: '[Fork]', child_token: '[Child]', joints: 'kept' },
    ])
  })

  it.each<ForkTokens>(['add', [400, 401]])(
    'of an adapter come before those of its base: %s',
    async (choice) => {
      const path = await base(join(GOLDEN, 'sentencepiece/apar'))
      const plain = { ...readBaseModel(path), branching: undefined }
      const adapter = out()
      const trained = await writeModel(plain, choice, adapter)
      const written = out()
      const model = await writeModel(readBaseModel(path, undefined, adapter), 'own', written)
      expect(model).toMatchObject({ fork: trained.fork, child: trained.child, vocabSize: trained.vocabSize })
      expect(model.fork.content).toBe('[Fork]')
      expect(json(written, 'base.json')).toMatchObject({ path, adapter })
      expect(json(written, 'config.json').branching.fork_token).toBe('[Fork]')
    },
  )

  it('of published checkpoints keep their names, and eat the white space beside them', async () => {
    const path = await base(join(GOLDEN, 'sentencepiece/apar'))
    const model = await writeModel(readBaseModel(path), 'own', out())
    expect([model.fork, model.child]).toEqual([
      { id: 400, content: '[SplitMask]' },
      { id: 401, content: '[SplitSop]' },
    ])
    const encoder = new ChatEncoder(model)
    const detail = (text: string) =>
      encoder.structured({ prompt: 'x' }, [{ text: 'a:', detail: [{ text }] }, { text: 'b' }]).segments[1]
        ?.ids
    expect(detail('\n the engine')).toEqual(detail('the engine'))
    // What serves the tuned model sees no other prompt than what trained it.
    const served = new PromptEncoder(readBaseModel(path).text)
    const messages = [{ role: 'user' as const, content: 'the engine' }]
    expect(encoder.prompt({ prompt: 'the engine' })).toEqual([...served.encode(messages, 1000)])
  })

  const TEMPLATE =
    '{% for m in messages %}{{ m.content }}{{ eos_token if m.role == "assistant" else "\n" }}{% endfor %}'
  it('are added behind the last token', async () => {
    const path = await base('models/demo')
    writeFileSync(
      join(path, 'tokenizer.json'),
      readFileSync('models/demo/tokenizer.json', 'utf8')
        .replaceAll('[Fork]', '[F]')
        .replaceAll('[Child]', '[C]'),
    )
    const model = await writeModel(readBaseModel(path), 'add', out())
    expect([model.fork.id, model.child.id, model.vocabSize]).toEqual([4096, 4097, 4098])
    await expect(writeModel(readBaseModel('models/demo'), 'add', out())).rejects.toThrow(
      'there is a token [Fork] already',
    )
  })

  it('take over unused tokens wherever they are named', async () => {
    const path = await base(join(GOLDEN, 'sentencepiece/apar'), TEMPLATE)
    const written = out()
    const model = await writeModel(readBaseModel(path), [401, 400], written)
    expect([model.fork.id, model.child.id]).toEqual([401, 400])
    expect(readFileSync(join(written, 'tokenizer.json'), 'utf8')).not.toMatch(/SplitMask|SplitSop/)
  })

  it.each([
    [[5, 6], '5 is not the id of an added token'],
    [[1, 400], '1 is <s>, which the model uses'],
    [[400, 400], 'two different ids are needed'],
  ] as [ForkTokens, string][])('%s is refused', async (choice, message) => {
    const model = readBaseModel(await base(join(GOLDEN, 'sentencepiece/apar'), TEMPLATE))
    await expect(writeModel(model, choice, out())).rejects.toThrow(message)
  })
})

const LLAMA_3_1 = {
  rope_type: 'llama3',
  ...{ factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 },
}

describe('a base model', () => {
  it.each([
    ['llama', 'llama', {}],
    ['llama', 'llama-tied', {}],
    ['llama', 'llama-linear', {}],
    ['llama', 'llama-llama3', { rope_scaling: LLAMA_3_1, max_position_embeddings: 16_384 }],
    ['llama', 'llama-yarn', {}],
    ['qwen2', 'qwen2', {}],
    ['qwen3', 'qwen3', {}],
    ['smollm3', 'smollm3', { no_rope_layers: [1, 1, 1] }],
  ])('in GGUF has the shape of its config.json: %s, %s', async (architecture, name, fields) => {
    const golden = await mkdtemp(join(tmpdir(), 'apar-golden-'))
    const config = { ...json(join(GOLDEN, 'architectures', name), 'config.json'), ...fields }
    writeFileSync(join(golden, 'config.json'), JSON.stringify(config))
    const { shape } = readConfig(golden)
    const path = `${out()}.gguf`
    writeGgufConfig(path, ggufOfConfig(architecture, config, shape))
    const written = out()
    await writeModel(readBaseModel(path, 'chatml'), 'add', written)
    const found = readConfig(written).shape
    const { vocabSize, rope, rmsNormEps, ...rest } = shape
    expect(found).toMatchObject(rest)
    expect(found.vocabSize).toBeGreaterThanOrEqual(vocabSize)
    for (const [pair, frequency] of rope.frequencies.entries())
      expect(found.rope.frequencies[pair]).toBeCloseTo(frequency, 6)
    expect(found.rmsNormEps).toBeCloseTo(rmsNormEps, 9)
    expect(json(written, 'base.json')).toMatchObject({
      path,
      format: 'gguf',
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
  })

  it.each([
    ['nothing', '/nowhere', 'neither a folder nor a .gguf file'],
    ['no chat template', join(GOLDEN, 'architectures/llama'), 'tokenizer.json is missing'],
  ])('%s is refused', (_, path, message) => {
    expect(() => readBaseModel(path)).toThrow(message)
  })
})
