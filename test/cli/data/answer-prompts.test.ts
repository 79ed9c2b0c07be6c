import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { answerPrompts } from '../../../cli/data/answer-prompts.ts'
import type { Runner } from '../../../gpu-node/requests/runner.ts'
import { AparError } from '../../../shared/errors.ts'
import { AnswersFile } from '../../../training/data/prompts/answers-file.ts'

const SAMPLING = { model: 'm', dtype: 'bf16', temperature: 0, top_p: 1, max_tokens: 8, seed: 1 }
const ASKED = [{ id: 'a', prompt: { id: 'a', messages: [{ role: 'user' as const, content: 'Why?' }] } }]
const USAGE = { prompt_tokens: 3, completion_tokens: 2 }

/** Refuses the first `failures` requests with `code`, then answers. */
function busyRunner(
  code: 'request_timeout' | 'overloaded',
  failures: number,
): { runner: Runner; asked: () => number } {
  let asked = 0
  const start: Runner['start'] = async (_id, _request, publish) => {
    if (++asked <= failures) throw new AparError(code, 'late')
    publish({
      events: [
        { type: 'delta', branch: 0, text: 'So.' },
        { type: 'done', reason: 'stop', usage: USAGE },
      ],
    } as never)
    return { cancel() {}, cancelBranch() {} } as never
  }
  return { runner: { model: 'm', start } as Runner, asked: () => asked }
}

describe('answers of a busy machine', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'apar-busy-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  async function answer(runner: Runner): Promise<string[]> {
    const path = join(folder, 'answers.jsonl')
    const file = await AnswersFile.open(path, SAMPLING)
    try {
      await answerPrompts(runner, ASKED, file, { sampling: SAMPLING, concurrency: 1 })
    } finally {
      await file.close()
    }
    return readFileSync(path, 'utf8').trim().split('\n')
  }

  it('are made although a prompt was not encoded in time', async () => {
    const { runner, asked } = busyRunner('request_timeout', 3)
    expect(await answer(runner)).toHaveLength(1)
    expect(asked()).toBe(4)
  })

  it('are given up when that goes on, and at once for another error', async () => {
    await expect(answer(busyRunner('request_timeout', 20).runner)).rejects.toMatchObject({
      code: 'request_timeout',
    })
    const { runner, asked } = busyRunner('overloaded', 1)
    await expect(answer(runner)).rejects.toMatchObject({ code: 'overloaded' })
    expect(asked()).toBe(1)
  })
})
