import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ReceivedAnswer } from '../../../cli/bench/serving/target/answer.ts'
import { nodeTarget } from '../../../cli/bench/serving/target/node-target.ts'
import type { BenchRequest } from '../../../cli/bench/serving/target/target.ts'
import { AnswerForcer } from '../../../cli/replay/forced-answer.ts'
import { readCheckpoint } from '../../../gpu-node/checkpoint/checkpoint.ts'
import { type GpuNode, startGpuNode } from '../../../gpu-node/main.ts'
import { packageRoot } from '../../../gpu-node/package-root.ts'
import { silent } from '../../support/logs.ts'
import { requires } from '../../support/requires.ts'
import { LIST } from '../replay/garden.ts'

const DEMO = `${packageRoot}/models/demo`
const SECRET = 'the-secret'
const REQUEST: BenchRequest = {
  ...{ model: 'demo', messages: [{ role: 'user', content: 'Hello' }], maxTokens: 900 },
  ...{ fixedLength: false, temperature: 0, seed: 3 },
  mode: { parallel: true, speculation: 'off' },
}
const BUILT = () => existsSync(`${packageRoot}/native/build/release/apar.node`)

async function ask(node: GpuNode, request: BenchRequest, secret = SECRET): Promise<ReceivedAnswer> {
  const answer = new ReceivedAnswer()
  await nodeTarget({ url: node.url, secret }).ask(request, answer)
  return answer
}

describe.skipIf(!requires('the built engine', BUILT))('a gpu node that is asked directly', () => {
  const options = { modelDir: DEMO, threads: 1, nodeSecret: SECRET, log: silent }
  const forced = new AnswerForcer(readCheckpoint(DEMO)).force(LIST)
  let node: GpuNode
  let strict: GpuNode
  beforeAll(async () => {
    node = await startGpuNode({ ...options, allowReplay: true })
    strict = await startGpuNode(options)
  }, 60_000)
  afterAll(async () => {
    await node.close()
    await strict.close()
  })

  test('gives its own answer', async () => {
    const answer = await ask(node, { ...REQUEST, maxTokens: 5 })
    expect(answer).toMatchObject({ whole: true, finish: 'length', usage: { outputTokens: 5 } })
    expect(answer.text).not.toBe('')
  })

  test('gives a forced answer with branches or without', async () => {
    const [parallel, serial] = await Promise.all([
      ask(node, { ...REQUEST, forced }),
      ask(node, { ...REQUEST, forced, mode: { parallel: false, speculation: 'off' } }),
    ])
    for (const answer of [parallel, serial]) expect(answer).toMatchObject({ text: LIST, finish: 'stop' })
    // [Fork] and [Child] of each of three details.
    expect(parallel.outputTokens - serial.outputTokens).toBe(6)
  })

  test('fails with the code of the node, or of the connection', async () => {
    const failed = (code: string) => ({ name: 'RequestFailed', code })
    await expect(ask(strict, { ...REQUEST, forced })).rejects.toMatchObject(failed('invalid_request'))
    await expect(ask(node, REQUEST, 'another')).rejects.toMatchObject(failed('connection_lost'))
  })
})
