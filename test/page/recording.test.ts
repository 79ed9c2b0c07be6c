import { describe, expect, it } from 'vitest'
import { Recording } from '../../edge/web/answer/recording.ts'
import type { Message } from '../../edge/web/history/conversation.ts'
import { requestFor } from '../../edge/web/request.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'

const accepted = {
  type: 'accepted',
  version: 1,
  stream: 's',
  model: 'demo',
  joints: 'kept',
  created: 1,
} as const
const usage = {
  prompt_tokens: 5,
  cached_prompt_tokens: 0,
  completion_tokens: 9,
  total_tokens: 14,
  branches: [
    { branch: 0, completion_tokens: 4 },
    { branch: 1, completion_tokens: 5 },
  ],
}

function record(...events: object[]): Recording {
  const recording = new Recording()
  for (const [seq, event] of [accepted, ...events].entries())
    recording.add(seq * 100, { seq, ...event } as StreamEvent)
  return recording
}

const begun = [
  { type: 'delta', branch: 0, text: 'ab' },
  { type: 'fork', branch: 1, parent: 0, at: 1 },
  { type: 'fork', branch: 2, parent: 1, at: 0 },
  { type: 'delta', branch: 1, text: 'X' },
]

describe('a recording', () => {
  it('has what the model thought, in document order, beside the text', () => {
    const recording = record(
      { type: 'reasoning', branch: 0, text: 'Hm. ' },
      { type: 'fork', branch: 1, parent: 0, at: 0, reasoning_at: 4 },
      { type: 'reasoning', branch: 0, text: ' So.' },
      { type: 'reasoning', branch: 1, text: 'Why?' },
      { type: 'delta', branch: 0, text: 'Yes' },
    )
    expect([recording.reasoning(), recording.text()]).toEqual(['Hm. Why? So.', 'Yes'])
    expect(recording.figures()).toMatchObject({ firstTextMs: 100, tokens: 4 })
    // Shares of the characters, thoughts among them, until the usage is there.
    expect([0, 1].map((id) => recording.tokensOf(id))).toEqual([3, 1])
    recording.stopBranch(900, 1)
    recording.add(1000, { type: 'reasoning', seq: 6, branch: 1, text: 'late' })
    expect(recording.reasoning()).toBe('Hm. Why? So.')
  })

  it('knows whether the model still thinks, and how long it has thought', () => {
    const thought = { type: 'reasoning', branch: 0, text: 'Hm.' }
    const answer = { type: 'delta', branch: 0, text: 'Yes' }
    const known = ({ isThinking, thoughtMs }: Recording) => [isThinking, thoughtMs]
    expect(known(record())).toEqual([false, undefined])
    expect(known(record(thought, thought))).toEqual([true, undefined])
    expect(known(record(thought, thought, answer, answer))).toEqual([false, 200])
    expect(known(record(answer))).toEqual([false, undefined])
  })

  it('has the times of each branch, and the figures', () => {
    const end = { type: 'branch_end', branch: 1, reason: 'stop' }
    const recording = record(...begun, end, { type: 'done', reason: 'stop', usage })
    expect(recording.times.get(1)).toEqual({ startMs: 200, endMs: 500 })
    expect(recording.times.get(0)).toEqual({ startMs: 0, endMs: 600 })
    expect(recording.figures()).toMatchObject({
      firstTextMs: 100,
      tokens: 9,
      exact: true,
      branches: 3,
      liveBranches: 0,
    })
    expect([0, 1].map((id) => recording.tokensOf(id))).toEqual([4, 5])
  })

  it('leaves out what comes for a stopped branch and those below it', () => {
    const recording = record(...begun)
    recording.stopBranch(450, 1)
    recording.add(500, { type: 'delta', seq: 5, branch: 1, text: 'late' })
    recording.add(500, { type: 'delta', seq: 6, branch: 2, text: 'late' })
    recording.add(500, { type: 'fork', seq: 7, branch: 3, parent: 1, at: 1 })
    recording.add(500, { type: 'delta', seq: 8, branch: 3, text: 'late' })
    recording.add(600, { type: 'delta', seq: 9, branch: 0, text: 'c' })
    expect(recording.text()).toBe('aXbc')
    expect(recording.figures()).toMatchObject({ branches: 3, liveBranches: 1 })
    expect(recording.times.get(2)?.endMs).toBe(450)
  })

  it('is the same again from its events', () => {
    const recording = record(...begun, { type: 'done', reason: 'stop', usage })
    const again = new Recording(recording.events)
    expect([again.text(), again.times, again.figures()]).toEqual([
      recording.text(),
      recording.times,
      recording.figures(),
    ])
  })
})

describe('a request', () => {
  const tree = { conversation: 'c', parent: null, created: 0 }
  const prompt = (text: string): Message => ({ ...tree, id: text, role: 'user', text })
  const answer = (...texts: string[]): Message => {
    const { events } = record(...texts.map((text) => ({ type: 'delta', branch: 0, text })))
    const state = { state: 'complete', elapsed_ms: 1, after: 1, events } as const
    return {
      ...tree,
      id: 'x',
      role: 'assistant',
      recorded: { model: 'demo', parallel: true, started: 0, ...state },
    }
  }

  it('has all turns, the system prompt first, and only the settings that are given', () => {
    const path = [prompt('one'), answer('first'), prompt('two')]
    expect(requestFor(path, { parallel: false, system: 'Be short.', temperature: 0 }, 'demo')).toEqual({
      model: 'demo',
      messages: [
        { role: 'system', content: 'Be short.' },
        { role: 'user', content: 'one' },
        { role: 'assistant', content: 'first' },
        { role: 'user', content: 'two' },
      ],
      branching: { enabled: false },
      temperature: 0,
    })
  })

  it('leaves out an answer without text, and joins the prompts around it: templates want turns to alternate', () => {
    const { messages } = requestFor([prompt('one'), answer(), prompt('two')], { parallel: true }, 'demo')
    expect(messages).toEqual([{ role: 'user', content: 'one\n\ntwo' }])
  })
})
