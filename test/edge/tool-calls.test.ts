import { describe, expect, it } from 'vitest'
import { BlockEvents } from '../../edge/anthropic/blocks.ts'
import { Choice } from '../../edge/streams/http/choice.ts'
import type { AcceptedEvent, DoneEvent, StreamEvent } from '../../shared/protocol/events.ts'

const accepted: AcceptedEvent = {
  ...{ type: 'accepted', seq: 0, version: 1, stream: 's', model: 'm', joints: 'kept', created: 0 },
}
const text = (content: string): StreamEvent => ({ type: 'delta', seq: 1, branch: 0, text: content })
const begin = { type: 'tool_call', seq: 2, call: 0, call_id: 'a', name: 'f' } as const
const more = (content: string) => ({ type: 'tool_arguments', seq: 3, call: 0, text: content }) as const
const usage = {
  ...{ prompt_tokens: 1, cached_prompt_tokens: 0, completion_tokens: 1, total_tokens: 2, branches: [] },
}
const done = (reason: DoneEvent['reason']): StreamEvent => ({ type: 'done', seq: 9, reason, usage })

describe('a choice with calls', () => {
  it('gives the text in front of a call before it, also what could have been a stop string', () => {
    const choice = new Choice(accepted, ['STOP'])
    expect(choice.push(text('a ST'))).toMatchObject({ text: 'a ', call: undefined })
    expect(choice.push(begin)).toMatchObject({ text: 'ST', call: { name: 'f' } })
    expect(choice.push(more('{"a": "STOP"}'))).toMatchObject({ text: '', call: { text: '{"a": "STOP"}' } })
    choice.push(done('stop'))
    expect(choice.calls).toEqual([{ id: 'a', name: 'f', arguments: '{"a": "STOP"}' }])
    expect([choice.finishReason, choice.stop]).toEqual(['tool_calls', undefined])
  })

  it('ends by length within a call', () => {
    const choice = new Choice(accepted, [])
    for (const event of [begin, more('{"a'), done('length')]) choice.push(event)
    expect([choice.finishReason, choice.calls[0]?.arguments]).toEqual(['length', '{"a'])
  })
})

it('blocks of a message follow each other', () => {
  const blocks = new BlockEvents('s', true)
  const events = [
    ...blocks.of('x'),
    ...blocks.of('y'),
    ...blocks.of(begin),
    ...blocks.of(more('{}')),
    ...blocks.of({ ...begin, call: 1, call_id: 'b' }),
    ...blocks.end(),
  ]
  const types = events.map((event) => `${Reflect.get(event, 'type')} ${Reflect.get(event, 'index')}`)
  expect(types).toEqual([
    ...['content_block_start 0', 'content_block_delta 0', 'content_block_delta 0', 'content_block_stop 0'],
    ...['content_block_start 1', 'content_block_delta 1', 'content_block_stop 1'],
    ...['content_block_start 2', 'content_block_stop 2'],
  ])
  expect([...new BlockEvents('s', true).end()]).toMatchObject([
    { type: 'content_block_start', content_block: { type: 'text', text: '' } },
    { type: 'content_block_stop' },
  ])
})
