import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'

const FOLDER = join(packageRoot, 'test/golden/torch/apar-7b')
const [FORK, CHILD] = [300, 301]

// The layout of the published checkpoints, at a tiny size: torch files in shards, SentencePiece, added tokens, no template.
test('a published APAR checkpoint is served as it is: it forks, and chats by its training format', () => {
  const checkpoint = readCheckpoint(FOLDER)
  expect(checkpoint.tokens).toMatchObject({ fork: FORK, child: CHILD })
  expect(checkpoint.joints).toBe('mended')
  expect(checkpoint.weights.files.map((file) => file.replace(FOLDER, ''))).toEqual([
    '/pytorch_model-00001-of-00002.bin',
    '/pytorch_model-00002-of-00002.bin',
  ])
  const encoder = new PromptEncoder(checkpoint.text, [FORK, CHILD, ...checkpoint.tokens.eos])
  const pieces = Object.entries(checkpoint.text.tokenizer.model.vocab)
  const textOf = (ids: Int32Array) =>
    [...ids].map((id) => pieces.find(([, number]) => number === id)?.[0] ?? `<${id}>`).join('')
  const prompt = textOf(encoder.encode([{ role: 'user', content: 'ab [SplitMask] c' }], 1000))
  const spelled = prompt.replace(/<0x([0-9A-F]{2})>/g, (_, hex) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  expect(spelled.replaceAll('▁', ' ')).toMatch(/^<s> ?A chat between .*USER: ab \[SplitMask\] c ASSISTANT:$/)
  // What a user writes never becomes the token.
  expect(prompt).not.toContain(`<${FORK}>`)
})
