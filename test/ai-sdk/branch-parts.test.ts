import { createUIMessageStream, readUIMessageStream, streamText, type UIMessage } from 'ai'
import { expect, test } from 'vitest'
import { type AparDataParts, branchesOf, branchParts } from '../../ai-sdk/index.ts'
import {
  accepted,
  branchEnd,
  delta,
  FORKED,
  FORKED_TEXT,
  fakeEdge,
  finish,
  fork,
  usage,
} from './fake-edge.ts'

type Message = UIMessage<unknown, AparDataParts>

/** What a page shows, after each chunk that it got; and how many characters came. */
async function shown(chunks: readonly object[]): Promise<{ messages: Message[]; size: number }> {
  const { apar } = fakeEdge(chunks)
  const stream = createUIMessageStream<Message>({
    execute({ writer }) {
      const result = streamText({ model: apar('demo'), prompt: 'hi', includeRawChunks: true })
      writer.merge(result.toUIMessageStream())
      writer.merge(branchParts(result.fullStream))
    },
  })
  let size = 0
  const counted = stream.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        size += JSON.stringify(chunk).length
        controller.enqueue(chunk)
      },
    }),
  )
  const messages: Message[] = []
  for await (const message of readUIMessageStream<Message>({ stream: counted }))
    messages.push(structuredClone(message))
  return { messages, size }
}

const textOf = (message: Message | undefined) =>
  message?.parts.map((part) => (part.type === 'text' ? part.text : '')).join('')

test('a message has its text in document order, and its branches', async () => {
  const { messages } = await shown(FORKED)
  const last = messages.at(-1)
  expect(textOf(last)).toBe(FORKED_TEXT)
  expect(branchesOf(last ?? { parts: [] })).toMatchObject([
    { branch: 0, parent: null, at: 0, text: 'List:\n1. tar\n2. gzip', reason: 'stop' },
    { branch: 1, parent: 0, at: 12, text: ': packs files', reason: 'stop' },
    { branch: 2, parent: 0, at: 20, text: ': shrinks', reason: 'length' },
  ])
})

test('branches are there before the text that comes before theirs', async () => {
  const { messages } = await shown(FORKED)
  const ahead = messages.filter((message) => {
    const text = branchesOf(message).find(({ branch }) => branch === 2)?.text ?? ''
    return text !== '' && !textOf(message)?.includes(text)
  })
  expect(ahead.length).toBeGreaterThan(0)
})

test('an answer that does not fork has no branches', async () => {
  const { messages } = await shown([accepted, delta(0, 'yes'), branchEnd(0), finish('stop'), usage])
  expect(textOf(messages.at(-1))).toBe('yes')
  expect(messages.flatMap(branchesOf)).toEqual([])
})

test('a long branch costs in proportion to its length', async () => {
  const answer = (words: number) => [
    ...[accepted, delta(0, '1.'), fork(1, 0, 2), branchEnd(0)],
    ...Array.from({ length: words }, (_, index) => delta(1, ` word${index % 10}`)),
    ...[branchEnd(1), finish('stop'), usage],
  ]
  const [short, long] = [await shown(answer(40)), await shown(answer(320))]
  expect(branchesOf(long.messages.at(-1) ?? { parts: [] })[1]?.text).toHaveLength(320 * 6)
  expect(long.size / short.size).toBeLessThan(9)
})
