import { describe, expect, test } from 'vitest'
import { Conversation } from '../../../cli/chat/conversation.ts'
import { AparError } from '../../../shared/errors.ts'
import type { ChatMessage } from '../../../shared/protocol/request.ts'

/** A model whose context has room for so many messages; it answers with how many it got. */
function model(room: number) {
  const asked: ChatMessage[][] = []
  const ask = async (messages: readonly ChatMessage[]) => {
    asked.push([...messages])
    if (messages.length > room) throw new AparError('context_length_exceeded', 'too long')
    return `${messages.length}`
  }
  return { asked, ask }
}

const contents = (messages: readonly ChatMessage[] = []) => messages.map(({ content }) => content)

describe('a conversation', () => {
  test('goes on from its earlier messages, with the instructions of the moment', async () => {
    const { asked, ask } = model(9)
    const conversation = new Conversation()
    await conversation.ask('a', ask, () => {})
    conversation.system = 'be short'
    await conversation.ask('b', ask, () => {})
    expect(contents(asked.at(-1))).toEqual(['be short', 'a', '1', 'b'])
  })

  test('that is too long loses its oldest messages, and says how many', async () => {
    const { asked, ask } = model(4)
    const conversation = new Conversation()
    conversation.system = 's'
    const leftOut: number[] = []
    for (const question of ['a', 'b', 'c'])
      await conversation.ask(question, ask, (count) => leftOut.push(count))
    expect(contents(asked.at(-1))).toEqual(['s', 'b', '2', 'c'].with(2, '4'))
    expect(leftOut).toEqual([2])
    await conversation.ask('d', ask, (count) => leftOut.push(count))
    expect(contents(asked.at(-1))).toEqual(['s', 'c', '4', 'd'])
  })

  test('does not keep a question without an answer', async () => {
    const conversation = new Conversation()
    const { ask } = model(0)
    await expect(conversation.ask('far too long', ask, () => {})).rejects.toThrow('too long')
    await conversation.ask(
      'cancelled',
      async () => undefined,
      () => {},
    )
    expect(conversation.isEmpty).toBe(true)
    expect(conversation.takeBack()).toBeUndefined()
  })

  test('asks the last question again', async () => {
    const { asked, ask } = model(9)
    const conversation = new Conversation()
    await conversation.ask('a', ask, () => {})
    await conversation.ask('b', ask, () => {})
    const again = conversation.takeBack()
    expect(again).toBe('b')
    await conversation.ask(again ?? '', ask, () => {})
    expect(contents(asked.at(-1))).toEqual(['a', '1', 'b'])
  })
})
