import { describe, expect, it } from 'vitest'
import { wholePart } from '../../training/data/extract/whole-part.ts'

const ITEMS = [
  'Sleep: Go to bed at the same time each night.',
  'Food: Eat vegetables that you like.',
  'Sport: Walk to work when it does not rain.',
  'Friends: Call one of them each week.',
  'Sun: Sit outside at noon for a while.',
  'Water: Drink a glass before each meal.',
  'Books: Read a page before the light goes out.',
  'Music: Sing where nobody can hear it.',
  'Garden: Pull a weed whenever you pass one.',
]

function list(items: readonly string[]): string {
  return ['Here are some ways to be well:', '', ...items.map((item, index) => `${index + 1}. ${item}`)].join(
    '\n',
  )
}

describe('the whole part of an answer that was cut off', () => {
  it('ends before the item whose title was there before', () => {
    const again = [...ITEMS.slice(0, 4), 'Sleep: Buy a better bed.', 'Food: Cook on Sundays.']
    expect(wholePart(list(again))).toBe(list(ITEMS.slice(0, 4)))
  })

  it('ends before the item whose detail was there before, whatever its case and marks', () => {
    const again = [...ITEMS.slice(0, 3), 'Walks: walk to work, when it does not rain!', ITEMS[4] ?? '']
    expect(wholePart(list(again))).toBe(list(ITEMS.slice(0, 3)))
  })

  it('ends behind the eighth item of a list', () => {
    expect(wholePart(list(ITEMS))).toBe(list(ITEMS.slice(0, 8)))
    const sections = `# Body\n\n${list(ITEMS.slice(0, 5))}\n\n# Mind\n\n1. Rest: Do nothing for an hour.`
    expect(wholePart(sections)).toBe(sections)
  })

  it('ends before the sentence that was there before, or that begins like two others', () => {
    const first =
      'The lighthouse stands on a rock that the sea has worn smooth. Nobody has lived there since the war.'
    const second = 'Boats pass it at night. The old keeper once painted the door red.'
    expect(wholePart(`${first}\n\n${second} Nobody has lived there since the war. It`)).toBe(
      `${first}\n\n${second}`,
    )
    const alike = ['a gull', 'a seal', 'a whale'].map(
      (what) => `Sometimes one can also see ${what} from there.`,
    )
    expect(wholePart(`${first} ${alike.join(' ')}`)).toBe(`${first} ${alike.slice(0, 2).join(' ')}`)
  })

  it('ends behind the last whole sentence, not with a title, an introduction or half a sentence', () => {
    const whole = list(ITEMS.slice(0, 3))
    expect(wholePart(`${whole}\n4. Friends: Call one of`)).toBe(whole)
    expect(wholePart(`${whole}\n4. Friends:`)).toBe(whole)
    expect(wholePart(`${whole}\n\n## More\n\nAlso think of these:\n`)).toBe(whole)
    expect(wholePart(`${whole} It is cheap. And if you`)).toBe(`${whole} It is cheap.`)
  })

  it('is nothing when little is left, or when there is code', () => {
    expect(wholePart('')).toBeUndefined()
    expect(wholePart('It is always so. '.repeat(20))).toBeUndefined()
    expect(wholePart(`${list(ITEMS.slice(0, 4))}\n\n\`\`\`sh\nmake`)).toBeUndefined()
  })

  it('is found in a long answer without an end', () => {
    expect(wholePart(Array.from({ length: 60_000 }, () => 'on and on').join(', '))).toBeUndefined()
  })
})
