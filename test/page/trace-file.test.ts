import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { Recording } from '../../edge/web/answer/recording.ts'
import { openFile } from '../../edge/web/history/open-file.ts'
import { toTrace } from '../../edge/web/history/transfer.ts'
import { forkingSteps, traceOf } from '../cli/trace/sample-trace.ts'

const TEXT = '1. a: one two\nend'

/** The lines of a file of `apar trace`. */
function linesOf(mode: 'parallel' | 'serial'): object[] {
  const { head, turns } = traceOf('81', mode)
  return [
    head,
    ...turns.flatMap(({ begin, steps, end }) => [
      begin,
      ...steps.map((step) => ({ type: 'step', ...step })),
      end,
    ]),
  ]
}

const joined = (lines: readonly object[]) => lines.map((line) => `${JSON.stringify(line)}\n`).join('')
const open = (content: string | Uint8Array<ArrayBuffer>) => openFile('x.trace', new Blob([content]))

async function answerOf(content: string | Uint8Array<ArrayBuffer>) {
  const { conversation, messages } = await open(content)
  const answer = messages.find(({ id }) => id === conversation.leaf)
  if (answer?.role !== 'assistant') throw new Error('no answer at the end')
  return { conversation, messages, answer, recording: new Recording(answer.recorded.events) }
}

describe('the file of a trace', () => {
  it.each([
    ['as apar trace writes it', new Uint8Array(gzipSync(joined(linesOf('parallel'))))],
    ['not compressed', joined(linesOf('parallel'))],
  ])('has the answer, its tree and its times: %s', async (_, content) => {
    const { conversation, messages, answer, recording } = await answerOf(content)
    expect(conversation).toMatchObject({
      title: '81 (parallel): What is a?',
      settings: { parallel: true, model: 'm' },
    })
    expect(messages[0]).toMatchObject({ role: 'user', text: 'What is a?' })
    expect(answer.recorded).toMatchObject({ model: 'm', parallel: true, state: 'complete', elapsed_ms: 7 })
    expect(recording.text()).toBe(TEXT)
    expect(recording.times.get(1)).toEqual({ startMs: 2, endMs: 5 })
    expect(recording.times.get(0)).toEqual({ startMs: 0, endMs: 4 })
    expect(recording.figures()).toMatchObject({ tokens: 7, exact: true, branches: 2, liveBranches: 0 })
  })

  it('has the turns, and what stands before them', async () => {
    const [head, ...lines] = linesOf('serial')
    const before = [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'Hi!' },
    ]
    const refused = { type: 'refused', turn: 3, code: 'context_length_exceeded', message: 'too long' }
    const { conversation, messages } = await open(
      joined([{ ...head, before, turns: 3 }, ...lines, ...lines, refused]),
    )
    expect(conversation.settings).toMatchObject({ system: 'Be short.', parallel: false })
    const texts = messages.map((each) =>
      each.role === 'user' ? each.text : new Recording(each.recorded.events).text(),
    )
    expect(texts).toEqual(['Hello', 'Hi!', 'What is a?', TEXT, 'What is a?', TEXT])
  })

  it('may be that of an API, which has no prompt', async () => {
    const { conversation, answer, recording } = await answerOf(
      JSON.stringify({ version: 1, steps: forkingSteps() }, undefined, 2),
    )
    expect(conversation.title).toBe('x.trace')
    expect(answer.recorded).toMatchObject({ parallel: true, elapsed_ms: 5 })
    expect(recording.text()).toBe(TEXT)
    expect([0, 1].map((id) => recording.tokensOf(id))).toEqual([3, 4])
    expect(recording.figures()).toMatchObject({
      tokens: 7,
      usage: { prompt_tokens: 3, apar: { speculation: { drafted: 2, accepted: 1 } } },
    })
  })

  it('keeps the steps of the engine when it is downloaded again', async () => {
    const { answer, messages } = await answerOf(joined(linesOf('parallel')))
    const again = await answerOf(toTrace(answer, messages))
    const steps = again.answer.recorded.events.flatMap(([, event]) =>
      event.type === 'trace' ? event.steps : [],
    )
    expect(steps).toEqual(forkingSteps())
    expect(again.recording.text()).toBe(TEXT)
    expect(again.messages[0]).toMatchObject({ text: 'What is a?' })
  })

  const changed = (change: (lines: Record<string, unknown>[]) => void) => {
    const lines = structuredClone(linesOf('parallel')) as Record<string, unknown>[]
    change(lines)
    return joined(lines)
  }
  it.each([
    ['of a newer version', changed(([head]) => Object.assign(head ?? {}, { version: 2 })), /newer apar/],
    ['of an API and a newer version', JSON.stringify({ version: 2, steps: [] }), /newer apar/],
    ['cut off', joined(linesOf('parallel').slice(0, 4)), /cut off: an answer has no end/],
    ['with a broken line', `${joined(linesOf('parallel').slice(0, 2))}{"type":`, /line 3 is not JSON/],
    [
      'with a step without time',
      changed((lines) => Object.assign(lines[2] ?? {}, { us: null })),
      /line 3: us is not/,
    ],
    [
      'with tokens of no branch',
      changed((lines) => Object.assign(lines[2] ?? {}, { tokens: [{ ids: [], text: '' }] })),
      /line 3: tokens\.0\.branch is not/,
    ],
    ['with an unknown line', joined([...linesOf('parallel'), { type: 'x' }]), /line 9: type is not/],
    [
      'with a fork of an unknown branch',
      changed((lines) => Object.assign(lines[3] ?? {}, { forks: [{ branch: 1, parent: 5, position: 4 }] })),
      /contradict/,
    ],
  ])('is refused: %s', async (_, content, message) => {
    await expect(open(content)).rejects.toThrow(message)
  })

  it('is refused when it is compressed and cut off', async () => {
    const whole = gzipSync(joined(linesOf('parallel')))
    await expect(open(new Uint8Array(whole.subarray(0, 40)))).rejects.toThrow(/cut off or damaged/)
  })
})
