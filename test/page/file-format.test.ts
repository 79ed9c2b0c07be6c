import { describe, expect, it } from 'vitest'
import { Recording, type TimedEvent } from '../../edge/web/answer/recording.ts'
import type { Conversation, Message } from '../../edge/web/history/conversation.ts'
import { openFile } from '../../edge/web/history/open-file.ts'
import { toJson, toMarkdown, toTrace } from '../../edge/web/history/transfer.ts'

const conversation: Conversation = {
  id: 'c',
  title: 'Tools',
  created: 1,
  updated: 2,
  settings: { parallel: true, temperature: 0.5 },
  leaf: 'a',
}
const usage = {
  prompt_tokens: 1,
  cached_prompt_tokens: 0,
  completion_tokens: 2,
  total_tokens: 3,
  branches: [],
}
const messages: Message[] = [
  { id: 'p', conversation: 'c', parent: null, created: 1, role: 'user', text: 'Hi' },
  {
    id: 'a',
    conversation: 'c',
    parent: 'p',
    created: 2,
    role: 'assistant',
    recorded: {
      model: 'demo',
      parallel: true,
      started: 1,
      state: 'running',
      elapsed_ms: 30,
      after: 2,
      events: [
        [
          10,
          { type: 'accepted', seq: 0, version: 1, stream: 's', model: 'demo', joints: 'kept', created: 1 },
        ],
        [20, { type: 'delta', seq: 1, branch: 0, text: 'Hello' }],
        [30, { type: 'done', seq: 2, reason: 'stop', usage }],
      ],
    },
  },
]

const opened = (text: string) => openFile('a.json', new Blob([text]))

describe('the file of a conversation', () => {
  it('is read as it was written, with new ids; an answer that ran is stopped', async () => {
    const read = await opened(toJson(conversation, messages))
    const [prompt, answer] = read.messages
    expect(read.conversation).toMatchObject({
      title: 'Tools',
      settings: conversation.settings,
      leaf: answer?.id,
    })
    expect(read.conversation.id).not.toBe('c')
    expect(prompt).toEqual({ ...messages[0], id: prompt?.id, conversation: read.conversation.id })
    expect(answer?.parent).toBe(prompt?.id)
    const recorded = messages[1]?.role === 'assistant' && messages[1].recorded
    expect(answer).toMatchObject({ role: 'assistant', recorded: { ...recorded, state: 'stopped' } })
  })

  it('is Markdown for people', () => {
    expect(toMarkdown(conversation, messages)).toBe('# Tools\n\n## You\n\nHi\n\n## demo\n\nHello\n')
  })

  it('keeps reasoning, that of branches too', async () => {
    const [prompt, answer] = messages
    if (!prompt || answer?.role !== 'assistant') throw new Error('no answer')
    const [accepted, ...rest] = answer.recorded.events
    if (!accepted) throw new Error('no events')
    const thought: TimedEvent[] = [
      [11, { type: 'reasoning', seq: 1, branch: 0, text: 'Hm.' }],
      [12, { type: 'fork', seq: 2, branch: 1, parent: 0, at: 0, reasoning_at: 3 }],
      [13, { type: 'reasoning', seq: 3, branch: 1, text: ' Why?' }],
    ]
    const events = [accepted, ...thought, ...rest]
    const read = await opened(
      toJson(conversation, [prompt, { ...answer, recorded: { ...answer.recorded, events } }]),
    )
    const again = read.messages[1]
    expect(again?.role === 'assistant' && new Recording(again.recorded.events).reasoning()).toBe('Hm. Why?')
  })

  it('may have one answer and its prompt only', async () => {
    const [prompt, answer] = messages
    if (!prompt || answer?.role !== 'assistant') throw new Error('no answer')
    const later: Message[] = [
      { id: 'p0', conversation: 'c', parent: null, created: 0, role: 'user', text: 'Before' },
      { ...prompt, parent: 'p0' },
      answer,
    ]
    const read = await opened(toTrace(answer, later))
    expect(read.conversation).toMatchObject({ title: 'Hi', settings: { parallel: true, model: 'demo' } })
    expect(read.messages.map(({ role }) => role)).toEqual(['user', 'assistant'])
    expect(read.messages[0]?.parent).toBe(null)
    expect(read.conversation.leaf).toBe(read.messages[1]?.id)
  })

  const broken = (change: (file: { messages: { recorded: { events: unknown[] } }[] }) => void) => {
    const file = JSON.parse(toJson(conversation, messages))
    change(file)
    return JSON.stringify(file)
  }
  it.each([
    ['not JSON', '{', /not JSON/],
    ['another file', '{"a":1}', /neither a conversation nor a trace/],
    ['a list', '[]', /neither a conversation nor a trace/],
    ['a newer version', JSON.stringify({ format: 'apar-conversation', version: 2 }), /newer apar/],
    [
      'a message without its field',
      toJson(conversation, messages).replace('"text": "Hi"', '"x": 1'),
      /messages\.0\.text/,
    ],
    [
      'an unknown event',
      broken(({ messages: [, a] }) => a?.recorded.events.push([1, { type: 'x', seq: 3 }])),
      /events\.3/,
    ],
    [
      'an event of Object',
      broken(({ messages: [, a] }) => a?.recorded.events.push([1, { type: 'toString', seq: 3 }])),
      /events\.3/,
    ],
    [
      'usage without branches',
      toJson(conversation, messages).replace('"branches": []', '"x": 1'),
      /events\.2/,
    ],
    [
      'a branch that forks twice',
      broken(({ messages: [, a] }) => {
        for (const seq of [3, 4])
          a?.recorded.events.splice(2, 0, [1, { type: 'fork', seq, branch: 1, parent: 0, at: 0 }])
      }),
      /contradict/,
    ],
    [
      'text of an unknown branch',
      broken(({ messages: [, a] }) =>
        a?.recorded.events.push([1, { type: 'delta', seq: 3, branch: 7, text: 'x' }]),
      ),
      /contradict/,
    ],
    [
      'a fork of reasoning at no number',
      broken(({ messages: [, a] }) =>
        a?.recorded.events.push([
          1,
          { type: 'fork', seq: 3, branch: 1, parent: 0, at: 0, reasoning_at: 'x' },
        ]),
      ),
      /events\.3/,
    ],
  ])('is refused: %s', async (_, text, message) => {
    await expect(opened(text)).rejects.toThrow(message)
  })
})
