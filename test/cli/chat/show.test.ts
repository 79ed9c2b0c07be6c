import { stripVTControlCharacters } from 'node:util'
import { describe, expect, test } from 'vitest'
import type { Terminal } from '../../../cli/chat/screen.ts'
import { type Look, showBranches, showOrdered } from '../../../cli/chat/show.ts'
import { thinkingLines } from '../../../cli/chat/thoughts.ts'
import { BranchTree } from '../../../shared/branch-tree.ts'
import type { StreamEvent } from '../../../shared/protocol/events.ts'

const usage = {
  ...{ prompt_tokens: 1, cached_prompt_tokens: 0, completion_tokens: 9, total_tokens: 10 },
  branches: [],
}
const EVENTS = [
  { type: 'accepted', version: 1, stream: 's', model: 'm', joints: 'kept', created: 1 },
  { type: 'reasoning', branch: 0, text: 'Two and two:' },
  { type: 'reasoning', branch: 0, text: '\nlet me \u001b[31msee.' },
  { type: 'delta', branch: 0, text: 'It is' },
  { type: 'delta', branch: 0, text: ' four.' },
  { type: 'branch_end', branch: 0, reason: 'stop' },
  { type: 'done', reason: 'stop', usage },
].map((event, seq) => ({ seq, ...event }) as StreamEvent)

function streamOf(events: readonly StreamEvent[]) {
  const tree = new BranchTree()
  return {
    tree,
    async *[Symbol.asyncIterator]() {
      for (const event of events) {
        tree.apply(event)
        yield event
      }
    },
  }
}

class Screen implements Terminal {
  text = ''
  readonly columns = 40
  readonly rows = 10
  readonly #colours: boolean

  constructor(colours: boolean) {
    this.#colours = colours
  }

  write(text: string): void {
    this.text += text
  }

  hasColors(): boolean {
    return this.#colours
  }
}

const THOUGHT = 'Thinking:\nTwo and two:\nlet me see.\n\nIt is four.\n'

describe('an answer with reasoning', () => {
  const ordered = async (look: Look, colours = false) => {
    const screen = new Screen(colours)
    const answer = await showOrdered(streamOf(EVENTS), screen, look)
    return { answer, text: screen.text }
  }

  test('has it in front of the text, dimmed where there are colours', async () => {
    const plain = await ordered({ clean: true, showsReasoning: true })
    expect(plain.text).toBe(THOUGHT)
    const { text } = await ordered({ clean: true, showsReasoning: true }, true)
    expect(stripVTControlCharacters(text)).toBe(THOUGHT)
    expect(text).toContain('\u001b[2mThinking:\nTwo and two:\u001b[22m')
    expect(text).toMatch(/\n\nIt is four\.\n$/)
  })

  test('has the text alone where reasoning is hidden, and returns both', async () => {
    const { answer, text } = await ordered({ clean: true, showsReasoning: false })
    expect(text).toBe('It is four.\n')
    expect(answer).toMatchObject({
      text: 'It is four.',
      reasoning: 'Two and two:\nlet me \u001b[31msee.',
      done: { reason: 'stop' },
    })
  })

  test.each([
    [true, THOUGHT],
    [false, 'It is four.\n'],
  ])('is drawn while the model thinks, and stays or goes: %s', async (showsReasoning, left) => {
    const screen = new Screen(false)
    await showBranches(streamOf(EVENTS), screen, { showsReasoning })
    // The first drawing is of the first event: redraws are limited, and the last one shows the answer.
    expect(screen.text.slice(screen.text.lastIndexOf('\u001b[0J') + 4)).toBe(left)
  })
})

test('the thoughts of the moment are as many lines as there is room for', () => {
  expect(thinkingLines('one\ntwo\nthree', 20, 3)).toEqual(['Thinking …', 'two', 'three'])
  expect(thinkingLines('abcdefgh', 5, 9)).toEqual(['Thinking …', 'abcd', 'efgh'])
  expect(thinkingLines('', 20, 9)).toEqual(['Thinking …'])
})
