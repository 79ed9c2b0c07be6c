import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { serialize } from 'node:v8'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  bootWorker,
  endWorker,
  type FromWorker,
  PromptProcess,
  type WorkerSetup,
} from '../../gpu-node/text/prompt-process.ts'
import { tinyTokenizer, VOCAB_SIZE } from '../support/tiny-checkpoint.ts'

const ROLE = { check: false, yields: true }

function setupOf(template: string): WorkerSetup {
  const files = {
    tokenizer: tinyTokenizer(),
    file: 'tokenizer.json',
    chatTemplate: { source: `${template}{{ messages[0].content }}`, file: '/model/chat.jinja' },
    rawPrefix: '<s>',
    named: { bos_token: '<s>', eos_token: '</s>' },
  }
  return { files: serialize(files), controlIds: [], vocabSize: VOCAB_SIZE }
}

function work(content: string) {
  return { prompt: { messages: [{ role: 'user' as const, content }] }, maxTokens: 100 }
}

describe('a process', () => {
  const ENDLESS =
    "{% if 'loop' in messages[0].content %}{% for i in range(1000000) %}{% for j in range(1000000) %}" +
    '{% endfor %}{% endfor %}{% endif %}'
  let child: ChildProcess
  beforeEach(async () => {
    child = bootWorker()
    child.send({ ...setupOf(ENDLESS), ...ROLE })
    expect(await answer()).toMatchObject({ type: 'loading' })
    expect(await answer()).toMatchObject({ type: 'ready' })
  })
  afterEach(async () => {
    await endWorker(child)
  })

  async function answer(): Promise<FromWorker> {
    const [message] = await once(child, 'message')
    return message
  }

  test('ends with its node, also while it is busy', async () => {
    const exited = once(child, 'exit')
    child.send(work('loop'))
    await sleep(200)
    // As the system does when the node ends.
    child.stdin?.destroy()
    expect(await exited).toEqual([null, 'SIGKILL'])
  })

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('leaves %s to its node', async (signal) => {
    child.kill(signal)
    child.send(work('hi'))
    expect(await answer()).toMatchObject({ type: 'encoded' })
  })

  test('tells its node where a bug is', async () => {
    child.send({ prompt: undefined })
    const stack = expect.stringMatching(/TypeError.*prompt-worker/s)
    expect(await answer()).toMatchObject({ type: 'crashed', stack })
  })
})

describe('memory', () => {
  // So much at once that V8 aborts the process.
  const LISTS =
    '{% set ns = namespace(a=[], b=[0]) %}{% for i in range(20) %}{% set ns.b = ns.b + ns.b %}{% endfor %}' +
    '{% for i in range(2000) %}{% set ns.a = ns.a + [ns.b + ns.b + ns.b + [i]] %}{% endfor %}'
  const HEAP_MB = 128
  let prompts: PromptProcess
  afterEach(async () => {
    await prompts.close()
  })

  test('that a prompt takes costs its process, and the next prompt has another', async () => {
    prompts = new PromptProcess(
      setupOf(`{% if 'grow' in messages[0].content %}${LISTS}{% endif %}`),
      ROLE,
      bootWorker(HEAP_MB),
    )
    const { signal } = new AbortController()
    await prompts.load()
    const code = 'invalid_request'
    const message = expect.stringContaining('too much memory')
    await expect(prompts.run(work('grow'), 60_000, signal)).rejects.toMatchObject({ code, message })
    await prompts.load()
    expect(await prompts.run(work('hi'), 60_000, signal)).toMatchObject({ type: 'encoded' })
  })

  test('that the template takes at the start refuses the checkpoint', async () => {
    prompts = new PromptProcess(setupOf(LISTS), ROLE, bootWorker(HEAP_MB))
    const refusal = { name: 'StartupError', code: 'unsupported_checkpoint' }
    await expect(prompts.load()).rejects.toMatchObject(refusal)
  })
})
