import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readConfig } from '../../gpu-node/checkpoint/config.ts'
import { tensorBytes } from '../../gpu-node/checkpoint/tensor-blocks.ts'
import { readWeights } from '../../gpu-node/checkpoint/weights.ts'
import { greedyAnswer } from '../support/greedy-answer.ts'
import { dict, pickle, tensor, text, torchMembers, zipFile } from '../support/torch-file.ts'

const GOLDEN = join(import.meta.dirname, '../golden/torch')
const folder = mkdtempSync(join(tmpdir(), 'apar-torch-engine-'))
afterAll(() => rmSync(folder, { recursive: true }))

const { shape } = readConfig(join(GOLDEN, 'apar-7b'))
const TOKENS = { fork: shape.vocabSize - 2, child: shape.vocabSize - 1, eos: [2] }
const PROMPT = Int32Array.from({ length: 20 }, (_, i) => 10 + 13 * i)

/** The weights of the golden safetensors file in a torch file whose tensors lie at odd places. */
function writeUnaligned(): string {
  const [path = ''] = readWeights(join(GOLDEN, 'safetensors'), shape).files
  const bytes = readFileSync(path)
  const { tensors } = readWeights(join(GOLDEN, 'safetensors'), shape)
  const storages = Object.fromEntries(
    tensors.map((entry, key) => {
      return [key, bytes.subarray(entry.offset, entry.offset + tensorBytes(entry.dtype, entry.shape))]
    }),
  )
  const state = tensors.flatMap(({ name, shape: size }, key) => {
    const elements = size.reduce((product, length) => product * length, 1)
    return [text(name), tensor({ storage: 'HalfStorage', key: `${key}`, elements, shape: size })]
  })
  const members = torchMembers(pickle(dict(...state)), storages)
  writeFileSync(join(folder, 'pytorch_model.bin'), zipFile(members, { alignment: 1 }))
  return folder
}

test('the same weights give the same bits from safetensors and from torch files of all kinds', async () => {
  const from = (path: string) => ({ shape, weights: readWeights(path, shape), tokens: TOKENS })
  const unaligned = from(writeUnaligned())
  expect(unaligned.weights.tensors.some(({ offset }) => offset % 2 === 1)).toBe(true)
  const torch = [from(join(GOLDEN, 'apar-7b')), from(join(GOLDEN, 'single')), unaligned]
  for (const dtype of ['f32', 'bf16', 'int8'] as const) {
    const expected = await greedyAnswer(from(join(GOLDEN, 'safetensors')), PROMPT, dtype)
    expect(expected.length).toBeGreaterThan(50)
    for (const checkpoint of torch) expect(await greedyAnswer(checkpoint, PROMPT, dtype)).toEqual(expected)
  }
})
